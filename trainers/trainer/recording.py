"""Example rows streamed to Parquet: parts while training, one file at the end; nothing lost or doubled on resume."""

import contextlib
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from trainers.common.files import replacing
from trainers.common.training_schema import (
    BOOL_COLUMNS,
    EXAMPLE_COLUMNS,
    EXAMPLE_METRICS,
    EXAMPLE_PARTS,
    FLOAT_COLUMNS,
    INT_COLUMNS,
)

#: Columns the trainer hands over, in the order of the matrix it gathers (all as float64).
NUMERIC_COLUMNS = ("example_index", *INT_COLUMNS, *FLOAT_COLUMNS, *BOOL_COLUMNS)

#: Rows kept in memory at most (about 200 bytes each).
FLUSH_ROWS = 50_000

#: Rows of a row group of the final file.
_GROUP_ROWS = 65_536

_TYPES = {
    "run_id": pa.string(),
    "example_id": pa.string(),
    **{name: pa.int32() for name in INT_COLUMNS},
    **{name: pa.float64() for name in FLOAT_COLUMNS},
    **{name: pa.bool_() for name in BOOL_COLUMNS},
}
SCHEMA = pa.schema([(name, _TYPES[name]) for name in EXAMPLE_COLUMNS])


class ExampleRecorder:
    """Keeps the rows since the last flush in memory and writes them as `example_metrics.parts/part-<last step>.parquet`.

    Args:
        run_dir: where the parts and the final file go.
        run_id: repeated in every row.
        example_ids: id of each training example by its index.
    """

    def __init__(self, run_dir: Path, run_id: str, example_ids: Sequence[str]) -> None:
        self.run_dir = Path(run_dir)
        self.run_id = run_id
        self.example_ids = list(example_ids)
        self.parts = self.run_dir / EXAMPLE_PARTS
        self._rows: list[np.ndarray] = []

    def start(self, resumed_step: int) -> None:
        """Drop rows of steps after `resumed_step` (0 for a fresh start): they are about to be trained again."""
        self._rows.clear()
        for path in self.parts.glob("*"):
            if path.suffix != ".parquet" or int(path.stem.split("-")[1]) > resumed_step:
                path.unlink()

    def add(self, rows: np.ndarray) -> None:
        """Rows (n, len(NUMERIC_COLUMNS)) of one or more steps; a repeated (step, example) keeps its first row.

        Memory is bounded: with `FLUSH_ROWS` rows waiting, a part is written without waiting for a checkpoint.
        """
        self._rows.append(rows)
        if sum(map(len, self._rows)) >= FLUSH_ROWS:
            self.flush(int(rows[:, NUMERIC_COLUMNS.index("step")].max()))

    def _table(self, rows: np.ndarray) -> pa.Table:
        columns = dict(zip(NUMERIC_COLUMNS, rows.T, strict=True))
        index = columns.pop("example_index").astype(int)
        arrays = {
            "run_id": pa.array([self.run_id] * len(index)),
            "example_id": pa.array([self.example_ids[i] for i in index]),
        }
        for name, values in columns.items():
            known = np.where(np.isnan(values), 0, values).astype(_TYPES[name].to_pandas_dtype())
            arrays[name] = pa.array(known, type=_TYPES[name], mask=np.isnan(values))
        return pa.Table.from_pydict(arrays, schema=SCHEMA)

    def flush(self, step: int) -> None:
        """Write what was added since the last flush as the part ending at `step`."""
        if not self._rows:
            return
        rows = np.concatenate(self._rows)
        self._rows.clear()
        keys = rows[:, [NUMERIC_COLUMNS.index("step"), 0]]
        _, first = np.unique(keys, axis=0, return_index=True)
        path = self.parts / f"part-{step:09d}.parquet"
        table = self._table(rows[np.sort(first)])
        if path.exists():
            table = pa.concat_tables([pq.read_table(path, schema=SCHEMA), table])
        with replacing(path) as temporary:
            pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)

    def finish(self) -> Path:
        """Merge all parts into `example_metrics.parquet`; `trainers.run.save.clean_up` removes them.

        Row groups have a fixed size, so the file's bytes do not depend on where checkpoints, stops and restarts were.
        """
        target = self.run_dir / EXAMPLE_METRICS
        paths = sorted(self.parts.glob("part-*.parquet"))
        with replacing(target) as temporary, pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as writer:
            waiting = SCHEMA.empty_table()
            for path in paths:
                waiting = pa.concat_tables(
                    [waiting, pq.read_table(path, schema=SCHEMA, page_checksum_verification=True)]
                )
                while len(waiting) >= _GROUP_ROWS:
                    writer.write_table(waiting.slice(0, _GROUP_ROWS).combine_chunks(), row_group_size=_GROUP_ROWS)
                    waiting = waiting.slice(_GROUP_ROWS)
            if len(waiting):
                writer.write_table(waiting.combine_chunks(), row_group_size=_GROUP_ROWS)
        return target


def summary(rows: np.ndarray) -> dict[str, float]:
    """Means and spreads over the rows (n, len(NUMERIC_COLUMNS)) of one log interval."""
    column = {name: rows[:, i] for i, name in enumerate(NUMERIC_COLUMNS)}
    beta, delta, nll = column["dynamic_beta"], column["delta"], column["log_prompt_perplexity"]
    known = nll[np.isfinite(nll)]
    result = {
        # NaN where no prompt has a perplexity
        "log_prompt_perplexity": known.mean() if len(known) else math.nan,
        "prompt_perplexity": np.exp(known).mean() if len(known) else math.nan,
        "dynamic_beta": beta.mean(),
        "dynamic_beta_std": beta.std(),
        "dynamic_beta_min": beta.min(),
        "dynamic_beta_max": beta.max(),
        "delta": delta.mean(),
        "delta_std": delta.std(),
        "loss_at_beta0": column["loss_at_beta0"].mean(),
        "gradient_weight": column["gradient_weight"].mean(),
    }
    return {key: float(value) for key, value in result.items()}


def tokens(rows: np.ndarray) -> float:
    """Tokens of the rows (n, len(NUMERIC_COLUMNS)) as stock TRL counts them: the prompt once with each of a row's answers."""
    start = NUMERIC_COLUMNS.index("prompt_tokens")
    prompt, answers = rows[:, start], rows[:, start + 1 : start + 3]
    return float(np.nansum(answers) + (prompt * np.isfinite(answers).sum(axis=1)).sum())


def reset_peak_memory() -> None:
    """Reset the peak, so that a run does not report that of an earlier run in the same process."""
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
