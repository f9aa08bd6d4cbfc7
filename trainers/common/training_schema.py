"""File names, columns and units of what a training run writes. Imports nothing heavy.

A run directory holds `log_history.json` ({run_id: [records]}), `example_metrics.parquet` (one row per example and
step) and `policy/` (a checkpoint that vLLM and transformers load). Log-probabilities are natural-log sums over the
completion's tokens; perplexities are per token; times are seconds; memory is bytes. Under KTO each answer of a pair is an
example of its own: two rows share the pair's `example_id`, and the columns of the other answer, with `delta`, are null.
"""

from pathlib import Path

SCHEMA_VERSION = 1

LOG_HISTORY = "log_history.json"
EXAMPLE_METRICS = "example_metrics.parquet"
EXAMPLE_PARTS = "example_metrics.parts"
POLICY_DIR = "policy"
ADAPTER_DIR = "adapter"
MODEL_CARD = "README.md"
BETA_HEAD = "beta_head.safetensors"
BETA_PROBE = "beta_probe.parquet"
CHECKPOINTS = "checkpoints"
TRAIN_RESULT = "train_result.json"
#: `snapshots/step-<n>/`: the policy after n optimiser steps, its record, and later its generations and scores.
SNAPSHOTS = "snapshots"
SNAPSHOT_RECORD = "snapshot.json"

INT_COLUMNS = ("step", "prompt_tokens", "chosen_tokens", "rejected_tokens")
FLOAT_COLUMNS = (
    "prompt_perplexity",
    "log_prompt_perplexity",
    "dynamic_beta",
    "policy_chosen_logp",
    "policy_rejected_logp",
    "ref_chosen_logp",
    "ref_rejected_logp",
    "delta",
    "loss",
    "loss_at_beta0",
    "weight",
    "gradient_weight",
)
BOOL_COLUMNS = ("mask", "beta_fallback")

#: Columns of example_metrics.parquet, in order.
EXAMPLE_COLUMNS = ("run_id", "step", "example_id", *INT_COLUMNS[1:], *FLOAT_COLUMNS, *BOOL_COLUMNS)


def snapshot_dir(run_dir: Path, step: int) -> Path:
    """Where the policy of a run after `step` optimiser steps is kept."""
    return Path(run_dir) / SNAPSHOTS / f"step-{step}"
