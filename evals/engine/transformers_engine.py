"""The engine for machines without vLLM, and the reference that vLLM's outputs are compared with."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from evals.engine.base import EngineConfig, EngineError, Generated, Sampling, choose_dtype

_BATCH = 32
#: Positions whose scores over the vocabulary are held at once when likelihoods are computed.
_SCORED_POSITIONS = 4096


class TransformersEngine:
    """`evals.engine.base.Engine` over transformers: left-padded batches and a key-value cache."""

    replicas = 1
    _model: Any

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
        self._pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else 0

    def swap(self, model_dir: Path, adapter: Path | None = None) -> float:
        if not any(Path(model_dir).glob("*.safetensors")):
            raise EngineError(f"{model_dir} holds no *.safetensors weights")
        started = time.perf_counter()
        self._model = None
        try:
            model = AutoModelForCausalLM.from_pretrained(
                model_dir, dtype=getattr(torch, self._dtype), trust_remote_code=self.trust_remote_code
            )
        except Exception as error:  # whatever a damaged checkpoint makes the loader raise
            raise EngineError(f"weights of {model_dir} did not load: {error}") from error
        self._model = model.to(self._device).eval()
        return time.perf_counter() - started

    def alive(self) -> bool:
        return True

    def close(self) -> None:
        self._model = None

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[Generated]:
        results: list[Generated | None] = [None] * len(prompts)
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        for start in range(0, len(order), _BATCH):
            part = order[start : start + _BATCH]
            seeds = [sampling.seeds[i] for i in part] if sampling.seeds else None
            for i, result in zip(part, self._decode([prompts[i] for i in part], sampling, seeds), strict=True):
                results[i] = result
        return [result for result in results if result is not None]

    @torch.inference_mode()
    def _decode(self, prompts: list[Sequence[int]], sampling: Sampling, seeds: list[int] | None) -> list[Generated]:
        width = max(len(prompt) for prompt in prompts)
        rows = len(prompts)
        ids = torch.full((rows, width), self._pad, device=self._device)
        mask = torch.zeros((rows, width), dtype=torch.long, device=self._device)
        for i, prompt in enumerate(prompts):
            ids[i, width - len(prompt) :] = torch.tensor(list(prompt))
            mask[i, width - len(prompt) :] = 1
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
                if token in self._ends or (sampling.stop and self._stopped(tokens[i], sampling.stop)):
                    reasons[i] = "stop"
            if all(reasons):
                break
            ids = picked[:, None]
            mask = torch.cat([mask, mask.new_ones((rows, 1))], dim=1)
            positions = positions[:, -1:] + 1
        return [
            Generated(self._text(ids, sampling.stop), ids, lps, reason or "length")
            for ids, lps, reason in zip(tokens, logprobs, reasons, strict=True)
        ]

    def _stopped(self, ids: list[int], stop: tuple[str, ...]) -> bool:
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        return any(word in text for word in stop)

    def _text(self, ids: list[int], stop: tuple[str, ...]) -> str:
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        for word in stop:
            text = text.split(word)[0]
        return str(text)

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

    def loglikelihood(self, requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[tuple[float, bool]]:
        return [(float(row.sum()), greedy) for row, greedy in self._score(requests)]

    def token_logprobs(self, requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[list[float]]:
        return [row.tolist() for row, _ in self._score(requests)]

    @torch.inference_mode()
    def _score(self, requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[tuple[torch.Tensor, bool]]:
        """Log-probs of each continuation, shape (tokens,), and whether every token is the most likely one."""
        results: list[tuple[torch.Tensor, bool]] = [(torch.empty(0), True)] * len(requests)
        lengths = [len(context) + len(continuation) for context, continuation in requests]
        order = sorted(range(len(requests)), key=lengths.__getitem__)
        start = 0
        while start < len(order):
            longest = lengths[order[min(start + _BATCH, len(order)) - 1]]
            size = max(1, min(_BATCH, _SCORED_POSITIONS // longest))
            part = order[start : start + size]
            start += size
            rows = [[*requests[i][0], *requests[i][1]] for i in part]
            width = max(len(row) for row in rows)
            ids = torch.full((len(rows), width), self._pad, device=self._device)
            for k, row in enumerate(rows):
                ids[k, : len(row)] = torch.tensor(row)
            ends = torch.tensor([len(row) for row in rows], device=self._device)
            mask = (torch.arange(width, device=self._device)[None] < ends[:, None]).long()
            logits = self._model(input_ids=ids, attention_mask=mask).logits.float()
            for k, i in enumerate(part):
                first, last = len(requests[i][0]), len(rows[k])
                scores = logits[k, first - 1 : last - 1].log_softmax(-1)
                target = ids[k, first:last]
                picked = scores.gather(-1, target[:, None]).squeeze(-1)
                results[i] = (picked, bool((scores.argmax(-1) == target).all()))
        return results
