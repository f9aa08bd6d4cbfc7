"""run.json and status.json: their keys, and the checksum by which corruption is found."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

from trainers.common.files import Json, file_hash
from trainers.common.training_schema import TRAIN_RESULT

CHECKSUM = "checksum"
#: Of records with a checksum. Those of version 1 had none, and stay readable.
SCHEMA_VERSION = 2
STAGES = ("train", "evaluate")
_STATUS_KEYS = ("state", "stage", "step", "total_steps", "error", "stages")


class Hardware(TypedDict):
    """`cpus` this process may use; names of its `gpus`."""

    machine: str
    cpus: int
    gpus: list[str]


class Environment(TypedDict, total=False):
    """Versions of packages, and hardware, as run.json records them."""

    versions: dict[str, str]
    hardware: Hardware


#: A failure of a run or policy; `cells` is the identity of what failed, `engine` whether one was started.
Failure = TypedDict(
    "Failure",
    {
        "class": str,
        "message": str,
        "traceback": NotRequired[str],
        "transient": NotRequired[bool | None],
        "attempts": NotRequired[int],
        "errno": NotRequired[int | None],
        "cells": NotRequired[str | None],
        "engine": NotRequired[str],
    },
)


class StageMark(TypedDict):
    """A finished stage: `seconds` it took, and the SHA-256 of its `files` (paths relative to the run)."""

    state: NotRequired[str]
    fingerprint: str
    seconds: float
    files: dict[str, str]


class Status(TypedDict):
    """status.json: the optimiser step of `total_steps`, what was logged there, and who works on the run."""

    run_id: NotRequired[str]
    state: str
    stage: str
    step: int
    total_steps: int
    error: Failure | None
    stages: dict[str, StageMark]
    loss: NotRequired[float | None]
    dynamic_beta: NotRequired[float | None]
    eta_seconds: NotRequired[float | None]
    pid: NotRequired[int | None]
    host: NotRequired[str]
    heartbeat: NotRequired[str]
    stopped: NotRequired[str | None]


def _sum(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def with_checksum(record: Mapping[str, Any]) -> Json:
    """The record as it is written."""
    plain = {key: value for key, value in record.items() if key != CHECKSUM}
    plain = json.loads(json.dumps({**plain, "schema_version": SCHEMA_VERSION}))  # keys as they will be read
    return {**plain, CHECKSUM: _sum(plain)}


def verified(value: Any) -> Json | None:
    """A record as it was read, without its checksum; None if it is corrupt."""
    if not isinstance(value, dict):
        return None
    record = {key: part for key, part in value.items() if key != CHECKSUM}
    if CHECKSUM not in value:
        return record if record.get("schema_version", 1) == 1 else None
    return record if _sum(record) == value[CHECKSUM] else None


def as_status(value: Any) -> Status | None:
    """`verified`, and with everything that a status holds."""
    status = verified(value)
    if status is None or any(key not in status for key in _STATUS_KEYS):
        return None
    stages, error = status["stages"], status["error"]
    known = isinstance(stages, dict) and all(_is_stage(stage) for stage in stages.values())
    told = error is None or (isinstance(error, dict) and {"class", "message"} <= error.keys())
    return cast(Status, status) if known and told else None


def _is_stage(stage: Any) -> bool:
    return (
        isinstance(stage, dict) and {"fingerprint", "seconds"} <= stage.keys() and isinstance(stage.get("files"), dict)
    )


def differing(directory: Path, stage: Mapping[str, Any]) -> list[str]:
    """Files of a finished stage that are missing or not what was recorded."""
    paths = {file: directory / file for file in stage["files"]}
    return [f for f, checksum in stage["files"].items() if not paths[f].is_file() or file_hash(paths[f]) != checksum]


def proved(directory: Path, value: Any) -> Json:
    """What files prove of a corrupt status: stages all of whose files are what it says, and the steps of training."""
    told = value.get("stages") if isinstance(value, dict) else None
    stages: Json = told if isinstance(told, dict) else {}
    kept: Json = {}
    for name in STAGES:
        stage = stages.get(name)
        if stage is not None and _is_stage(stage) and stage["files"] and not differing(directory, stage):
            kept[name] = stage
    found: Json = {"stages": kept}
    if TRAIN_RESULT in kept.get("train", {}).get("files", {}):
        steps = json.loads((directory / TRAIN_RESULT).read_text(encoding="utf-8"))["steps"]
        found |= {"step": steps, "total_steps": steps}
    return found
