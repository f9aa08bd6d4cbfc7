"""Progress of long work: a live line on a terminal, plain lines elsewhere."""

import sys
import time
from contextlib import AbstractContextManager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar


def duration(seconds: float | None) -> str:
    """Seconds as a person reads them: 42s, 3m10s, 2h05m."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(max(round(seconds), 0), 60)
    if not minutes:
        return f"{rest}s"
    return f"{minutes}m{rest:02d}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"


class Progress(AbstractContextManager["Progress"]):
    """One line per milestone, and between milestones a live bar (terminal) or a line every `every` seconds (plain)."""

    def __init__(self, every: float = 15.0) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.live, self.every = self.console.is_terminal, every
        self._started, self._last = time.monotonic(), 0.0
        shown = TextColumn("{task.completed:g}/{task.total:g} {task.fields[tail]}")
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), shown)
        self._bar = Bar(*columns, console=self.console, transient=True)

    def __exit__(self, *_: object) -> None:
        self.clear()

    def say(self, text: str) -> None:
        """A milestone, with the time since the start."""
        elapsed = duration(time.monotonic() - self._started)
        self.console.print(f"[dim]{elapsed:>7}[/dim]  {escape(text)}", soft_wrap=True)
        self._last = time.monotonic()

    def end(self, text: str) -> None:
        """A milestone that ends what the live bar shows."""
        self.clear()
        self.say(text)

    def tick(self, what: str, done: float, total: float, eta: float | None = None, note: str = "") -> None:
        """`done` of `total` of `what`; shown live, or now and then as a line."""
        tail = f"{note}  about {duration(eta)} left" if eta is not None else note
        if self.live:
            task = self._bar.task_ids[0] if self._bar.task_ids else self._bar.add_task("", tail="")
            self._bar.update(task, description=escape(what), completed=done, total=total, tail=escape(tail))
            self._bar.start()
        elif time.monotonic() - self._last >= self.every:
            self.say(f"{what}: {done:g}/{total:g}  {tail}".rstrip())

    def clear(self) -> None:
        """Take the live bar away."""
        if self._bar.live.is_started:
            self._bar.stop()


def stderr_line(text: str) -> None:
    """A plain line at once."""
    print(text, file=sys.stderr, flush=True)
