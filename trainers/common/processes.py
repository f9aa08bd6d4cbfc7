"""Processes that end with their parent, and how to wait for and stop others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

# Waiting for a file to grow: soon at first, then ever more rarely.


class Patience:
    """Sleeps 1 ms, then half as long again each time up to `longest` seconds; `reset` when something has happened.

    What comes in quick succession is seen at once, and a process that waits for minutes costs nothing.
    """

    def __init__(self, longest: float) -> None:
        self.longest = longest
        self._next = 0.001

    def reset(self) -> None:
        self._next = 0.001

    def sleep(self) -> None:
        time.sleep(self._next)
        self._next = min(self._next * 1.5, self.longest)


def end_with(parent: int) -> None:
    """Kill this process and the engine's own processes when `parent` is gone.

    vLLM's worker processes outlive a killed parent and go on computing, so the whole process group is ended; the
    supervisor starts this process as the leader of its own.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the worker and all it started (vLLM runs processes of its own in the worker's group)."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            break
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)
    process.wait()


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when `parent` dies (Linux); elsewhere a killed parent leaves it running."""
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the request was in place
        os._exit(1)
