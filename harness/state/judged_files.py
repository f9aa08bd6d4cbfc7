"""Checksums of what a judge wrote, so that corrupt comparisons and scores are quarantined and regenerated."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from evals.judges.worker import record_path
from harness.plan.entries import JudgeCell
from harness.state.records import differing, verified, with_checksum
from harness.state.store import set_aside
from trainers.common import file_hash, read_json, scores_schema, write_json

if TYPE_CHECKING:
    from harness.plan.plan import Plan

FOLDER = "judged"


def _record(plan: Plan, cell: JudgeCell) -> Path:
    return plan.output / "shared" / FOLDER / f"{cell.name}.json"


def keep_checksums(plan: Plan, cell: JudgeCell) -> None:
    """Write down what the files of a judged cell are; call it when all of them are there."""
    account = record_path(plan.output, cell.name)
    scores = [scores_schema.scores_path(Path(policy.out), cell.name) for policy in cell.policies]
    files = [path for path in (account, account.with_suffix(".jsonl"), *scores) if path.is_file()]
    sums = {str(path.relative_to(plan.output)): file_hash(path) for path in files}
    write_json(_record(plan, cell), with_checksum({"fingerprint": cell.fingerprint, "files": sums}))


def set_damaged_aside(plan: Plan, cell: JudgeCell) -> list[str]:
    """Quarantine files of a judged cell that are not what was written; returns them. Earlier versions kept no checksums."""
    record = verified(read_json(_record(plan, cell)))
    if record is None or record.get("fingerprint") != cell.fingerprint:
        return []
    bad = differing(plan.output, record["files"])
    for name in bad:
        if (plan.output / name).is_file():
            set_aside(plan.output / name, plan.output)
    if bad:  # last: a kill before it leaves files missing, which is seen again
        _record(plan, cell).unlink()
    return bad


def is_recorded(plan: Plan, cell: JudgeCell) -> bool:
    """Whether checksums of exactly this judging are known."""
    record = verified(read_json(_record(plan, cell)))
    return record is not None and record.get("fingerprint") == cell.fingerprint
