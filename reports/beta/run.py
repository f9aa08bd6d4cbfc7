"""Example rows of a run as plain arrays: the columns that are needed and there, in order of step."""

from __future__ import annotations

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
    """Example rows with beta in use. `columns` maps names of NUMBERS to shape (n,), absent ones are not in it.

    `example` numbers the examples, shape (n,); `recorded` counts the rows of the file, `masked` those the rule left out,
    `fallback` those whose prompt had no perplexity (None where that was not recorded).
    """

    columns: dict[str, Floats]
    example: NDArray[np.int64]
    recorded: int
    masked: int
    fallback: int | None

    @property
    def n(self) -> int:
        return int(self.example.size)

    @property
    def beta(self) -> Floats:
        return self.columns["dynamic_beta"]

    @property
    def step(self) -> Floats:
        return self.columns["step"]

    def take(self, index: NDArray[np.int64]) -> dict[str, Floats]:
        """The numbers of some rows."""
        return {name: values[index] for name, values in self.columns.items()}


def read_rows(run: RunData, most: int = MOST_ROWS) -> Rows | None:
    """Rows of example_metrics.parquet in order of step; None where there is no file.

    Only the columns that are there are read, so the files of other tools work too; `step` and `dynamic_beta` are needed.
    Rows without a finite beta are left out with the masked ones.

    Raises:
        ReportError: the file is damaged or lacks a needed column.
    """
    path = run.path / "example_metrics.parquet"
    if not path.exists():
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            there = set(file.schema_arrow.names)
            absent = [name for name in ("step", "dynamic_beta") if name not in there]
            if absent:
                raise ReportError(f"{path}: column {absent[0]!r} is missing; rerun this run's training")
            frame = file.read(columns=[c for c in (*NUMBERS, *_FLAGS, "example_id") if c in there]).to_pandas()
        numbers = {name: frame[name].to_numpy(dtype=float, na_value=np.nan) for name in NUMBERS if name in there}
        flags = {name: frame[name].eq(True).to_numpy(dtype=bool) for name in _FLAGS if name in there}
        example = pd.factorize(frame["example_id"])[0] if "example_id" in there else np.arange(len(frame))
    except ReportError:
        raise
    except (OSError, pa.ArrowException, ValueError, TypeError) as error:
        raise ReportError(f"{path}: not a readable parquet file ({error}); rerun this run's training") from error
    if "example_id" in there and "chosen_tokens" in there:  # KTO's two answers to a prompt share its id: two examples
        example = 2 * example + np.isnan(numbers["chosen_tokens"])
    keep = np.isfinite(numbers["dynamic_beta"]) & np.isfinite(numbers["step"])
    keep &= flags.get("mask", np.ones(keep.size, dtype=bool))
    used = np.flatnonzero(keep)
    if used.size > most:
        used = np.sort(np.random.default_rng(0).choice(used, most, replace=False))
    used = used[np.argsort(numbers["step"][used], kind="stable")]
    return Rows(
        {name: values[used] for name, values in numbers.items()},
        example[used],
        keep.size,
        int(keep.size - keep.sum()),
        int(flags["beta_fallback"].sum()) if "beta_fallback" in flags else None,
    )


# Everything about dynamic_beta in one run: over its example rows, and over its logged steps.


FIXED = "beta is fixed in this run: a constant has no correlation"
NO_ROWS = "the run recorded no example metrics"
NO_STEPS = "no logged step has a dynamic_beta"
#: What beta is set against; those of CONTAINS_BETA are partly algebra.
TARGETS = NUMBERS[2:]
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
    entry: RunBeta
    kept: dict[str, Floats]
    steps: dict[str, Floats]


def step_series(run: RunData) -> dict[str, Floats]:
    """Logged steps as arrays of shape (n,): `step`, `dynamic_beta` and STEP_TARGETS, NaN where a record lacks one.

    Evaluation records stand beside the last training step logged before them.
    """
    names = ("step", "dynamic_beta", *(t for t in STEP_TARGETS if not t.startswith("eval_")))
    table = {n: np.array([_number(r, n) for r in run.steps], dtype=float) for n in names}
    accuracies = np.full(len(run.steps), np.nan)
    for record in run.history:
        if np.isfinite(value := _number(record, "eval_rewards/accuracies")):
            before = np.flatnonzero(table["step"] <= _number(record, "step"))
            accuracies[before[-1:]] = value
    return table | {"eval_rewards/accuracies": accuracies}


def _number(record: Mapping[str, Any], key: str) -> float:
    value = finite(record.get(key))
    return np.nan if value is None else value


def _table(
    columns: Mapping[str, Floats], targets: tuple[str, ...], given: Mapping[str, tuple[str, ...]]
) -> list[Association]:
    held = {name: {c: columns[c] for c in of if c in columns} for name, of in given.items()}
    against = Against(columns["dynamic_beta"], columns["step"], held)
    return [
        against.row(t, columns[t], t in CONTAINS_BETA)
        for t in targets
        if t in columns and np.isfinite(columns[t]).any()
    ]


def analyse_run(run: RunData, label: str) -> Analysed:
    """The entry of one run; what is undefined is null, with `reason` (rows) and `step_reason` (steps) beside it."""
    steps = step_series(run)
    beta = steps["dynamic_beta"]
    moves = varies(beta)
    recorded: dict[str, Any] = {}
    kept: dict[str, Floats] = {}
    rows = read_rows(run)
    if rows is not None and rows.n:
        recorded = _recorded(run, rows)
        some = np.arange(rows.n)
        if rows.n > KEPT_ROWS:
            some = np.sort(np.random.default_rng(1).choice(rows.n, KEPT_ROWS, replace=False))
        kept = rows.take(some)
    nothing: dict[str, Any] = {"dynamic": moves, "reason": NO_ROWS, "rows": None, "perplexity_quantiles": []}
    entry = RunBeta(
        run_id=run.run_id,
        label=label,
        seed=run.seed,
        step_reason=None if moves else FIXED if np.isfinite(beta).any() else NO_STEPS,
        steps=_table(steps, STEP_TARGETS, STEP_GIVEN) if moves else None,
        lags=[
            lag_correlation(beta, steps[name], against=name, contains_beta=name in CONTAINS_BETA)
            for name in LAG_TARGETS
            if moves and np.isfinite(steps[name]).any()
        ],
        collapse=collapse_of(run),
        **nothing | dict.fromkeys(("examples", "null", "learned", "drift")) | recorded,
    )
    return Analysed(run, entry, kept, steps)


def _recorded(run: RunData, rows: Rows) -> dict[str, Any]:
    """The fields of a run's entry that come from its example rows."""
    counts = RowCounts(recorded=rows.recorded, used=rows.n, masked=rows.masked, fallback=rows.fallback)
    found = {"rows": counts, "perplexity_quantiles": perplexity_quantiles(rows.columns), "dynamic": varies(rows.beta)}
    if not found["dynamic"]:
        return found | {"reason": FIXED}
    columns = rows.columns
    log_ppl = columns.get("log_prompt_perplexity", np.full(rows.n, np.nan))
    learned = Learned(elasticity=elasticity(rows.beta, log_ppl, rows.example), probe=probe(run))
    return found | {
        "reason": None,
        "examples": _table(columns, TARGETS, GIVEN),
        "null": permutation_null(rows.beta, columns["delta"], rows.step) if "delta" in columns else None,
        "learned": learned,
        "drift": drift(rows.beta, rows.step),
    }
