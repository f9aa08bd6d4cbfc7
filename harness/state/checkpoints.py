"""Checkpoints that survive a power cut: pushed to disk, with checksums, and checked before a run resumes from them."""

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


def unusable(run_dir: Path) -> dict[Path, list[str]]:
    """Checkpoints that a run must not resume from: its files that are missing or not what was sealed; none where it has no seal.

    A kill or a power cut came while one without a seal was written: it may load, and yet not be whole.
    """
    seals = {folder: read_json(folder / SEAL) for folder in sorted((run_dir / CHECKPOINTS).glob("checkpoint-*"))}
    found = {folder: differing(run_dir, seal) if isinstance(seal, dict) else [] for folder, seal in seals.items()}
    return {folder: bad for folder, bad in found.items() if bad or not isinstance(seals[folder], dict)}
