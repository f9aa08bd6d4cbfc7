"""Points at which a process can be disturbed: every file it opens for writing, renames or removes under the output.

The interpreter's audit hooks announce these, so nothing in the project knows of them. A hook may raise, which makes the call
fail as a full or failing disk would.
"""

import errno
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_WRITING = os.O_WRONLY | os.O_RDWR
_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")


@dataclass(frozen=True)
class Fault:
    """What happens at point number `point` of the process with this role, once.

    `act` is kill, crash (the main process and this one at the same time), term, int, int2 (two of them), or an errno's name
    (ENOSPC, EIO). Signals go to `target`: the process itself or the main one.
    """

    role: str
    point: int
    act: str
    target: str = "self"


class Points:
    """Counts the points of this process and disturbs it at the chosen one.

    Args:
        output: points outside it do not count. log: a file outside it; one line per point is appended.
    """

    def __init__(self, output: Path, log: Path, fault: Fault | None) -> None:
        self.output, self.log, self.fault = str(output), log, fault
        self.main, self.role, self.count = os.getpid(), "main", 0
        self._handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        sys.addaudithook(self._hook)

    def become(self, role: str) -> None:
        """Call in a forked worker: its points are counted anew."""
        self.role, self.count = role, 0

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _EVENTS:
            return
        path = arguments[0]
        if not isinstance(path, str | os.PathLike) or not os.fspath(path).startswith(self.output):
            return
        if event == "open" and not (_writes(arguments)):
            return
        if ".lock" in os.path.basename(path):
            return  # the holder's beats come by the clock
        number, self.count = self.count, self.count + 1
        os.write(self._handle, f"{self.role} {number} {event} {os.path.relpath(path, self.output)}\n".encode())
        if self.fault is not None and (self.role, number) == (self.fault.role, self.fault.point):
            self._disturb(self.fault, os.fspath(path))

    def _disturb(self, fault: Fault, path: str) -> None:
        try:  # once, whichever process comes here
            os.close(os.open(self.log.with_suffix(".fired"), os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        if fault.act.startswith("E"):
            number = getattr(errno, fault.act)
            raise OSError(number, os.strerror(number), path)
        if fault.act == "crash":
            os.kill(self.main, signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        target = self.main if fault.target == "main" else os.getpid()
        number = {"kill": signal.SIGKILL, "term": signal.SIGTERM}.get(fault.act, signal.SIGINT)
        os.kill(target, number)
        if fault.act == "int2":
            time.sleep(0.05)
            os.kill(target, number)


def _writes(arguments: tuple[Any, ...]) -> bool:
    mode, flags = arguments[1], arguments[2]
    return bool(flags & _WRITING) if isinstance(flags, int) else any(letter in (mode or "") for letter in "wax+")


#: Processes beside the main one, in the order in which a matrix needs them.
WORKERS = ("train", "evaluate", "judge")
#: Files and folders of an output in which the main process writes at the end alone.
_REPORT = ("figures", "tables", "report", "summary", "explain", "training_", "log_history", "contamination", "samples")


def stage_of(lines: list[str], fault: Fault) -> tuple[str, str]:
    """What the matrix was at when `fault` struck (plan, train, evaluate, judge, report), and the file; from a log's lines."""
    start = f"{fault.role} {fault.point} "
    at = next((i for i, line in enumerate(lines) if line.startswith(start)), None)
    if at is None:
        return "not reached", ""
    file = lines[at].split(" ", 3)[3]
    if fault.role != "main":
        return fault.role, file
    if file.lstrip(".").startswith(_REPORT):
        return "report", file
    seen = {line.split()[0] for line in lines[:at]}
    return next((worker for worker in reversed(WORKERS) if worker in seen), "plan"), file
