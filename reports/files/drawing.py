"""The figures that are made from the rows of their table, drawn by this process and, for a large matrix, one beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.files import processes
from reports.panels import forest
from reports.panels.all import all_panels
from reports.panels.style import Look, save, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]
#: Fewer methods are drawn sooner than another process has started.
METHODS_FOR_TWO = 12


def draw_figures(rows: Mapping[str, Rows], look: Mapping[str, Look], directory: Path) -> None:
    """Write directory/NAME.png and .svg of every name in `rows`; an error of the other process is raised here."""
    if len(look) < METHODS_FOR_TWO or processes.cores() < 2:
        for name in rows:
            _draw(name, rows[name], look, directory)
        return
    with processes.pool(1) as pool:
        # The other process takes them from the end, this one from the start, until they meet.
        others = {name: pool.submit(_draw, name, rows[name], look, directory) for name in reversed(list(rows))}
        for name, other in reversed(others.items()):
            if other.cancel():
                _draw(name, rows[name], look, directory)
            else:
                other.result()


def _draw(name: str, rows: Rows, look: Mapping[str, Look], directory: Path) -> None:
    known: dict[str, Callable[[Rows, Mapping[str, Look]], Figure]] = {p.name: p.draw for p in all_panels()}
    known |= {"paired_differences": forest.forest, "benchmarks": forest.benchmarks}
    with style():
        save(known[name](rows, look), directory / f"{name}.png", directory / f"{name}.svg")
