"""State of runs on disk: written to a temporary name, synced, renamed; the completion marker comes last."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.fingerprint import file_hash

SCHEMA_VERSION = 1
RUN, STATUS = "run.json", "status.json"


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` with `data`: a reader sees the old file or the new one, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_json(path: Path, value: Any) -> None:
    """`write_bytes` of indented JSON; NaN is refused."""
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8"))


def read_json(path: Path) -> Any | None:
    """The decoded file, or None if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class RunStore:
    """`run.json` (what a run is) and `status.json` (how far it got) of one run directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory)
        self._last_progress = 0.0

    def create(self, record: dict[str, Any]) -> None:
        """Write `run.json` once, and an initial status if there is none."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if read_json(self.directory / RUN) is None:
            write_json(self.directory / RUN, record)
        if read_json(self.directory / STATUS) is None:
            self._write(
                {"state": "pending", "stage": "train", "step": 0, "total_steps": 0, "error": None, "stages": {}}
            )

    def status(self) -> dict[str, Any]:
        """The status; a missing or damaged file reads as pending."""
        status = read_json(self.directory / STATUS)
        empty = {"state": "pending", "stage": "train", "step": 0, "total_steps": 0, "error": None, "stages": {}}
        return status if isinstance(status, dict) else {**empty, "run_id": self.directory.name}

    def _write(self, status: dict[str, Any]) -> None:
        record = {"schema_version": SCHEMA_VERSION, "run_id": self.directory.name, **status, "updated": now()}
        write_json(self.directory / STATUS, record)

    def start(self, stage: str) -> None:
        """Mark the run as running `stage`."""
        self._write({**self.status(), "state": "running", "stage": stage, "error": None, "pid": os.getpid()})

    def progress(self, step: int, total_steps: int, every: float = 1.0, **values: float | None) -> None:
        """Note the step and what was logged there (loss, dynamic_beta), at most once every `every` seconds."""
        if time.monotonic() - self._last_progress >= every or step == total_steps:
            self._last_progress = time.monotonic()
            self._write({**self.status(), "step": step, "total_steps": total_steps, **values})

    def mark_stage(self, name: str, fingerprint: str, files: Iterable[str], seconds: float, last: bool = False) -> None:
        """Record that stage `name` is complete, with the checksum of every file it produced (paths relative)."""
        status = self.status()
        status["stages"][name] = {
            "state": "done",
            "fingerprint": fingerprint,
            "seconds": round(seconds, 3),
            "files": {file: file_hash(self.directory / file) for file in files},
        }
        status.update(state="done" if last else "running", stage=name, error=None)
        self._write(status)

    def is_done(self, name: str, fingerprint: str, verify: bool = True) -> bool:
        """Whether stage `name` is complete for `fingerprint`.

        With `verify`, every file is compared with its checksum; a damaged one is set aside as `<name>.corrupt-<n>` and
        the stage's marker is dropped. Without, nothing is read but the status and nothing is written.
        """
        stage = self.status()["stages"].get(name)
        if stage is None or stage["fingerprint"] != fingerprint:
            return False
        good = True
        for file, checksum in stage["files"].items():
            path = self.directory / file
            if not path.is_file():
                good = False
            elif verify and file_hash(path) != checksum:
                self._quarantine(path)
                good = False
        if not good and verify:
            self.forget(name)
        return good

    def _quarantine(self, path: Path) -> None:
        n = 1
        while (target := path.with_name(f"{path.name}.corrupt-{n}")).exists():
            n += 1
        path.rename(target)

    def forget(self, name: str) -> None:
        """Drop the marker of a stage and any recorded failure, so that it is done again."""
        status = self.status()
        status["stages"].pop(name, None)
        self._write({**status, "state": "pending", "step": 0, "error": None})

    def fail(self, error_class: str, message: str, trace: str) -> None:
        """Record a failure. The stages finished so far stay finished."""
        error = {"class": error_class, "message": message, "traceback": trace}
        self._write({**self.status(), "state": "failed", "error": error})
