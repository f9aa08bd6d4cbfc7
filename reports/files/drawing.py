"""The figures that are made from the rows of their table, drawn by this process and, for a large matrix, one beside it."""

from __future__ import annotations

import pickle
import sys
import tempfile
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
    """Write directory/NAME.png and .svg of every name in `rows`.

    Each process takes the next figure that nobody has begun. Raises RuntimeError with what the other process said.
    """
    if len(look) < METHODS_FOR_TWO or processes.cores() < 2:
        for name in rows:
            _draw(name, rows[name], look, directory)
        return
    with tempfile.TemporaryDirectory(prefix="figures-") as folder:
        shared = Path(folder)
        (shared / "rows.pickle").write_bytes(pickle.dumps((dict(rows), dict(look))))
        other = processes.start("reports.files.drawing", shared, directory.absolute())
        try:
            _share(shared, rows, look, directory)
            _, said = other.communicate()
            if other.returncode:
                raise RuntimeError(f"drawing figures ended with {other.returncode}: {said[-2000:]}")
        finally:
            if other.poll() is None:
                other.kill()
                other.communicate()


def _share(shared: Path, rows: Mapping[str, Rows], look: Mapping[str, Look], directory: Path) -> None:
    for name in rows:
        try:
            (shared / name).mkdir()
        except FileExistsError:
            continue
        _draw(name, rows[name], look, directory)


def _draw(name: str, rows: Rows, look: Mapping[str, Look], directory: Path) -> None:
    known: dict[str, Callable[[Rows, Mapping[str, Look]], Figure]] = {p.name: p.draw for p in all_panels()}
    known |= {"paired_differences": forest.forest, "benchmarks": forest.benchmarks}
    with style():
        save(known[name](rows, look), directory / f"{name}.png", directory / f"{name}.svg")


def main(arguments: Sequence[str]) -> int:
    """The process beside: `python -m reports.files.drawing FOLDER DIRECTORY`."""
    shared, directory = Path(arguments[0]), Path(arguments[1])
    # Written by the process that started this one, into a folder that only this user can open.
    rows, look = pickle.loads((shared / "rows.pickle").read_bytes())
    _share(shared, rows, look, directory)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
