"""Processes that end with their parent, and how to wait for and stop others."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time


class Patience:
    """Sleeps 1 ms, then 1.5 times longer each time, up to `longest` seconds; call `reset` after every event.

    Events in quick succession are seen at once, and a wait of minutes costs nothing.
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
    """Kill this process and the engine's worker processes when `parent` has died.

    vLLM's worker processes outlive a killed parent and keep computing, so this kills the whole process group; the supervisor
    starts this process as leader of a new group.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End the worker and its child processes (vLLM starts some in the worker's group)."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            break
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
    process.wait()


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when `parent` dies (Linux); elsewhere a killed parent leaves it running."""
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the request was in place
        os._exit(1)
