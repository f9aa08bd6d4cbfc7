"""Progress of long jobs: what is done, how fast, and how long the rest takes."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """Reports requests done, tokens per second and the seconds left.

    Args:
        report: called with done, total, tokens_per_second and eta_s.
        total: requests in all. kept: those among them that were done before, which say nothing about the speed.
    """

    def __init__(self, report: Callable[..., None], total: int, kept: int = 0) -> None:
        self._report, self._total, self._kept = report, total, kept
        self._started, self._fresh, self._tokens = time.monotonic(), 0, 0

    def skip(self, requests: int) -> None:
        """Leave requests out of the total: their results are known."""
        self._total -= requests

    def tick(self, requests: int, tokens: int) -> None:
        """Count requests that were just answered and report."""
        self._fresh, self._tokens = self._fresh + requests, self._tokens + tokens
        elapsed, done = max(time.monotonic() - self._started, 1e-9), self._kept + self._fresh
        self._report(
            done=done,
            total=self._total,
            tokens_per_second=self._tokens / elapsed,
            eta_s=elapsed / self._fresh * (self._total - done),
        )
