"""The training curves of many runs, one picture each, all drawn in one figure.

A matrix draws hundreds of these. Making axes and ticks takes more than half the time of a drawing, so they are kept, and only
what a run put into them is taken out again.
"""

from __future__ import annotations

import functools
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from reports.panels.curves import SIZE, fill
from reports.panels.style import save, style
from reports.runs.arms import Arm


class RunCurves:
    """A figure of six panels at fixed places, for one run at a time. Its pictures do not depend on what it drew before."""

    def __init__(self) -> None:
        with style():
            self.figure = Figure(figsize=SIZE)
            FigureCanvasAgg(self.figure)
            self.grid = self.figure.subplots(2, 3, sharex=True)
            for axes in self.grid.flat:
                # Half of the time goes into the labels of ticks, and a quarter into measuring them to place those of the axes.
                axes.locator_params(nbins=5)
                axes.xaxis.set_label_coords(0.5, -0.125)
                axes.yaxis.set_label_coords(-0.175, 0.5)
            self.figure.subplots_adjust(left=0.065, right=0.99, top=0.95, bottom=0.125, wspace=0.27, hspace=0.16)

    def save(self, arm: Arm, path: Path, baseline: str | None = None) -> None:
        """Draw the curves of an arm of one run into a .png or .svg."""
        self._empty()
        with style():
            fill(self.figure, self.grid, [arm], baseline)
            save(self.figure, path)

    def _empty(self) -> None:
        for legend in list(self.figure.legends):
            legend.remove()
        for axes in self.grid.flat:
            for artist in [*axes.lines, *axes.texts, *axes.collections]:
                artist.remove()
            axes.relim()
            axes.set(xlim=(0, 1), ylim=(0, 1))  # the limits of axes that nothing was drawn in yet
        for axes in self.grid.flat:  # after all limits are set: setting one ends the scaling of all that share it
            axes.set_autoscale_on(True)


@functools.cache
def _shared() -> RunCurves:
    return RunCurves()


def save_run_curves(arm: Arm, path: Path, baseline: str | None = None) -> None:
    """Draw the curves of an arm of one run, by step, into a .png or .svg."""
    _shared().save(arm, path, baseline)
