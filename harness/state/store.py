"""State of runs on disk: written to a temporary name, synced, renamed; the completion marker comes last."""

import itertools
import os
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil

from harness.state.records import (
    Failure,
    FrozenMatrix,
    RunRecord,
    StageMark,
    Status,
    differing,
    proved,
    verified,
    with_checksum,
)
from trainers.common import UserError, file_hash, now, push, read_json, write_json
from trainers.common.training_schema import ADAPTER_DIR, POLICY_DIR

RUN, STATUS, QUARANTINE = "run.json", "status.json", "quarantine"


def _empty(**known: Any) -> Status:
    status = {"state": "pending", "stage": "train", "step": 0, "total_steps": 0, "error": None, "stages": {}}
    return Status.model_validate(status | known)


def read_run(directory: Path) -> RunRecord | None:
    """A run's run.json; None if it is missing or corrupt."""
    return RunRecord.of(verified(read_json(directory / RUN)))


def write_run(directory: Path, record: RunRecord) -> None:
    """Write a run's run.json, with its checksum."""
    write_json(directory / RUN, with_checksum(record.plain()))


def set_aside(path: Path, root: Path) -> Path:
    """Move a corrupt file under `root` to `root/quarantine/<its relative path>.<n>`; returns where it went."""
    place = root / QUARANTINE / path.relative_to(root)
    targets = (place.with_name(f"{place.name}.{n}") for n in itertools.count(1))
    target = next(target for target in targets if not target.exists())
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    return target


