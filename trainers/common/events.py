"""Events of a worker: JSON lines that one process appends and another follows."""

import json
import re
import time
from pathlib import Path
from typing import Any

from trainers.common.files import Json


class Events:
    """Appends JSON lines that the supervisor reads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._handle = path.open("a", encoding="utf-8")

    def emit(self, event: str, **values: Any) -> None:
        self._handle.write(json.dumps({"event": event, "time": time.time(), **values}) + "\n")
        self._handle.flush()


def tail(path: Path, lines: int = 30) -> str:
    """The last lines of a log."""
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


#: A line of a traceback that names the error, behind what a logger or the name of a process puts before it.
_ERROR = re.compile(r"(?:^|[\])]\s)((?:\w+\.)*(\w*(?:Error|Exception))(?::\s.*)?)$")
#: Errors that only say that another process had one.
_HEARSAY = re.compile(
    r"EngineDeadError|EngineGone|Worker failed with error|Engine core initialization failed|ProcessRaisedException"
)


def last_error(path: Path, offset: int = 0) -> str | None:
    """The last error that a log names after `offset` (bytes), as `Class: message`; None where it names none.

    Errors that only report another process's are passed over.
    """
    with path.open("rb") as handle:
        handle.seek(offset)
        lines = handle.read().decode(errors="replace").splitlines()
    found = [match for line in lines if (match := _ERROR.search(line.rstrip())) and not _HEARSAY.search(line)]
    return f"{found[-1][2]}{found[-1][1].partition(found[-1][2])[2]}" if found else None


class EventTail:
    """Reads whole JSON lines as they are appended to a file."""

    def __init__(self, path: Path) -> None:
        self.path, self._offset = path, 0

    def lines(self) -> list[bytes]:
        """Whole lines that were written since the last call."""
        if not self.path.is_file():
            return []
        with self.path.open("rb") as handle:
            handle.seek(self._offset)
            data = handle.read()
        end = data.rfind(b"\n") + 1
        self._offset += end
        return data[:end].splitlines()

    def read(self) -> list[Json]:
        """`lines`, decoded."""
        return [json.loads(line) for line in self.lines()]
