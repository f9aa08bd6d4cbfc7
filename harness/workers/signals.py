"""Stopping on request: Ctrl-C and the SIGTERM of a scheduler end a matrix where it can resume."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(BaseException):
    """The user or the scheduler asked to stop. Not an Exception: nothing may take it for a failure of a run.

    Attributes:
        signum: SIGINT or SIGTERM. at_once: nothing is to be finished first.
    """

    def __init__(self, signum: int, at_once: bool = False) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum, self.at_once = signum, at_once

    @property
    def exit_code(self) -> int:
        """As a shell reports it: 130 after SIGINT, 143 after SIGTERM."""
        return 128 + self.signum


class StopSignals:
    """Handles SIGINT and SIGTERM while it is entered.

    Normally the first signal raises `Stopped` where the process stands: every file is written by rename, so that loses at
    most what is not on disk yet. Inside `finishing_steps` it is only noted in `requested`, for work that ends at a better
    place. A second SIGINT always raises, at once. A second SIGTERM is one: schedulers send it to every process of a job.
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self._deferred = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopSignals:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        first = self.requested is None
        if first:
            self.requested = signum
        if signum == signal.SIGINT and not first:
            raise Stopped(signum, at_once=True)
        if first and not self._deferred:
            raise Stopped(signum)

    def check(self) -> None:
        """Raise `Stopped` if a signal has come."""
        if self.requested is not None:
            raise Stopped(self.requested)

    @contextmanager
    def finishing_steps(self) -> Iterator[None]:
        """The first signal is only noted while the block runs."""
        self.check()
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
