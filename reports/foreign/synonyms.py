"""Other tools' names for the columns of training_metrics.csv.

The first name of a row that a run logs is taken, for the whole run; names are matched without case, and a leading
`train/` (Weights & Biases, TensorBoard) does not count. A column that already has this project's name keeps it.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from reports.files.metrics import MEASURES
from reports.foreign.sources import number, strict, whole
from trainers.common.files import Json

#: Column -> other names, best first. `beta/mean` and `beta` are what forks of LLaMA-Factory with a beta head log,
#: `beta_dpo/beta_used` what implementations of beta-DPO on trl do; `pref_beta` is a setting that some loggers repeat.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "step": ("global_step", "current_steps", "steps", "iteration", "_step"),
    "epoch": ("epochs",),
    "examples_seen": ("counters/examples", "samples_seen"),
    "loss": ("loss/train", "train_loss"),
    "delta": ("delta/mean", "gap_mean", "gap/mean", "logratio_margin", "log_ratio_margin"),
    "delta_std": ("delta/std", "gap_std", "gap/std"),
    "dynamic_beta": (
        "dynamic_beta/mean",
        "beta/mean",
        "beta_mean",
        "mean_beta",
        "beta_dpo/beta_used",
        "beta_used",
        "rewards/beta",
        "beta",
        "pref_beta",
    ),
    "dynamic_beta_std": ("dynamic_beta/std", "beta/std", "beta_std"),
    "dynamic_beta_min": ("dynamic_beta/min", "beta/min", "beta_min"),
    "dynamic_beta_max": ("dynamic_beta/max", "beta/max", "beta_max"),
    "prompt_perplexity": ("prompt_perplexity/mean", "prompt_ppl", "ppl_prompt"),
    "log_prompt_perplexity": ("log_prompt_ppl", "prompt_log_perplexity"),
    "grad_norm": ("gradient_norm",),
    "learning_rate": ("lr",),
    "rewards/chosen": ("rewards_train/chosen", "chosen_rewards"),
    "rewards/rejected": ("rewards_train/rejected", "rejected_rewards"),
    "rewards/margins": ("rewards_train/margins", "reward_margin", "rewards/margin"),
    "rewards/accuracies": ("rewards_train/accuracies", "rewards/accuracy", "accuracy"),
    "logps/chosen": ("logps_train/chosen",),
    "logps/rejected": ("logps_train/rejected",),
    "tokens_per_second": ("throughput",),
    "step_time_s": ("step_time",),
}


#: How a column is read that is no figure.
_READ: dict[str, Callable[[Any, str, str], float | str | None]] = {
    "step": whole,
    "beta_collapse": lambda value, where, key: str(value),
}


def found_names(names: Iterable[str]) -> dict[str, str]:
    """Which logged name stands for which column: {column: logged name}."""
    seen: dict[str, str] = {}
    for name in names:
        seen.setdefault(name.strip().lower().removeprefix("train/"), name)
    taken = {
        column: seen[other]
        for column in MEASURES
        if (other := next((n for n in (column, *SYNONYMS.get(column, ())) if n in seen), None)) is not None
    }
    if "prompt_perplexity" not in taken and "perplexity" in seen and "dynamic_beta" in taken:
        # Beside a beta it is the prompt's (forks with a beta head); elsewhere `perplexity` is exp(eval_loss).
        taken["prompt_perplexity"] = seen["perplexity"]
    return taken


def columns(record: Mapping[str, Any], names: Mapping[str, str], where: str) -> Json:
    """The record with known columns under this project's names and everything else as it was logged.

    `names` is `found_names` of the whole run; `where` names file and line for the errors.

    null and NaN are what is missing (tables of dashboards fill cells so), but for a loss beside other figures: it diverged.

    Raises:
        ReportError: a known column holds something that is not a number, or the step is not a whole number.
    """
    used = set(names.values())
    out: Json = {k: strict(v) for k, v in record.items() if k not in used}
    for column, name in names.items():
        value = record.get(name)
        if value is not None and not (column == "step" and value != value):
            read = _READ.get(column, number)
            out[column] = read(record[name], where, name)
    others = [column for column in names if column not in ("step", "epoch", "examples_seen", "loss")]
    if others and all(out.get(column, "NaN") == "NaN" for column in others):
        out = {key: value for key, value in out.items() if value != "NaN"}
    return out
