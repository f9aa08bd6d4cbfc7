"""What an output directory says of itself: the frozen matrix and its claims."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.config import MatrixConfig, OverriddenSource, load
from harness.plan.plan import Plan
from reports.verdict.claims import CLAIMS, parse_claims
from reports.verdict.claims import freeze as frozen_claims
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
    record = {
        "schema_version": 1,
        "name": plan.config.name,
        "config": plan.config.model_dump(),
        "runs": [spec.run_id for spec in plan.specs],
        "config_path": plan.source.path.name,
    }
    if plan.model.template_date is not None:
        record["template_date"] = plan.model.template_date
    given = plan.source
    text = given.text().encode() if isinstance(given, OverriddenSource) else given.path.read_bytes()
    frozen = read_json(plan.output / "matrix.json")
    as_read = (plan.output / MATRIX).is_file() and (plan.output / MATRIX).read_bytes() == text
    if not as_read or not isinstance(frozen, dict) or {key: frozen.get(key) for key in record} != record:
        write_json(plan.output / "matrix.json", {**record, "frozen": now()})
        write_bytes(plan.output / MATRIX, text)
    freeze_claims(plan)
    pairs = to_jsonl(plan.pairs).encode()
    if not plan.training_pairs.is_file() or plan.training_pairs.read_bytes() != pairs:  # missing, or damaged
        write_bytes(plan.training_pairs, pairs)


def freeze_claims(plan: Plan) -> None:
    """Write claims.json before the first run; never changed afterwards, so later claims are exploratory."""
    if plan.config.claims and not (plan.output / CLAIMS).exists():
        claims = parse_claims([claim.model_dump() for claim in plan.config.claims])
        write_json(plan.output / CLAIMS, frozen_claims(claims, plan.config.seeds, plan.config.looks))
