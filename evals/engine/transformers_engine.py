"""The engine for machines without vLLM, and the reference that vLLM's outputs are compared with."""

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from evals.engine.base import EngineConfig, EngineError, Generated, Sampling, TokenKl, Weights, choose_dtype
from evals.engine.exact_kl import Requests, exact_kl, padded
from evals.progress import batches

_BATCH = 32
#: Positions whose scores over the vocabulary are held at once when likelihoods are computed.
_SCORED_POSITIONS = 4096


def load(model_dir: Path, dtype: str, trust_remote_code: bool = False) -> Any:
    """The causal language model of a checkpoint, ready to answer; on the CPU, as transformers loads it."""
    model = AutoModelForCausalLM.from_pretrained(
        model_dir, dtype=getattr(torch, dtype), trust_remote_code=trust_remote_code
    )
    return model.eval()


@torch.inference_mode()
def score(model: Any, requests: Requests) -> list[tuple[torch.Tensor, bool]]:
    """Log-probs (nats) of each continuation after its context, shape (tokens,), and whether all its tokens are the likeliest."""
    results: list[tuple[torch.Tensor, bool]] = [(torch.empty(0), True)] * len(requests)
    lengths = [len(context) + len(continuation) for context, continuation in requests]
    order = sorted(range(len(requests)), key=lengths.__getitem__)
    start = 0
    while start < len(order):
        longest = lengths[order[min(start + _BATCH, len(order)) - 1]]
        part = order[start : start + max(1, min(_BATCH, _SCORED_POSITIONS // longest))]
        start += len(part)
        ids, mask = padded([[*requests[i][0], *requests[i][1]] for i in part], "right", model.device)
        logits = model(input_ids=ids, attention_mask=mask).logits.float()
        for k, i in enumerate(part):
            first, last = len(requests[i][0]), lengths[i]
            scores = logits[k, first - 1 : last - 1].log_softmax(-1)
            target = ids[k, first:last]
            picked = scores.gather(-1, target[:, None]).squeeze(-1)
            results[i] = (picked, bool((scores.argmax(-1) == target).all()))
    return results


class TransformersEngine:
    """`evals.engine.base.Engine` over transformers: left-padded batches and a key-value cache."""

    replicas = 1
    _model: Any
    _reference: tuple[Path, Any] | None = None  # loaded for `token_kl`, and kept: it is the same for all policies

    def __init__(self, model_dir: Path, config: EngineConfig, device: str | None = None) -> None:
        import transformers

        self._dtype = choose_dtype(config)
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.name = f"transformers {transformers.__version__} ({self._dtype})"
        self.max_model_len, self.trust_remote_code = config.max_model_len, config.trust_remote_code
        self.tokenizer: Any = AutoTokenizer.from_pretrained(model_dir, trust_remote_code=self.trust_remote_code)
        self.swap(model_dir)
        ends = self._model.generation_config.eos_token_id
        self._ends = set(ends if isinstance(ends, list) else [ends]) | {self.tokenizer.eos_token_id}

    def swap(self, model_dir: Path, adapter: Path | None = None) -> float:
        if not any(Path(model_dir).glob("*.safetensors")):
            raise EngineError(f"{model_dir} holds no *.safetensors weights")
        started = time.perf_counter()
        self._model = None
        try:
            model = load(model_dir, self._dtype, self.trust_remote_code)
        except Exception as error:  # whatever a damaged checkpoint makes the loader raise
            raise EngineError(f"weights of {model_dir} did not load: {error}") from error
        self._model = model.to(self._device)
        return time.perf_counter() - started

    def token_kl(self, requests: Requests, reference: Path, policy: Weights) -> list[TokenKl] | None:
        try:
            if self._reference is None or self._reference[0] != reference:
                self._reference = None
                model = load(reference, self._dtype, self.trust_remote_code)
                self._reference = (reference, model.to(self._device))
            return exact_kl(self._model, self._reference[1], requests)
        except torch.OutOfMemoryError:  # the device holds one model, not two
            self._reference = None
            return None

    def alive(self) -> bool:
        return True

    def close(self) -> None:
        self._model = self._reference = None

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[Generated]:
        results: dict[int, Generated] = {}
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        for part in batches(order, _BATCH):
            seeds = [sampling.seeds[i] for i in part] if sampling.seeds else None
            decoded = self._decode([prompts[i] for i in part], sampling, seeds)
            results.update(zip(part, decoded, strict=True))
        return [results[i] for i in range(len(prompts))]

    @torch.inference_mode()
    def _decode(self, prompts: list[Sequence[int]], sampling: Sampling, seeds: list[int] | None) -> list[Generated]:
        rows = len(prompts)
        ids, mask = padded(prompts, "left", self._device)
        generators = [torch.Generator(self._device).manual_seed(seed) for seed in seeds] if seeds else None
        tokens: list[list[int]] = [[] for _ in prompts]
        logprobs: list[list[float]] = [[] for _ in prompts]
        reasons = [""] * rows
        cache = None
        positions = (mask.cumsum(1) - 1).clamp_min(0)
        for _ in range(sampling.max_tokens):
            output = self._model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache = output.past_key_values
            scores = output.logits[:, -1].float().log_softmax(-1)
            picked = self._pick(scores, sampling, generators)
            for i, token in enumerate(picked.tolist()):
                if reasons[i]:
                    continue
                tokens[i].append(token)
                logprobs[i].append(float(scores[i, token]))
                text = self._text(tokens[i]) if sampling.stop else ""
                if token in self._ends or any(word in text for word in sampling.stop):
                    reasons[i] = "stop"
            if all(reasons):
                break
            ids = picked[:, None]
            mask = torch.cat([mask, mask.new_ones((rows, 1))], dim=1)
            positions = positions[:, -1:] + 1
        cut = re.compile("|".join(map(re.escape, sampling.stop)) or r"(?!)")
        return [
            Generated(cut.split(self._text(ids), maxsplit=1)[0], ids, lps, reason or "length")
            for ids, lps, reason in zip(tokens, logprobs, reasons, strict=True)
        ]

    def _text(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    @staticmethod
    def _pick(scores: torch.Tensor, sampling: Sampling, generators: list[torch.Generator] | None) -> torch.Tensor:
        if sampling.temperature == 0:
            return scores.argmax(-1)
        probabilities = (scores / sampling.temperature).softmax(-1)
        if sampling.top_p < 1:
            ordered, index = probabilities.sort(-1, descending=True)
            drop = ordered.cumsum(-1) - ordered >= sampling.top_p
            probabilities = probabilities.masked_fill(torch.zeros_like(drop).scatter(-1, index, drop), 0)
        if generators is None:
            return torch.multinomial(probabilities, 1).squeeze(-1)
        draws = [torch.multinomial(row, 1, generator=g) for row, g in zip(probabilities, generators, strict=True)]
        return torch.cat(draws)

    def loglikelihood(self, requests: Requests) -> list[tuple[float, bool]]:
        return [(float(row.sum()), greedy) for row, greedy in score(self._model, requests)]

    def token_logprobs(self, requests: Requests) -> list[list[float]]:
        return [row.tolist() for row, _ in score(self._model, requests)]
