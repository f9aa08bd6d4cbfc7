"""Example rows of a run as plain arrays: the columns that are needed and there, in order of step."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.beta.associations import Against, lag_correlation
from reports.beta.cells import Floats, perplexity_quantiles
from reports.beta.learned import collapse_of, drift, elasticity, probe
from reports.beta.null import permutation_null
from reports.runs.records import ReportError, RunData, finite
from reports.schema.beta import Association, Learned, RowCounts, RunBeta
from reports.statistics.association import varies
from trainers.common.training_schema import EXAMPLE_METRICS

NUMBERS = (
    "step",
    "dynamic_beta",
    "loss",
    "delta",
    "loss_at_beta0",
    "gradient_weight",
    "log_prompt_perplexity",
    "prompt_tokens",
    "chosen_tokens",
    "rejected_tokens",
)
_FLAGS = ("mask", "beta_fallback")
#: A run with more rows is thinned at random (seeded): a correlation of 5,000 rows has a standard error of 0.014.
MOST_ROWS = 5_000


@dataclass(frozen=True, slots=True)
class Rows:
    """Example rows with beta in use, in order of step.

    `columns` maps names of NUMBERS to shape (n,), absent ones are not in it; `example` numbers the examples, shape (n,).
    """

    columns: dict[str, Floats]
    example: NDArray[np.int64]
    counts: RowCounts


def read_rows(run: RunData, most: int = MOST_ROWS) -> Rows | None:
    """Rows of example_metrics.parquet in order of step; None where there is no file.

    Only the columns that are there are read, so the files of other tools work too; `step` and `dynamic_beta` are needed.
    Rows without a finite beta are left out with the masked ones.

    Raises:
        ReportError: the file is damaged or lacks a needed column.
    """
    frame = run.examples(NUMBERS[:2], (*NUMBERS[2:], *_FLAGS, "example_id"))
    if frame is None:
        return None
    try:
        numbers = frame[[name for name in NUMBERS if name in frame]].astype(float)
    except (ValueError, TypeError) as error:
        raise ReportError(
            f"{run.path / EXAMPLE_METRICS}: a column of numbers holds something else ({error}); rerun this run's training"
        ) from error
    example = pd.factorize(frame["example_id"])[0] if "example_id" in frame else np.arange(len(frame))
    if "example_id" in frame and "chosen_tokens" in frame:  # KTO's two answers to a prompt share its id: two examples
        example = 2 * example + numbers["chosen_tokens"].isna()
    flags = {name: frame[name].eq(True) for name in _FLAGS if name in frame}
    keep = np.isfinite(numbers["dynamic_beta"]) & np.isfinite(numbers["step"]) & flags.get("mask", True)
    used = numbers.assign(example=example)[keep]
    if len(used) > most:
        used = used.iloc[np.sort(np.random.default_rng(0).choice(len(used), most, replace=False))]
    used = used.sort_values("step", kind="stable")
    counts = RowCounts(
        recorded=len(frame),
        used=len(used),
        masked=int((~keep).sum()),
        fallback=int(flags["beta_fallback"].sum()) if "beta_fallback" in flags else None,
    )
    return Rows({name: used[name].to_numpy() for name in NUMBERS if name in used}, used["example"].to_numpy(), counts)


# Everything about dynamic_beta in one run: over its example rows, and over its logged steps.


FIXED = "beta is fixed in this run: a constant has no correlation"
NO_ROWS = "the run recorded no example metrics"
NO_STEPS = "no logged step has a dynamic_beta"
_HELD_OUT = "eval_rewards/accuracies"
#: What beta is set against; those of CONTAINS_BETA are partly algebra.
TARGETS = NUMBERS[2:]
STEP_TARGETS = (
    "loss",
    "delta",
    "loss_at_beta0",
    "gradient_weight",
    "log_prompt_perplexity",
    "rewards/accuracies",
    _HELD_OUT,
    "grad_norm",
)
CONTAINS_BETA = ("loss", "gradient_weight", "grad_norm")
#: Name of each partial coefficient and what it holds constant, where it is recorded: steps have no lengths.
GIVEN: dict[str, tuple[str, ...]] = {
    "step": ("step",),
    "log_perplexity": ("log_prompt_perplexity",),
    "step_delta_length": ("step", "delta", "prompt_tokens"),
}
LAG_TARGETS = ("loss", "loss_at_beta0", "delta", "grad_norm")
#: Rows of each run that the matrix keeps, for what is pooled and for the figures.
KEPT_ROWS = 2_000


@dataclass(frozen=True, slots=True)
class Analysed:
    """`entry` goes into summary.json; `kept` (rows) and `steps` (logged series) are what the matrix goes on with."""

    entry: RunBeta
    kept: dict[str, Floats]
    steps: dict[str, Floats]


def step_series(run: RunData) -> dict[str, Floats]:
    """Logged steps as arrays of shape (n,): `step`, `dynamic_beta` and STEP_TARGETS, NaN where a record lacks one.

    Evaluation records stand beside the last training step logged before them.
    """
    names = ("step", "dynamic_beta", *(t for t in STEP_TARGETS if t != _HELD_OUT))
    table = {n: np.array([finite(r.get(n)) for r in run.steps], dtype=float) for n in names}  # None is NaN
    accuracies = np.full(len(run.steps), np.nan)
    for record in run.history:
        value, step = finite(record.get(_HELD_OUT)), finite(record.get("step"))
        if value is not None and step is not None:
            accuracies[np.flatnonzero(table["step"] <= step)[-1:]] = value
    return table | {_HELD_OUT: accuracies}


def _table(columns: Mapping[str, Floats], targets: tuple[str, ...]) -> list[Association]:
    held = {name: {c: columns[c] for c in of if c in columns} for name, of in GIVEN.items()}
    against = Against(columns["dynamic_beta"], columns["step"], held)
    return [
        against.row(t, columns[t], t in CONTAINS_BETA)
        for t in targets
        if t in columns and np.isfinite(columns[t]).any()
    ]


def analyse_run(run: RunData, label: str) -> Analysed:
    """The entry of one run; what is undefined is null, with `reason` (rows) and `step_reason` (steps) beside it."""
    steps, rows = step_series(run), read_rows(run)
    beta = steps["dynamic_beta"]
    moves = varies(beta)
    kept: dict[str, Floats] = {}
    recorded: dict[str, Any] = {"dynamic": moves, "reason": NO_ROWS, "rows": None, "perplexity_quantiles": []}
    recorded |= dict.fromkeys(("examples", "null", "learned", "drift"))
    if rows is not None and rows.counts.used:
        recorded |= _recorded(run, rows)
        kept, n = rows.columns, rows.counts.used
        if n > KEPT_ROWS:
            some = np.sort(np.random.default_rng(1).choice(n, KEPT_ROWS, replace=False))
            kept = {name: values[some] for name, values in kept.items()}
    entry = RunBeta(
        run_id=run.run_id,
        label=label,
        seed=run.seed,
        step_reason=None if moves else FIXED if np.isfinite(beta).any() else NO_STEPS,
        steps=_table(steps, STEP_TARGETS) if moves else None,
        lags=[
            lag_correlation(beta, steps[name], against=name, contains_beta=name in CONTAINS_BETA)
            for name in LAG_TARGETS
            if moves and np.isfinite(steps[name]).any()
        ],
        collapse=collapse_of(run),
        **recorded,
    )
    return Analysed(entry, kept, steps)


def _recorded(run: RunData, rows: Rows) -> dict[str, Any]:
    """The fields of a run's entry that come from its example rows."""
    columns = rows.columns
    beta, step = columns["dynamic_beta"], columns["step"]
    found = {"rows": rows.counts, "perplexity_quantiles": perplexity_quantiles(columns), "dynamic": varies(beta)}
    if not found["dynamic"]:
        return found | {"reason": FIXED}
    log_ppl = columns.get("log_prompt_perplexity", np.full(beta.size, np.nan))
    return found | {
        "reason": None,
        "examples": _table(columns, TARGETS),
        "null": permutation_null(beta, columns["delta"], step) if "delta" in columns else None,
        "learned": Learned(elasticity=elasticity(beta, log_ppl, rows.example), probe=probe(run)),
        "drift": drift(beta, step),
    }
