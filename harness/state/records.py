"""run.json and status.json carry a checksum: a flipped bit in them is found, and what files still prove is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainers.common.files import file_hash
from trainers.common.training_schema import TRAIN_RESULT

CHECKSUM = "checksum"
#: Of records with a checksum. Those of version 1 had none, and stay readable.
SCHEMA_VERSION = 2
STAGES = ("train", "evaluate")
_STATUS_KEYS = ("state", "stage", "step", "total_steps", "error", "stages")


def _sum(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def with_checksum(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record as it is written."""
    plain = {key: value for key, value in record.items() if key != CHECKSUM}
    plain = json.loads(json.dumps({**plain, "schema_version": SCHEMA_VERSION}))  # keys as they will be read
    return {**plain, CHECKSUM: _sum(plain)}


def verified(value: Any) -> dict[str, Any] | None:
    """A record as it was read, without its checksum; None if it is no record, or not what was written."""
    if not isinstance(value, dict):
        return None
    record = {key: part for key, part in value.items() if key != CHECKSUM}
    if CHECKSUM not in value:
        return record if record.get("schema_version", 1) == 1 else None
    return record if _sum(record) == value[CHECKSUM] else None


def as_status(value: Any) -> dict[str, Any] | None:
    """`verified`, and with everything that a status holds."""
    status = verified(value)
    if status is None or any(key not in status for key in _STATUS_KEYS):
        return None
    stages, error = status["stages"], status["error"]
    known = isinstance(stages, dict) and all(_is_stage(stage) for stage in stages.values())
    told = error is None or (isinstance(error, dict) and {"class", "message"} <= error.keys())
    return status if known and told else None


def _is_stage(stage: Any) -> bool:
    return (
        isinstance(stage, dict) and {"fingerprint", "seconds"} <= stage.keys() and isinstance(stage.get("files"), dict)
    )


def differing(directory: Path, stage: Mapping[str, Any]) -> list[str]:
    """Files of a finished stage that are missing or not what was recorded."""
    paths = {file: directory / file for file in stage["files"]}
    return [f for f, checksum in stage["files"].items() if not paths[f].is_file() or file_hash(paths[f]) != checksum]


def proved(directory: Path, value: Any) -> dict[str, Any]:
    """What files prove of a damaged status: stages all of whose files are what it says, and the steps of training."""
    told = value.get("stages") if isinstance(value, dict) else None
    stages: dict[str, Any] = told if isinstance(told, dict) else {}
    kept: dict[str, Any] = {}
    for name in STAGES:
        stage = stages.get(name)
        if stage is not None and _is_stage(stage) and stage["files"] and not differing(directory, stage):
            kept[name] = stage
    found: dict[str, Any] = {"stages": kept}
    if TRAIN_RESULT in kept.get("train", {}).get("files", {}):
        steps = json.loads((directory / TRAIN_RESULT).read_text(encoding="utf-8"))["steps"]
        found |= {"step": steps, "total_steps": steps}
    return found
