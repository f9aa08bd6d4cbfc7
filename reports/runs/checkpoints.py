"""Scores of intermediate checkpoints: runs/<run>/snapshots/step-<N>/scores/*.json, in the schema of a run's own scores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reports.runs.records import RunData, Scores, error_text, load_tables, read_json
from reports.schema.runs import FailedCheckpoint

FOLDER = "snapshots"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A policy of one run at one optimiser step; `final` marks the one the run ended with."""

    step: int | None
    final: bool
    scores: dict[str, Scores]


def _step(path: Path) -> int | None:
    number = path.name.removeprefix("step-")
    return int(number) if path.name.startswith("step-") and number.isdigit() else None


def failed_checkpoints(run: RunData) -> list[FailedCheckpoint]:
    """Checkpoints of the run that could not be evaluated, in order of step.

    Raises:
        ReportError: a status.json is damaged.
    """
    found = []
    for path in (run.path / FOLDER).glob("step-*/status.json"):
        step, status = _step(path.parent), read_json(path)
        if step is not None and isinstance(status, dict) and status.get("state") == "failed":
            found.append(FailedCheckpoint(step=step, error=error_text(status) or "no reason is on record"))
    return sorted(found, key=lambda row: row.step)


def snapshots(run: RunData) -> list[Snapshot]:
    """The run's checkpoints in order of step, then its final policy. A kept checkpoint without scores has none here."""
    found = []
    for path in (run.path / FOLDER).glob("step-*"):
        step = _step(path)
        if step is not None and path.is_dir():
            found.append(Snapshot(step, False, load_tables(path / "scores")))
    found.sort(key=lambda s: -1 if s.step is None else s.step)
    total = (run.status or {}).get("total_steps")
    last = None if total is None else int(total)
    # A checkpoint kept at the last step is the final policy: one point, not two.
    kept = [s for s in found if last is None or s.step != last]
    return [*kept, Snapshot(last, True, run.scores)]
