"""One process per output directory, on one machine or on several that share a filesystem."""

import contextlib
import fcntl
import json
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypedDict, cast

import psutil

from harness.progress import stderr_line
from harness.state.failures import disk_errno, disk_line
from trainers.common import UserError, now, write_json

LOCK, HOLDER = ".lock", ".lock.json"
#: Seconds between two beats of a holder, and beats that must fail to come before another host's lock counts as stale.
BEAT_SECONDS, MISSED_BEATS = 5.0, 4
#: Exit code of a process whose directory another one took: that of a SIGTERM, so that a scheduler queues it again.
EXIT_LOST = 128 + signal.SIGTERM
_POLL_SECONDS = 0.5


class Holder(TypedDict, total=False):
    """`.lock.json`: the process that holds a directory, since when (UTC), its counter, and what it does there."""

    pid: int
    host: str
    since: str
    token: str
    beat: int
    role: str | None


class Held(UserError):
    """Another process works on the directory."""


@contextmanager
def output_lock(
    output: Path, wait: bool = False, log: Callable[[str], None] = stderr_line, role: str | None = None
) -> Iterator[None]:
    """Hold `output`: `.lock` by the kernel, which frees it when the process dies, and `.lock.json`, which says who holds it.

    Not every shared filesystem carries kernel locks from host to host, so `.lock.json` is made by one process alone, and a
    holder on another host is believed while the counter in it goes on. Counters are compared, never clocks, so a clock that
    jumps does no harm. A process that finds another one named there ends at once, with `EXIT_LOST`: it must write no more.

    Args:
        wait: until the other process is done, instead of raising.
        log: told whom this process waits for, and that it took over from a process that is gone.
        role: what the holder does there, for those who ask (`holder_of`).

    Raises:
        Held: another process works on this directory (says which).
        UserError: the directory cannot be written to, or its file system has no locks.
    """
    holder: Holder = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": now(),
        "token": uuid.uuid4().hex,
        "beat": 0,
        "role": role,
    }
    with lock_file(output) as handle:
        _take(output, handle, holder, wait, log)
        ended = threading.Event()
        thread = threading.Thread(target=_beat, args=(output / HOLDER, holder, ended), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            with contextlib.suppress(OSError):
                if (_read(output / HOLDER) or {}).get("token") == holder["token"]:
                    (output / HOLDER).unlink()


@contextmanager
def lock_file(output: Path) -> Iterator[IO[str]]:
    """The open file that the kernel's lock of `output` is on.

    Raises:
        UserError: the directory cannot be written to.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        handle = (output / LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        raise _refusal(output, error, "give another --output") from None
    with handle:
        yield handle


def try_lock(output: Path, handle: IO[str], kind: int) -> bool:
    """Whether the kernel gives its lock (fcntl.LOCK_EX or LOCK_SH) now.

    Raises:
        UserError: the file system has no locks.
    """
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # ENOSYS, ENOLCK, EOPNOTSUPP
        mend = "its file system has no file locks; give an --output that has (Lustre: mount option flock)"
        raise _refusal(output, error, mend) from None
    return True


def works_elsewhere(output: Path) -> bool:
    """Whether a process of another host holds `output` and is alive; watches its counter for some seconds to know."""
    holder = _record(output / HOLDER)
    return _is_elsewhere(holder) and _latest(output / HOLDER, holder) not in (None, holder)


def holder_lives(output: Path) -> bool:
    """Whether the process that the record of `output` names still works; elsewhere its counter is watched for some seconds."""
    holder = _record(output / HOLDER) or {}
    here = holder.get("host") == socket.gethostname()
    return psutil.pid_exists(holder.get("pid", 0)) if here else works_elsewhere(output)


def holder_of(output: Path) -> tuple[str | None, str | None]:
    """Who holds `output`, in words, and as what; None if no record says so."""
    holder = _record(output / HOLDER)
    return (_who(holder), holder.get("role")) if holder else (None, None)


def _take(output: Path, handle: IO[str], holder: Holder, wait: bool, log: Callable[[str], None]) -> None:
    tell = once(log)
    while not (try_lock(output, handle, fcntl.LOCK_EX) and _claim(output / HOLDER, holder, log)):
        said = f"{output} is in use by {_who(_record(output / HOLDER))}"
        if not wait:
            raise Held(f"{said}; add --wait to wait for it, or give another --output")
        tell(f"{said}; waiting for it")
        time.sleep(_POLL_SECONDS)


def once(log: Callable[[str], None]) -> Callable[[str], None]:
    """`log` for a loop that waits: it is told the first time only."""
    left = [log]
    return lambda text: left.pop()(text) if left else None


def _claim(path: Path, holder: Holder, log: Callable[[str], None]) -> bool:
    """Write `holder` into `path`; False if a process of another host is named there and alive, or was faster."""
    earlier = _record(path)
    elsewhere = _is_elsewhere(earlier)
    latest = _latest(path, earlier) if elsewhere else earlier
    if latest not in (None, earlier):
        return False
    if elsewhere and latest is not None:
        log(f"taking over from {_who(earlier)}, which has stopped")
    try:
        if latest is None:
            _create(path, holder)  # the file system lets one host do so, whatever a host believes to see
        else:
            write_json(path, holder)
            if elsewhere:  # hosts may take over at the same time: the last one to write has it
                time.sleep(2 * _POLL_SECONDS)
    except FileExistsError:
        return False
    except OSError as error:
        raise _refusal(path.parent, error, "give another --output") from None
    return (_record(path) or {}).get("token") == holder["token"]


def _is_elsewhere(holder: Holder | None) -> bool:
    """Not for this host: there the kernel's lock is proof."""
    return holder is not None and holder.get("host") != socket.gethostname()


def _latest(path: Path, earlier: Holder | None) -> Holder | None:
    """What stands in `path` once it differs from `earlier`, or after so many looks that beats would have come.

    Looks are counted and not seconds: a server that hangs for a minute makes one look of it.
    """
    for _ in range(round(BEAT_SECONDS * MISSED_BEATS / _POLL_SECONDS)):
        time.sleep(_POLL_SECONDS)
        current = _record(path)
        if current != earlier:
            return current
    return earlier


def _read(path: Path) -> Holder | None:
    """The record; None if there is none, and empty if it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return cast(Holder, found) if isinstance(found, dict) else {}


def _record(path: Path) -> Holder | None:
    """`_read`, several times if it fails: what cannot be read (ESTALE, EIO) has not ended.

    Raises:
        UserError: it cannot be read.
    """
    for _ in range(MISSED_BEATS):
        try:
            return _read(path)
        except OSError as error:
            failure = error
            time.sleep(_POLL_SECONDS)
    raise _refusal(path.parent, failure, f"{path.name} cannot be read")


def _create(path: Path, holder: Holder) -> None:
    """Make `path` with `holder` in it.

    Raises:
        FileExistsError: another process was faster.
    """
    with path.open("x", encoding="utf-8") as handle:
        try:
            handle.write(json.dumps(holder, indent=1) + "\n")
            handle.flush()
            os.fsync(handle.fileno())
        except OSError:
            path.unlink(missing_ok=True)
            raise


def _who(holder: Any) -> str:
    if not holder or not {"pid", "host", "since"} <= holder.keys():
        return "another process"
    return f"process {holder['pid']} on {holder['host']} since {holder['since']}"


def _refusal(output: Path, error: OSError, mend: str) -> UserError:
    number = disk_errno(error)
    return UserError(f"{output}: {error.strerror}: {mend}" if number is None else disk_line(number, output))


def _beat(path: Path, holder: Holder, ended: threading.Event) -> None:
    """Count up in `path` until `ended`; if another process has taken over meanwhile (this one slept), end this one."""
    while not ended.wait(BEAT_SECONDS):
        with contextlib.suppress(OSError):  # a full disk must not end the work; the next beat may come through
            current = _read(path)
            if current and current.get("token") != holder["token"]:
                stderr_line(f"{path.parent} was taken over by {_who(current)} while this process slept; ending")
                os._exit(EXIT_LOST)  # a stop in good order would save a checkpoint into what is the other's now
            holder["beat"] += 1
            write_json(path, holder)
