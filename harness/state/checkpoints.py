"""Checkpoints that survive a power cut: pushed to disk, with checksums, and checked before a run resumes from them."""

from __future__ import annotations

from pathlib import Path

from harness.state.records import differing
from trainers.common import file_hash, push, read_json, write_json
from trainers.common.training_schema import CHECKPOINTS, EXAMPLE_PARTS

SEAL = "checksums.json"


def _files(folder: Path, run_dir: Path) -> list[Path]:
    """What a run needs to resume from `folder`: the checkpoint, and the example rows recorded up to it."""
    inside = [path for path in folder.rglob("*") if path.is_file() and path.name != SEAL]
    return sorted([*inside, *(run_dir / EXAMPLE_PARTS).glob("*.parquet")])


def seal(folder: Path, run_dir: Path) -> None:
    """Push a complete checkpoint to disk and write down its checksums, last."""
    files = _files(folder, run_dir)
    for path in {*files, *(path.parent for path in files)}:
        push(path)
    write_json(folder / SEAL, {str(path.relative_to(run_dir)): file_hash(path) for path in files})


def unfinished(run_dir: Path) -> list[Path]:
    """Checkpoints without a seal: a kill or a power cut came while they were written. They may load, and yet not be whole."""
    return [folder for folder in sorted((run_dir / CHECKPOINTS).glob("checkpoint-*")) if not is_sealed(folder)]


def is_sealed(folder: Path) -> bool:
    """Whether the checkpoint's checksums are known."""
    return isinstance(read_json(folder / SEAL), dict)


def damaged(run_dir: Path) -> dict[Path, list[str]]:
    """Sealed checkpoints of a run that are not what was sealed: folder -> files that are missing or differ."""
    sealed = [folder for folder in sorted((run_dir / CHECKPOINTS).glob("checkpoint-*")) if is_sealed(folder)]
    found = {folder: differing(run_dir, read_json(folder / SEAL) or {}) for folder in sealed}
    return {folder: bad for folder, bad in found.items() if bad}
