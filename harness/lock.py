"""One process per output directory, on one machine or on several that share a filesystem."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from harness.errors import UserError
from harness.progress import stderr_line
from harness.store import now, read_json, write_json

LOCK, HOLDER = ".lock", ".lock.json"
#: Seconds between two beats of a holder, and beats that must fail to come before another host's lock counts as stale.
BEAT_SECONDS, MISSED_BEATS = 5.0, 4
_POLL_SECONDS = 0.5


@contextmanager
def output_lock(output: Path, wait: bool = False, log: Callable[[str], None] = stderr_line) -> Iterator[None]:
    """Hold `output`: `.lock` by the kernel, which frees it when the process dies, and `.lock.json`, which says who holds it.

    Not every shared filesystem carries kernel locks from host to host, so a holder on another host is believed while the
    counter in `.lock.json` goes on. Counters are compared, never clocks, so a clock that jumps does no harm.

    Args:
        wait: until the other process is done, instead of raising.
        log: told whom this process waits for, and that it took over from a process that is gone.

    Raises:
        UserError: another process works on this directory (says which).
    """
    output.mkdir(parents=True, exist_ok=True)
    with (output / LOCK).open("a+", encoding="utf-8") as handle:
        _take(output, handle, wait, log)
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": now(),
            "token": uuid.uuid4().hex,
            "beat": 0,
        }
        write_json(output / HOLDER, holder)
        ended = threading.Event()
        thread = threading.Thread(target=_beat, args=(output / HOLDER, holder, ended), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            with contextlib.suppress(OSError):
                if (read_json(output / HOLDER) or {}).get("token") == holder["token"]:
                    (output / HOLDER).unlink()


def _take(output: Path, handle: IO[str], wait: bool, log: Callable[[str], None]) -> None:
    said = False
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            free = False
        else:
            free = not _beats_elsewhere(output / HOLDER, log)
        if free:
            return
        who = held_by(output)
        if not wait:
            raise UserError(
                f"{output} is being worked on by {who}; add --wait to wait for it, or give another --output"
            )
        if not said:
            log(f"{output} is being worked on by {who}; waiting for it")
            said = True
        time.sleep(_POLL_SECONDS)


def held_by(output: Path) -> str:
    """Who holds `output`, in words."""
    try:
        return _who(read_json(output / HOLDER))
    except OSError:
        return _who(None)


def _who(holder: Any) -> str:
    try:
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (TypeError, KeyError):
        return "another process"


def _beats_elsewhere(path: Path, log: Callable[[str], None]) -> bool:
    """Whether the holder named in `path` is on another host and alive; watches its counter for some seconds to know."""
    holder = read_json(path)
    if not isinstance(holder, dict) or holder.get("host") == socket.gethostname():
        return False  # the kernel's lock is ours, and on this host that is proof
    deadline = time.monotonic() + BEAT_SECONDS * MISSED_BEATS
    while time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        try:
            current = read_json(path)
        except OSError:
            continue  # that says nothing about the holder
        if current is None:
            return False  # it ended and took its record away
        if current != holder:
            return True
    log(f"taking over from {_who(holder)}, which has stopped")
    return False


def _beat(path: Path, holder: dict[str, Any], ended: threading.Event) -> None:
    """Count up in `path` until `ended`; if another process has taken over meanwhile (this one slept), stop this one."""
    while not ended.wait(BEAT_SECONDS):
        current = None
        with contextlib.suppress(OSError):
            current = read_json(path)
        if isinstance(current, dict) and current.get("token") != holder["token"]:
            stderr_line(f"{path.parent} was taken over by {_who(current)} while this process slept; stopping")
            os.kill(os.getpid(), signal.SIGTERM)
            return
        holder["beat"] += 1
        with contextlib.suppress(OSError):  # a full disk must not end the work; the next beat may come through
            write_json(path, holder)
