"""Long jobs: what of them is on disk already, what is done, how fast, and how long the rest takes."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from trainers.common import Json, scores_schema

One = TypeVar("One")


def batches(items: Sequence[One], size: int) -> Iterator[Sequence[One]]:
    """`items` in their order, `size` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def kept_rows(path: Path, identity: Mapping[str, Any], assumed: Json | None = None) -> list[Json]:
    """Rows of a file that grows while a policy is visited; a file of another identity is removed.

    Args:
        identity: what every row must carry. assumed: of rows that do not say.
    """
    rows = scores_schema.read_rows(path)
    if any(((assumed or {}) | row).get(key) != value for row in rows for key, value in identity.items()):
        path.unlink()
        return []
    return rows


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
