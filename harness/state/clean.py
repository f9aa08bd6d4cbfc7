"""What lies in an output directory that its current matrix does not need."""

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.state.records import FrozenMatrix
from harness.state.store import QUARANTINE, RUN, RunStore, read_run
from trainers.common import scores_schema
from trainers.common.training_schema import CHECKPOINTS, EXAMPLE_PARTS, SNAPSHOTS


@dataclass(frozen=True)
class Leftover:
    """A file or folder that can go, its size in bytes, and why."""

    path: Path
    size: int
    why: str


def leftovers(output: Path, frozen: FrozenMatrix) -> list[Leftover]:
    """Everything under `output` that the matrix of `frozen` (matrix.json) does not need.

    Kept: its runs, the reference, shared scores and data that one of its runs names, the report, logs, and whatever this
    project does not write.
    """
    found: list[Leftover] = []
    for path, why in _unneeded(output, frozen, [output / "runs" / run_id for run_id in frozen.runs]):
        if path.exists() and not any(path.is_relative_to(other.path) for other in found):
            size = sum(entry.stat().st_size for entry in (path, *path.rglob("*")) if entry.is_file())
            found.append(Leftover(path, size, why))
    return sorted(found, key=lambda leftover: leftover.path)


def _unneeded(output: Path, frozen: FrozenMatrix, runs: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Paths that may be there, and why they can go."""
    for path in _entries(output / "runs"):
        if path not in runs and (path / RUN).is_file():
            yield path, "run no longer in the matrix"
    yield from _unused_shared(output, runs)
    evaluation = frozen.config["evaluation"]
    benchmarks = {one["name"] for one in evaluation["benchmarks"]} | {one["task"] for one in evaluation["lm_eval"]}
    judged = {f"{b}@{judge['name']}" for b in benchmarks for judge in evaluation.get("judges", [])}
    yield output / "shared" / "judged", "checksums of an earlier version"
    for path in _results(output / "comparisons"):
        if path.stem not in judged:
            yield path, "judge no longer in the matrix"
    kept = [path for run in runs for path in _entries(run / SNAPSHOTS)]
    for directory in [*runs, *kept, output / scores_schema.REFERENCE]:
        for path in [*_results(directory / scores_schema.GENERATIONS), *_results(directory / scores_schema.SCORES)]:
            if path.stem not in benchmarks | judged and path.name != scores_schema.ENGINE_RECORD:
                yield path, "benchmark or judge no longer in the matrix"
        yield directory / QUARANTINE, "quarantined files"
        if "train" in RunStore(directory).status().stages:
            yield directory / CHECKPOINTS, "needed by unfinished runs only"
            yield directory / EXAMPLE_PARTS, "needed by unfinished runs only"
    yield output / QUARANTINE, "quarantined files"
    for path in temporary(output):
        yield path, "partial file of a killed process"


def _unused_shared(output: Path, runs: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Shared files of other weights or other pairs than those of the runs; all are kept while a run is not known."""
    records = [record for run in runs if (record := read_run(run)) and record.model and record.data]
    if len(records) < len(runs):
        return
    weights = {sha for r in records if r.model for sha in (r.model.weights_hash, r.model.reference_hash)}
    for path in _entries(output / "shared" / "reference"):
        identity = scores_schema.read_json(path / "identity.json")
        if identity and identity.get("weights") not in weights:
            yield path, "reference scores of a model no longer in the matrix"
    pairs = {f"train_pairs-{record.data.content_hash[:16]}.jsonl" for record in records if record.data}
    for path in sorted(output.glob("train_pairs-*.jsonl")):
        if path.name not in pairs:
            yield path, "training pairs no longer in the matrix"


#: Names this project gives to files it has not finished: `.<name>.<pid>.tmp`, `<name>.<pid>.tmp`, `<name>.parquet.tmp`,
#: `part-<step>.tmp`, `.policy.tmp`, and tempfile's `.<name>.<8 letters>`.
_TEMPORARY = re.compile(
    r"\..+\.tmp|.+\.\d+\.tmp|.+\.parquet\.tmp|part-\d+\.tmp|\..+\.(csv|html|json|jsonl|md|parquet|png|svg)\.[a-z0-9_]{8}"
)


def temporary(output: Path) -> list[Path]:
    """Files and folders that a killed process left half-written. Whoever holds the lock of `output` may remove them."""
    found: list[Path] = []
    for folder, folders, files in os.walk(output):
        found += [Path(folder, name) for name in [*folders, *files] if _TEMPORARY.fullmatch(name)]
        folders[:] = [name for name in folders if not _TEMPORARY.fullmatch(name)]
    return found


def remove_path(path: Path) -> None:
    """Remove a file or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _results(folder: Path) -> list[Path]:
    """Files of rows and scores."""
    return sorted(path for path in folder.glob("[!.]*") if path.suffix in (".json", ".jsonl"))
