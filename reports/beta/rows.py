"""Example rows of a run as plain arrays: the columns that are needed and there, in order of step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.beta.cells import Floats
from reports.runs.records import ReportError, RunData

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
