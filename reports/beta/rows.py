"""Example rows of a run as plain arrays: the columns that are needed and there, in order of step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
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
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            there = set(file.schema_arrow.names)
            absent = [name for name in ("step", "dynamic_beta") if name not in there]
            if absent:
                raise ReportError(f"{path}: column {absent[0]!r} is missing; rerun this run's training")
            wanted = [c for c in (*NUMBERS, "example_id", "mask", "beta_fallback") if c in there]
            table = file.read(columns=wanted)
        numbers = {
            name: pc.cast(table[name], pa.float64()).to_numpy(zero_copy_only=False) for name in NUMBERS if name in there
        }
        flags = {
            name: table[name].fill_null(False).to_numpy(zero_copy_only=False).astype(bool)
            for name in ("mask", "beta_fallback")
            if name in there
        }
        example = np.arange(table.num_rows)
        if "example_id" in there:
            codes = table["example_id"].combine_chunks().dictionary_encode().indices
            example = codes.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
            if "chosen_tokens" in numbers:  # KTO's two answers to a prompt share its id and are two examples
                example = 2 * example + np.isnan(numbers["chosen_tokens"])
    except (OSError, pa.ArrowException, ValueError, TypeError) as error:
        if isinstance(error, ReportError):
            raise
        raise ReportError(f"{path}: not a readable parquet file ({error}); rerun this run's training") from error
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
