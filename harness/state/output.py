"""What an output directory says of itself: the frozen matrix and its claims."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.config import MatrixConfig, OverriddenSource, load
from harness.plan.analysis import analysis_plan, frozen_plan
from harness.plan.plan import Plan
from harness.state.store import RUN
from reports.verdict.claims import CLAIMS
from trainers.common import UserError, now, read_json, write_bytes, write_json
from trainers.formats import to_jsonl

MATRIX = "matrix.yaml"


def check_output(config: MatrixConfig, output: Path) -> None:
    """Refuse to write over anything that is not this matrix."""
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output} is a file; give a directory")
    # listed before matrix.json is looked for: another worker may write it meanwhile
    entries = list(output.iterdir()) if output.is_dir() else []
    name = _name(read_json(output / "matrix.json"))
    if name != config.name and (output / MATRIX).is_file():
        # matrix.json is damaged, or its name is; matrix.yaml is written after it and says the same
        name = _name(load(output / MATRIX).value) or name
    if name is not None and name != config.name:
        raise UserError(
            f"--output {output} holds the matrix {name!r}, and this one is {config.name!r}; "
            "give another --output, or rename the matrix"
        )
    if name is None and not all(_unclaimed(path) for path in entries):
        raise UserError(f"--output {output} is not empty and holds no matrix; give a new or empty directory")


def _unclaimed(path: Path) -> bool:
    """Whether an entry of an output without a matrix was left by a kill before the first freeze.

    That is `.lock`, `.matrix.json.<pid>.tmp`, the workers' lock in `work/setup`, and the claims, which were once written first.
    """
    if path.name == "work":
        return all(inner.name.startswith(".") or inner.is_dir() for inner in path.rglob("*"))
    return path.name.startswith(".") or path.name == CLAIMS


def _name(matrix: Any) -> str | None:
    return str(matrix["name"]) if isinstance(matrix, dict) and "name" in matrix else None


def freeze(plan: Plan) -> None:
    """Write matrix.yaml (as read) and matrix.json (resolved, with the run ids) into the output directory.

    matrix.json is the first file of an output: it says whose the directory is, so that a kill after it blocks nothing.
    """
    frozen = read_json(plan.output / "matrix.json")
    before = frozen if isinstance(frozen, dict) else {}
    record = {
        "schema_version": 1,
        "name": plan.config.name,
        "config": plan.config.model_dump(),
        "runs": [spec.run_id for spec in plan.specs],
        "config_path": plan.source.path.name,
        "plan": analysis_plan(plan),
        # what an output without a whole plan was first asked to report
        "first_report": before.get("first_report") or (before.get("config") or plan.config.model_dump()).get("report"),
    }
    if plan.model.template_date is not None:
        record["template_date"] = plan.model.template_date
    given = plan.source
    text = given.text().encode() if isinstance(given, OverriddenSource) else given.path.read_bytes()
    as_read = (plan.output / MATRIX).is_file() and (plan.output / MATRIX).read_bytes() == text
    if not as_read or {key: before.get(key) for key in record} != record:
        write_json(plan.output / "matrix.json", {**record, "frozen": now()})
        write_bytes(plan.output / MATRIX, text)
    freeze_plan(plan)
    for data_hash, found in plan.sets.items():
        path, pairs = plan.training_pairs(data_hash), to_jsonl(found).encode()
        if not path.is_file() or path.read_bytes() != pairs:  # missing, or damaged
            write_bytes(path, pairs)


def freeze_plan(plan: Plan) -> None:
    """Write claims.json, the whole analysis plan, before the first run; never changed afterwards, so that what differs later is
    exploratory. Once a run was begun without it nothing is frozen any more: it would come too late."""
    begun = any((plan.output / "runs").glob(f"*/{RUN}"))
    if not begun and not (plan.output / CLAIMS).exists():
        write_json(plan.output / CLAIMS, frozen_plan(plan))
