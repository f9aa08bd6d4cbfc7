"""Samples for building preference pairs: K completions per prompt, each with its own seed; prompt perplexity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from evals.engine.base import Engine, Sampling
from evals.engine.chat import chat_ids, sample_seed
from evals.preferences.pairs import Completion

Sampler = Callable[[Sequence[str], int, int], list[list[Completion]]]


def make_sampler(engine: Engine, max_new_tokens: int, temperature: float, top_p: float = 1.0) -> Sampler:
    """A function (prompts, k, seed) -> k completions for each prompt, through the chat template."""

    def sampler(prompts: Sequence[str], k: int, seed: int) -> list[list[Completion]]:
        ids = [chat_ids(engine.tokenizer, prompt) for prompt in prompts]
        seeds = [sample_seed(seed, prompt, i) for prompt in prompts for i in range(k)]
        answers = engine.generate(
            [row for row in ids for _ in range(k)], Sampling(max_new_tokens, temperature, top_p, seeds=tuple(seeds))
        )
        completions = [
            Completion(text=answer.text, seed=one, n_tokens=len(answer.token_ids), finish_reason=answer.finish_reason)
            for answer, one in zip(answers, seeds, strict=True)
        ]
        return [completions[i * k : (i + 1) * k] for i in range(len(prompts))]

    return sampler


def prompt_nll(
    model_dir: Path,
    prompts: Sequence[str],
    batch_size: int = 16,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[float]:
    """Mean negative log-likelihood (nats per token) of each prompt's tokens after the first, as trained on.

    The prompt is one user message under the chat template with the generation prompt; float32, transformers.
    `on_progress` is told how many of how many are done.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer: Any = AutoTokenizer.from_pretrained(model_dir)
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    rows = [chat_ids(tokenizer, prompt) for prompt in prompts]
    result = [0.0] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            part = order[start : start + batch_size]
            width = max(len(rows[i]) for i in part)
            ids = torch.zeros((len(part), width), dtype=torch.long)
            for k, i in enumerate(part):
                ids[k, : len(rows[i])] = torch.tensor(rows[i])
            mask = torch.tensor([[1] * len(rows[i]) + [0] * (width - len(rows[i])) for i in part])
            scores = model(input_ids=ids, attention_mask=mask).logits[:, :-1].log_softmax(-1)
            picked = scores.gather(-1, ids[:, 1:, None]).squeeze(-1) * mask[:, 1:]
            for k, i in enumerate(part):
                result[i] = float(-picked[k].sum() / max(len(rows[i]) - 1, 1))
            if on_progress is not None:
                on_progress(min(start + batch_size, len(order)), len(order))
    return result
