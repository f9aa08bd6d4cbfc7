"""Scores of intermediate checkpoints: runs/<run>/snapshots/step-<N>/scores/*.json, in the schema of a run's own scores."""

from dataclasses import dataclass
from pathlib import Path

from reports.runs.records import RunData, Scores, error_text, load_tables, read_json
from reports.schema.runs import FailedCheckpoint
from trainers.common.training_schema import SNAPSHOTS


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A policy of one run at one optimiser step; `final` marks the one the run ended with."""

    step: int | None
    final: bool
    scores: dict[str, Scores]


def _folders(run: RunData) -> list[tuple[int, Path]]:
    """The checkpoints that a run kept, in order of step."""
    folders = [
        (path.name.removeprefix("step-"), path) for path in (run.path / SNAPSHOTS).glob("step-*") if path.is_dir()
    ]
    return sorted((int(step), path) for step, path in folders if step.isdigit())


def failed_checkpoints(run: RunData) -> list[FailedCheckpoint]:
    """Checkpoints of the run that could not be evaluated, in order of step.

    Raises:
        ReportError: a status.json is damaged.
    """
    statuses = [(step, read_json(path)) for step, folder in _folders(run) if (path := folder / "status.json").exists()]
    return [
        FailedCheckpoint(step=step, error=error_text(status) or "no reason is on record")
        for step, status in statuses
        if isinstance(status, dict) and status.get("state") == "failed"
    ]


def snapshots(run: RunData) -> list[Snapshot]:
    """The run's checkpoints in order of step, then its final policy. A kept checkpoint without scores has none here."""
    total = (run.status or {}).get("total_steps")
    last = None if total is None else int(total)
    # A checkpoint kept at the last step is the final policy: one point, not two.
    kept = [Snapshot(step, False, load_tables(path / "scores")) for step, path in _folders(run) if step != last]
    return [*kept, Snapshot(last, True, run.scores)]