class RunStore:
    """`run.json` (what a run is) and `status.json` (how far it got) of one run directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory)
        self._last_progress = -float("inf")

    def create(self, record: RunRecord) -> list[Path]:
        """Write `run.json` once, and an initial status if there is none; returns corrupt files that were quarantined."""
        self.directory.mkdir(parents=True, exist_ok=True)
        there, damaged = (self.directory / RUN).exists(), None
        if read_run(self.directory) is None:
            damaged = set_aside(self.directory / RUN, self.directory) if there else None
            write_run(self.directory, record)
        status, aside = self._mended()
        if not (self.directory / STATUS).exists():
            self._write(status)
        return [path for path in (damaged, aside) if path is not None]

    def status(self) -> Status:
        """The status; a missing or corrupt file reads as pending."""
        return Status.of(verified(read_json(self.directory / STATUS))) or _empty(run_id=self.directory.name)

    def failure(self) -> Failure | None:
        """The failure of a run that has failed."""
        status = self.status()
        return status.error if status.state == "failed" else None

    def _mended(self) -> tuple[Status, Path | None]:
        """The status; a corrupt file is quarantined (where to comes second), and what files prove of it is kept."""
        path = self.directory / STATUS
        there = path.exists()  # before it is read: another process may write it meanwhile
        value = read_json(path)
        status = Status.of(verified(value))
        if status is not None or not there:
            return status or _empty(), None
        return _empty(**proved(self.directory, value)), set_aside(path, self.directory)

    def _write(self, status: Status, **values: Any) -> None:
        values |= {"run_id": self.directory.name, "updated": now()}
        write_json(self.directory / STATUS, with_checksum(status.model_copy(update=values).plain()))

    def _change(self, **values: Any) -> None:
        self._write(self._mended()[0], **values)

    def start(self, stage: str) -> None:
        """Mark the run as running `stage`, in this process."""
        self._change(
            state="running",
            stage=stage,
            error=None,
            stopped=None,
            pid=os.getpid(),
            host=socket.gethostname(),
            heartbeat=now(),
        )

    def progress(self, step: int, total_steps: int, every: float = 1.0, **values: float | None) -> None:
        """Note the step and what was logged there (loss, dynamic_beta), at most once every `every` seconds."""
        if time.monotonic() - self._last_progress >= every or step == total_steps:
            self._last_progress = time.monotonic()
            self._change(step=step, total_steps=total_steps, heartbeat=now(), **values)

    def stop(self, signal_name: str, step: int | None) -> None:
        """Record that the run was asked to stop and can resume, from `step` if that is known."""
        self._change(state="pending", stopped=signal_name, pid=None, **({} if step is None else {"step": step}))

    def mark_stage(self, name: str, fingerprint: str, files: Iterable[str], seconds: float, last: bool = False) -> None:
        """Record that stage `name` is complete, with the checksum of every file it produced (paths relative).

        The files are pushed to disk first: a marker that outlives a power cut stands for files that do.
        """
        paths = {file: self.directory / file for file in files}
        for path in {*paths.values(), *(path.parent for path in paths.values())}:
            push(path)
        sums = {file: file_hash(path) for file, path in paths.items()}
        mark = {"state": "done", "fingerprint": fingerprint, "seconds": round(seconds, 3), "files": sums}
        status, _ = self._mended()
        stages = {**status.stages, name: StageMark.model_validate(mark)}
        state = "done" if last else "running"
        self._write(status, stages=stages, state=state, stage=name, error=None, stopped=None)

    def damaged(self, name: str, fingerprint: str) -> list[str] | None:
        """Files of stage `name` that are missing or not what was recorded; None if it is not complete for `fingerprint`."""
        mark = self.mark(name, fingerprint)
        return None if mark is None else differing(self.directory, mark.files)

    @property
    def weightless(self) -> bool:
        """Whether the policy was evaluated and its weights were removed since: what was measured stands without them."""
        there = any((self.directory / folder).exists() for folder in (POLICY_DIR, ADAPTER_DIR))
        return not there and "evaluate" in self.status().stages

    def mark(self, name: str, fingerprint: str) -> StageMark | None:
        """The record of a stage that is complete for `fingerprint`, without the weights where these were removed."""
        mark = self.status().stages.get(name)
        if mark is None or mark.fingerprint != fingerprint:
            return None
        if not self.weightless:
            return mark
        files = {f: s for f, s in mark.files.items() if Path(f).parts[0] not in (POLICY_DIR, ADAPTER_DIR)}
        return mark.model_copy(update={"files": files})

    def is_done(self, name: str, fingerprint: str, verify: bool = True) -> bool:
        """Whether stage `name` is complete for `fingerprint`.

        With `verify`, every file is compared with its checksum; a corrupt one goes to `quarantine/` and the stage's marker is
        dropped. Without, nothing is read but the status, files need only be there, and nothing is written.
        """
        if verify:
            return self.check(name, fingerprint) == []
        mark = self.mark(name, fingerprint)
        return mark is not None and mark.is_there(self.directory, fingerprint)

    def check(self, name: str, fingerprint: str) -> list[str] | None:
        """`damaged`; such files are quarantined, so that the stage is done again."""
        damaged = self.damaged(name, fingerprint)
        for file in damaged or []:
            if (self.directory / file).is_file():
                set_aside(self.directory / file, self.directory)
        if damaged:
            self.forget(name)
        return damaged

    def forget(self, name: str) -> None:
        """Drop the marker of a stage and any recorded failure, so that it is done again."""
        status, _ = self._mended()
        stages = {key: mark for key, mark in status.stages.items() if key != name}
        self._write(status, stages=stages, state="pending", error=None, step=0 if name == "train" else status.step)

    def forget_failure(self) -> None:
        """Drop a recorded failure; the step reached stays, so that it can be seen whether the next try gets further."""
        self._change(state="pending", error=None)

    def fail(self, error_class: str, message: str, trace: str, **more: Any) -> None:
        """Record a failure; `more` is what else is known of it (transient, errno). Finished stages stay finished."""
        error = Failure.model_validate({"class": error_class, "message": message, "traceback": trace, **more})
        self._change(state="failed", error=error, pid=None)


def frozen_matrix(output: Path) -> FrozenMatrix:
    """matrix.json of an output directory.

    Raises:
        UserError: there is none.
    """
    frozen = FrozenMatrix.of(read_json(output / "matrix.json"))
    if frozen is None:
        raise UserError(
            f"--output {output} holds no matrix; run: python -m harness run-matrix CONFIG --output {output}"
        )
    return frozen


def shown_state(status: Status) -> str:
    """The state; a run whose process on this machine is gone, or that was told to stop, is `interrupted`, not running."""
    here = status.host in (None, socket.gethostname())
    training = status.state == "running" and "train" not in status.stages
    gone = training and status.pid and here and not psutil.pid_exists(status.pid)
    return "interrupted" if gone or (status.state == "pending" and status.stopped) else status.state
