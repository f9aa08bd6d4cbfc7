"""run.json, status.json and matrix.json as objects, and the checksum by which corruption is found."""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trainers.common import Json, file_hash, push, read_json, write_json
from trainers.common.training_schema import CHECKPOINTS, EXAMPLE_PARTS, TRAIN_RESULT

CHECKSUM = "checksum"
#: Of records with a checksum. Those of version 1 had none, and stay readable.
SCHEMA_VERSION = 2
STAGES = ("train", "evaluate")


class Record(BaseModel):
    """A record on disk, or a part of one. Keys that this version does not know are kept."""

    model_config = ConfigDict(extra="allow", populate_by_name=True, frozen=True)

    @classmethod
    def of(cls, value: Any) -> Self | None:
        """The record that was read as `value`; None if it lacks something or is of another form."""
        try:
            return cls.model_validate(value)
        except ValidationError:
            return None

    def plain(self) -> Json:
        """What is written: the keys that were set."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class Hardware(Record):
    """The machine of a process."""

    machine: str | None = Field(default=None, description="architecture")
    cpus: int | None = Field(default=None, description="cores this process may use")
    gpus: list[str] = Field(default=[], description="names")


class Environment(Record):
    """What a run was started under."""

    versions: dict[str, str] = Field(default={}, description="of packages, by name")
    hardware: Hardware = Hardware()


class StartingModel(Record):
    """The starting weights of a run."""

    name: str = Field(description="as the matrix file has it")
    weights_hash: str = Field(description="SHA-256")
    reference: str | None = Field(default=None, description="model.reference, where the reference is not the start")
    reference_hash: str | None = Field(default=None, description="SHA-256 of the reference's weights")


class TrainingData(Record):
    """The pairs a run trains on."""

    train: Any = Field(default=None, description="data.train of the matrix file: a source, or a list of them")
    content_hash: str = Field(description="SHA-256 of the pairs")
    n_pairs: int = 0
    pool: int | None = Field(
        default=None, description="pairs that each seed drew its own from; None: all have the same"
    )
    heldout_overlap: int = Field(default=0, description="benchmark prompts that are also training prompts")
    contamination: dict[str, Json] = Field(
        default={}, description="exact and near duplicates among the prompts, by benchmark"
    )


class Planted(Record):
    """What a control of `sensitivity` is for: positive, negative, weak or against; and the method it is compared with."""

    role: str
    against: str


class RunRecord(Environment):
    """run.json: what a run is. Written once; `resumed_under` is added to."""

    run_id: str
    method: str | None = None
    rule: str | None = None
    objective: str | None = Field(default=None, description="dpo where an early record lacks it")
    seed: int | None = None
    params: Json = Field(default={}, description="of the rule, defaults filled in")
    hyper: Json = Field(default={}, description="what the grid chose")
    parent: str | None = Field(default=None, description="id of the run that a control repeats")
    planted: Planted | None = Field(default=None, description="of a control of `sensitivity`")
    fingerprint: str | None = Field(default=None, description="SHA-256 of what determines the numbers")
    model: StartingModel | None = None
    data: TrainingData | None = None
    training: Json = {}
    lora: Json | None = None
    resumed_under: list[Environment] = Field(
        default=[], description="other environments it resumed under, each with its time"
    )


class Failure(Record):
    """A failure of a run or policy."""

    kind: str = Field(alias="class", description="class of the exception")
    message: str
    traceback: str = ""
    transient: bool | None = Field(
        None, description="whether another try may succeed; None where the recorder did not know"
    )
    attempts: int = 1
    cells: str | None = Field(default=None, description="identity of the benchmarks that failed")
    engine: str | None = Field(default=None, description="whether an engine was started")


class StageMark(Record):
    """A finished stage."""

    fingerprint: str
    seconds: float
    files: dict[str, str] = Field(description="SHA-256 by path relative to the run")

    def is_there(self, directory: Path, fingerprint: str) -> bool:
        """Whether this is the stage of `fingerprint`, and its files exist; their content is not read."""
        there = (os.path.isfile(os.path.join(directory, file)) for file in self.files)
        return self.fingerprint == fingerprint and all(there)


class Status(Record):
    """status.json: how far a run is."""

    state: str = Field(description="pending, running, failed or done")
    stage: str
    step: int = Field(description="optimiser steps done")
    total_steps: int
    error: Failure | None
    stages: dict[str, StageMark] = Field(description="finished ones")
    loss: float | None = Field(default=None, description="logged at `step`")
    dynamic_beta: float | None = Field(default=None, description="logged at `step`")
    eta_seconds: float | None = None
    pid: int | None = Field(default=None, description="process that works on the run")
    host: str | None = None
    heartbeat: str | None = Field(default=None, description="when the last step was noted: UTC, ISO 8601")
    stopped: str | None = Field(default=None, description="signal that ended the last call")


class FrozenMatrix(Record):
    """matrix.json: the matrix of an output directory as resolved before the first run."""

    name: str
    config: Json = Field(description="the matrix file, defaults filled in")
    runs: list[str] = Field(description="run ids, in the order they are trained")
    template_date: str | None = Field(default=None, description="the day that a chat template writes, YYYY-MM-DD")


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


def whole_rows(path: Path) -> list[Json]:
    """The JSON objects of a file of JSON lines. Torn and damaged lines are left out; a file that cannot be read has none."""
    rows = []
    with contextlib.suppress(OSError):
        for line in path.read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                rows.append(json.loads(line))
    return [row for row in rows if isinstance(row, dict)]


def differing(directory: Path, files: Mapping[str, str]) -> list[str]:
    """Those of `files` (SHA-256 by path relative to `directory`) that are missing or not what was recorded."""
    paths = {file: directory / file for file in files}
    return [f for f, checksum in files.items() if not paths[f].is_file() or file_hash(paths[f]) != checksum]


def proved(directory: Path, value: Any) -> Json:
    """What files prove of a corrupt status: stages all of whose files are what it says, and the steps of training."""
    told = value.get("stages") if isinstance(value, dict) else None
    marks = {name: StageMark.of(told.get(name)) for name in STAGES} if isinstance(told, dict) else {}
    kept = {name: mark for name, mark in marks.items() if mark and mark.files and not differing(directory, mark.files)}
    if "train" not in kept or TRAIN_RESULT not in kept["train"].files:
        return {"stages": kept}
    steps = json.loads((directory / TRAIN_RESULT).read_text(encoding="utf-8"))["steps"]
    return {"stages": kept, "step": steps, "total_steps": steps}


# Checkpoints that survive a power cut: pushed to disk, with checksums, and checked before a run resumes from them.

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
