"""One process per output directory."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import UserError
from harness.store import now


@contextmanager
def output_lock(output: Path) -> Iterator[None]:
    """Hold `<output>/.lock`; the kernel frees it when the process dies, so nothing stale is left.

    Raises:
        UserError: another process works on this directory (says which).
    """
    output.mkdir(parents=True, exist_ok=True)
    path = output / ".lock"
    with path.open("a+", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            try:
                holder = json.loads(handle.read())
                who = f"process {holder['pid']} on {holder['host']} since {holder['since']}"
            except (ValueError, KeyError):
                who = "another process"
            raise UserError(f"{output} is being worked on by {who}; wait for it, or give another --output") from None
        handle.seek(0)
        handle.truncate()
        json.dump({"pid": os.getpid(), "host": socket.gethostname(), "since": now()}, handle)
        handle.flush()
        yield
