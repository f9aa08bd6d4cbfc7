"""Samples for building preference pairs: K completions per prompt, each with its own seed; prompt perplexity."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from evals.engine.base import Engine, EngineConfig, Sampling
from evals.engine.chat import chat_ids, sample_seed
from evals.preferences.pairs import Completion
from evals.progress import batches

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
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[float]:
    """Mean negative log-likelihood (nats per token) of each prompt's tokens after the first, as trained on.

    The prompt is one user message under the chat template with the generation prompt; float32, transformers.
    `on_progress` is told how many of how many are done.
    """
    from transformers.utils import logging

    from evals.engine.transformers_engine import TransformersEngine

    logging.disable_progress_bar()
    engine = TransformersEngine(model_dir, EngineConfig(dtype="float32"), device="cpu")
    rows = [chat_ids(engine.tokenizer, prompt) for prompt in prompts]
    result = [0.0] * len(rows)
    done = 0
    for part in batches(sorted(range(len(rows)), key=lambda i: len(rows[i])), batch_size):
        scored = engine.token_logprobs([(rows[i][:1], rows[i][1:]) for i in part])
        done += len(part)
        for i, logprobs in zip(part, scored, strict=True):
            result[i] = -math.fsum(logprobs) / max(len(logprobs), 1)
        on_progress(done, len(rows))
    return result
