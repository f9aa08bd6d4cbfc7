"""Progress of long work: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType


def duration(seconds: float | None) -> str:
    """Seconds as a person reads them: 42s, 3m10s, 2h05m."""
    if seconds is None:
        return "?"
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


class Progress:
    """One line per milestone, and between milestones a live bar (terminal) or a line every `every` seconds (plain)."""

    def __init__(self, every: float = 15.0) -> None:
        from rich.console import Console

        self.console = Console(stderr=True, highlight=False)
        self.live = self.console.is_terminal
        self.every = every
        self._started = time.monotonic()
        self._last = 0.0
        self._bar: object | None = None
        self._task: object | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def say(self, text: str) -> None:
        """A milestone, with the time since the start."""
        elapsed = duration(time.monotonic() - self._started)
        self.console.print(f"[dim]{elapsed:>7}[/dim]  {_escape(text)}", soft_wrap=True)
        self._last = time.monotonic()

    def end(self, text: str) -> None:
        """A milestone that ends what the live bar shows."""
        self.clear()
        self.say(text)

    def tick(self, what: str, done: float, total: float, eta: float | None = None, note: str = "") -> None:
        """`done` of `total` of `what`; shown live, or now and then as a line."""
        tail = f"{note}  about {duration(eta)} left" if eta is not None else note
        if self.live:
            self._show(what, done, total, tail)
        elif time.monotonic() - self._last >= self.every:
            self.say(f"{what}: {done:g}/{total:g}  {tail}".rstrip())

    def _show(self, what: str, done: float, total: float, tail: str) -> None:
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        if self._bar is None:
            bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                TextColumn("{task.completed:g}/{task.total:g} {task.fields[tail]}"),
                console=self.console,
                transient=True,
            )
            bar.start()
            self._bar, self._task = bar, bar.add_task("", total=total, tail="")
        self._bar.update(self._task, description=_escape(what), completed=done, total=total, tail=_escape(tail))  # type: ignore[attr-defined]

    def clear(self) -> None:
        """Take the live bar away."""
        if self._bar is not None:
            self._bar.stop()  # type: ignore[attr-defined]
            self._bar = self._task = None


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def stderr_line(text: str) -> None:
    """A plain line at once, before anything heavy is imported."""
    print(text, file=sys.stderr, flush=True)
