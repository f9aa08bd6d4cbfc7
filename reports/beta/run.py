"""Everything about dynamic_beta in one run: over its example rows, and over its logged steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from reports.beta.associations import Against, lag_correlation
from reports.beta.cells import Floats
from reports.beta.curves import perplexity_quantiles
from reports.beta.drift import collapse_of, drift, edges
from reports.beta.learned import elasticity, explained
from reports.beta.null import permutation_null
from reports.beta.probe import probe
from reports.beta.rows import Rows, read_rows
from reports.runs.records import RunData, finite
from reports.statistics.association import varies

FIXED = "beta is fixed in this run: a constant has no correlation"
NO_ROWS = "the run recorded no example metrics"
NO_STEPS = "no logged step has a dynamic_beta"
#: What beta is set against; those of CONTAINS_BETA are partly algebra.
TARGETS = (
    "loss",
    "delta",
    "loss_at_beta0",
    "gradient_weight",
    "log_prompt_perplexity",
    "prompt_tokens",
    "chosen_tokens",
    "rejected_tokens",
)
STEP_TARGETS = (
    "loss",
    "delta",
    "loss_at_beta0",
    "gradient_weight",
    "log_prompt_perplexity",
    "rewards/accuracies",
    "eval_rewards/accuracies",
    "grad_norm",
)
CONTAINS_BETA = ("loss", "gradient_weight", "grad_norm")
#: Name of each partial coefficient and what it holds constant.
GIVEN: dict[str, tuple[str, ...]] = {
    "step": ("step",),
    "log_perplexity": ("log_prompt_perplexity",),
    "step_delta_length": ("step", "delta", "prompt_tokens"),
}
STEP_GIVEN: dict[str, tuple[str, ...]] = {
    "step": ("step",),
    "log_perplexity": ("log_prompt_perplexity",),
    "step_delta_length": ("step", "delta"),
}
LAG_TARGETS = ("loss", "loss_at_beta0", "delta", "grad_norm")
#: Rows of each run that the matrix keeps, for what is pooled and for the figures.
KEPT_ROWS = 2_000


@dataclass(frozen=True, slots=True)
class Analysed:
    """`entry` goes into summary.json; `kept` (rows) and `steps` (logged series) are what the matrix goes on with."""

    run: RunData
    entry: dict[str, Any]
    kept: dict[str, Floats]
    steps: dict[str, Floats]


def step_series(run: RunData) -> dict[str, Floats]:
    """Logged steps as arrays of shape (n,): `step`, `dynamic_beta` and STEP_TARGETS, NaN where a record lacks one.

    Evaluation records stand beside the last training step logged before them.
    """
    names = ("step", "dynamic_beta", *(t for t in STEP_TARGETS if not t.startswith("eval_")))
    records = run.steps
    table = {
        n: np.array([np.nan if (v := finite(r.get(n))) is None else v for r in records], dtype=float) for n in names
    }
    table["eval_rewards/accuracies"] = np.full(len(records), np.nan)
    for record in run.history:
        value, step = finite(record.get("eval_rewards/accuracies")), finite(record.get("step"))
        if value is not None and step is not None:
            before = np.flatnonzero(table["step"] <= step)
            if before.size:
                table["eval_rewards/accuracies"][before[-1]] = value
    return table


def _table(
    columns: Mapping[str, Floats], targets: tuple[str, ...], given: Mapping[str, tuple[str, ...]]
) -> list[dict[str, Any]]:
    held = {name: {c: columns[c] for c in of if c in columns} for name, of in given.items()}
    against = Against(columns["dynamic_beta"], columns["step"], held)
    return [
        against.row(t, columns[t], t in CONTAINS_BETA)
        for t in targets
        if t in columns and np.isfinite(columns[t]).any()
    ]


def _lags(steps: Mapping[str, Floats]) -> list[dict[str, Any]]:
    beta = steps["dynamic_beta"]
    return [
        {"against": name, "contains_beta": name in CONTAINS_BETA, **lag_correlation(beta, steps[name])}
        for name in LAG_TARGETS
        if np.isfinite(steps[name]).any()
    ]


def _learned(run: RunData, rows: Rows) -> dict[str, Any]:
    unknown = np.full(rows.n, np.nan)
    return {
        "elasticity": elasticity(rows.beta, rows.columns.get("log_prompt_perplexity", unknown), rows.example),
        "explained": explained(rows.columns, rows.example),
        "probe": probe(run),
    }


def analyse_run(run: RunData, label: str) -> Analysed:
    """The entry of one run; what is undefined is null, with `reason` (rows) and `step_reason` (steps) beside it."""
    steps = step_series(run)
    rows = read_rows(run)
    dynamic_steps = varies(steps["dynamic_beta"])
    entry: dict[str, Any] = {
        "run_id": run.run_id,
        "label": label,
        "seed": run.seed,
        "dynamic": dynamic_steps,
        "reason": NO_ROWS,
        "step_reason": None if dynamic_steps else FIXED if np.isfinite(steps["dynamic_beta"]).any() else NO_STEPS,
        "rows": None,
        "examples": None,
        "steps": _table(steps, STEP_TARGETS, STEP_GIVEN) if dynamic_steps else None,
        "null": None,
        "lags": _lags(steps) if dynamic_steps else [],
        "perplexity_quantiles": [],
        "learned": None,
        "drift": None,
        "bounds": None,
        "collapse": collapse_of(run),
    }
    if rows is None or not rows.n:
        return Analysed(run, entry, {}, steps)
    entry["rows"] = {"recorded": rows.recorded, "used": rows.n, "masked": rows.masked, "fallback": rows.fallback}
    entry["perplexity_quantiles"] = perplexity_quantiles(rows.columns)
    entry["dynamic"] = varies(rows.beta)
    entry["reason"] = None if entry["dynamic"] else FIXED
    if entry["dynamic"]:
        entry["examples"] = _table(rows.columns, TARGETS, GIVEN)
        if "delta" in rows.columns:
            entry["null"] = permutation_null(rows.beta, rows.columns["delta"], rows.step)
        entry["learned"] = _learned(run, rows)
        entry["drift"] = drift(rows.beta, rows.step, rows.example)
        entry["bounds"] = edges(rows.beta, run.settings)
    some = np.arange(rows.n)
    if rows.n > KEPT_ROWS:
        some = np.sort(np.random.default_rng(1).choice(rows.n, KEPT_ROWS, replace=False))
    return Analysed(run, entry, rows.take(some), steps)
