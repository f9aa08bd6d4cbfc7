"""The files of many runs, written on all cores: one process for each core, each with its share of the runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from reports.beta.run import Analysed
from reports.files import processes
from reports.files.metrics import write_analysed
from reports.runs.records import RunData

#: A process takes about two seconds to start: fewer runs than this a process are not worth one.
RUNS_PER_PROCESS = 8
MOST_PROCESSES = 8


def write_all(output: Path, run_ids: Sequence[str]) -> dict[str, Analysed]:
    """Write the files of every run in `output`/runs; returns what `write_matrix_files` need not find again, by run id.

    Raises ReportError naming a damaged file, from whichever process met it.
    """
    count = max(1, min(processes.cores(), MOST_PROCESSES, len(run_ids) // RUNS_PER_PROCESS))
    if count == 1:
        return _write(output, run_ids)
    with processes.pool(count - 1) as pool:
        shares = [pool.submit(_write_light, output, run_ids[number::count]) for number in range(1, count)]
        found = _write(output, run_ids[0::count])
        for share in shares:
            found |= share.result()
    return found


def _write(output: Path, run_ids: Sequence[str]) -> dict[str, Analysed]:
    return {run_id: write_analysed(output / "runs" / run_id)[1] for run_id in run_ids}


def _write_light(output: Path, run_ids: Sequence[str]) -> dict[str, Analysed]:
    """Without the logged history, which is long, and which the matrix reads anyway."""
    found = _write(output, run_ids)
    return {i: replace(a, run=RunData(i, a.run.path, None, None, (), {})) for i, a in found.items()}
