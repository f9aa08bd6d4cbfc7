"""What a training log says of the example rows since the last one, and of the process."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import torch

from trainers.recording import NUMERIC_COLUMNS


def summary(rows: np.ndarray) -> dict[str, float]:
    """Means and spreads over the rows (n, len(NUMERIC_COLUMNS)) of one log interval."""
    column = {name: rows[:, i] for i, name in enumerate(NUMERIC_COLUMNS)}
    beta, delta, nll = column["dynamic_beta"], column["delta"], column["log_prompt_perplexity"]
    known = nll[np.isfinite(nll)]
    result = {
        "dynamic_beta": beta.mean(),
        "dynamic_beta_std": beta.std(),
        "dynamic_beta_min": beta.min(),
        "dynamic_beta_max": beta.max(),
        "delta": delta.mean(),
        "delta_std": delta.std(),
        "loss_at_beta0": column["loss_at_beta0"].mean(),
        "gradient_weight": column["gradient_weight"].mean(),
    }
    if len(known):
        result["log_prompt_perplexity"] = known.mean()
        result["prompt_perplexity"] = np.exp(known).mean()
    return {key: float(value) for key, value in result.items()}


def tokens(rows: np.ndarray) -> float:
    """Tokens of the rows as stock TRL counts them: the prompt twice, and both answers."""
    start = NUMERIC_COLUMNS.index("prompt_tokens")
    return float((2 * rows[:, start] + rows[:, start + 1] + rows[:, start + 2]).sum())


def reset_peak_memory() -> None:
    """Start counting anew, so that a run does not report the peak of the run before it in the same process."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return
    with contextlib.suppress(OSError):  # only Linux has it; elsewhere the peak is the process's
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory() -> int:
    """Bytes: the GPU's allocator, or the resident set of this process, at its highest since `reset_peak_memory`."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
