"""Waiting for a file to grow: soon at first, then ever more rarely."""

from __future__ import annotations

import time


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
