"""The files of many runs, written on all cores: one process for each core, each with its share of the runs."""

from __future__ import annotations

import pickle
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from reports.beta.run import Analysed
from reports.files import processes
from reports.files.metrics import write_analysed
from reports.runs.records import ReportError, RunData

#: A process takes about two seconds to start: fewer runs than this a process are not worth one.
RUNS_PER_PROCESS = 8
MOST_PROCESSES = 8


def _write(output: Path, run_ids: Sequence[str]) -> dict[str, Analysed]:
    return {run_id: write_analysed(output / "runs" / run_id)[1] for run_id in run_ids}


def write_all(output: Path, run_ids: Sequence[str]) -> dict[str, Analysed]:
    """Write the files of every run in `output`/runs; returns what `write_matrix_files` need not find again, by run id.

    Raises ReportError naming a damaged file, from whichever process met it.
    """
    count = max(1, min(processes.cores(), MOST_PROCESSES, len(run_ids) // RUNS_PER_PROCESS))
    if count == 1:
        return _write(output, run_ids)
    with tempfile.TemporaryDirectory(prefix="run-files-") as folder:
        shares = [Path(folder) / f"{number}.txt" for number in range(1, count)]
        for number, share in enumerate(shares, start=1):
            share.write_text("\n".join(run_ids[number::count]), encoding="utf-8")
        others = [processes.start("reports.files.run_files", output.absolute(), share) for share in shares]
        try:
            found = _write(output, run_ids[0::count])
            for process, share in zip(others, shares, strict=True):
                _, said = process.communicate()
                if process.returncode == 2:
                    raise ReportError(said.strip())
                if process.returncode:
                    raise RuntimeError(f"writing the files of runs ended with {process.returncode}: {said[-2000:]}")
                # The file was written by the process started above, into a folder that only this user can open.
                found |= pickle.loads(share.with_suffix(".pickle").read_bytes())
        finally:
            for process in others:
                if process.poll() is None:
                    process.kill()
                    process.communicate()
    return found


def main(arguments: Sequence[str]) -> int:
    """One share: `python -m reports.files.run_files OUTPUT LIST`; leaves the results beside the list of run ids."""
    output, share = Path(arguments[0]), Path(arguments[1])
    try:
        found = _write(output, share.read_text(encoding="utf-8").splitlines())
    except ReportError as error:
        print(error, file=sys.stderr)
        return 2
    # The logged history is long and on disk: the matrix has it already.
    light = {i: replace(a, run=RunData(i, a.run.path, None, None, (), {})) for i, a in found.items()}
    share.with_suffix(".pickle").write_bytes(pickle.dumps(light))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
