"""Training curves: thick lines are means over seeds, bands their range, thin lines seeds (up to 60 runs)."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from reports.panels.base import Look, looks, save, style
from reports.runs.arms import Arm
from reports.runs.records import RunData, finite
from reports.writing import Row

#: Log key, axis label with unit, panel title.
PANELS = (
    ("loss", "nats per pair", "Training loss (not comparable across beta)"),
    ("loss_at_beta0", "nats per pair", "Loss at the fixed beta"),
    ("delta", "nats", "Log-ratio margin delta"),
    ("dynamic_beta", "beta (1/nat)", "dynamic_beta"),
    ("rewards/accuracies", "share of pairs", "Reward accuracy"),
    ("log_prompt_perplexity", "nats per token", "Log prompt perplexity"),
)


@dataclass(frozen=True, slots=True)
class Axis:
    """What the curves are drawn against: a log key, its label, the name of the figure and of its table."""

    key: str
    label: str
    figure: str


BY_STEP = Axis("step", "optimiser step", "training_curves")
BY_EXAMPLES = Axis("examples_seen", "preference pairs seen", "training_curves_by_examples")
AXES = (BY_STEP, BY_EXAMPLES)

#: Width and height in inches.
SIZE = (11.0, 6.0)
#: Names in a legend; with more methods the rest is told from the tables.
MOST_NAMES = 24
#: With more runs a line for each seed is a blur that takes most of the time; the band shows their range.
MOST_LINES = 60
#: A curve may leave the range of the other points by this many of their interquartile ranges before the axis is cut.
FAR = 15.0

Floats = NDArray[np.float64]


def curve_columns(axis: Axis = BY_STEP) -> tuple[str, ...]:
    """Columns of `curve_table`."""
    return ("measure", "label", axis.key, "mean", "low", "high", "seeds")


class Curves:
    """What runs logged along one axis. Every series is made once: a matrix needs each for a table and several figures."""

    def __init__(self, axis: Axis = BY_STEP) -> None:
        self.axis = axis
        self._series: dict[tuple[str, str], tuple[Floats, Floats]] = {}

    def of(self, run: RunData, key: str) -> tuple[Floats, Floats]:
        """Places on the axis and values of one logged key, shape (n,) each; what is absent or not finite is NaN."""
        if (run.run_id, key) not in self._series:
            logged = np.array([[finite(r.get(name)) for name in (self.axis.key, key)] for r in run.steps], dtype=float)
            places, values = logged.reshape(-1, 2).T  # None is NaN
            self._series[run.run_id, key] = places[np.isfinite(places)], values[np.isfinite(places)]
        return self._series[run.run_id, key]

    def is_lost(self, run: RunData, key: str) -> bool:
        """Whether a value stops being finite. A key that is absent was not measured; one that is there was lost."""
        if np.isfinite(self.of(run, key)[1]).all():
            return False
        return any(record.get(key) is not None and finite(record[key]) is None for record in run.steps)


def seed_band(curves: Sequence[tuple[Floats, Floats]]) -> dict[str, Floats]:
    """Mean, least and greatest over seeds at every step that at least one seed logged; NaN values take no part."""
    series = [pd.Series(values, index=steps) for steps, values in curves]
    kept = [one[~one.index.duplicated(keep="last")] for one in series]  # of a resumed run the later record
    found = pd.concat([pd.Series(dtype=float), *kept]).dropna().groupby(level=0).agg(["mean", "min", "max", "count"])
    names = {"mean": "mean", "low": "min", "high": "max", "seeds": "count"}
    return {"step": found.index.to_numpy(dtype=float)} | {k: found[v].to_numpy(dtype=float) for k, v in names.items()}


def curve_table(arms: Sequence[Arm], curves: Curves) -> list[Row]:
    """The numbers behind the curves: mean and range over seeds per measure, method and place on the axis."""
    rows: list[Row] = []
    for key, _, _ in PANELS:
        for arm in arms:
            band = seed_band([curves.of(run, key) for run in arm.runs if run.steps])
            points = zip(*(values.tolist() for values in band.values()), strict=True)
            shared = {"measure": key, "label": arm.label}
            rows += [
                {**shared, curves.axis.key: int(x), "mean": mean, "low": low, "high": high, "seeds": int(seeds)}
                for x, mean, low, high, seeds in points
            ]
    return rows


def robust_limits(values: Floats) -> tuple[float, float] | None:
    """The range to show where a few values lie far outside the rest, as of a run that diverged; None to show all.

    Far is beyond FAR interquartile ranges from the quartiles.
    """
    values = values[np.isfinite(values)]
    if values.size < 8:
        return None
    first, third = np.quantile(values, (0.25, 0.75))
    reach = FAR * max(third - first, 1e-9 * max(1.0, abs(first), abs(third)))
    usual = values[(values >= first - reach) & (values <= third + reach)]
    if usual.size == values.size or third == first:
        return None
    low, high = float(usual.min()), float(usual.max())
    margin = 0.08 * (high - low or 1.0)
    return low - margin, high + margin


def _ends(axes: Axes, arms: Sequence[Arm], look: Mapping[str, Look], key: str, curves: Curves) -> int:
    """A cross where a run's values stop being finite; returns how many runs that befell."""
    lost = [(run, look[arm.label].color) for arm in arms for run in arm.runs if curves.is_lost(run, key)]
    for run, color in lost:
        steps, values = curves.of(run, key)
        last = np.flatnonzero(np.isfinite(values))[-1:]
        if last.size:
            axes.plot(steps[last], values[last], marker="x", color=color, markersize=8, mew=2, ls="none")
    return len(lost)


def _remark(axes: Axes, remarks: Sequence[str]) -> None:
    """Say it in the corner of the plot, with room above the data."""
    box = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1}
    axes.text(
        0.01, 0.985, "\n".join(remarks), transform=axes.transAxes, va="top", fontsize=7, color="#8a3b12", bbox=box
    )  # fmt: skip
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.12 * len(remarks) * (high - low))


def _panel(axes: Axes, arms: Sequence[Arm], look: Mapping[str, Look], key: str, made: Curves) -> bool:
    """Draw one measure of all arms; whether there was anything to draw."""
    lines = sum(len(a.runs) for a in arms) <= MOST_LINES
    seen: list[Floats] = []
    faint = 0.45 if len(arms) <= 4 else 0.2  # many methods: let the means be read
    turns = min(len(arms), 4)
    for place, arm in enumerate(arms):
        curves = [c for run in arm.runs if np.isfinite((c := made.of(run, key))[1]).any()]
        one, band = look[arm.label], seed_band(curves)
        if not band["step"].size:
            continue
        seen += [values for _, values in curves]
        for steps, values in curves if len(curves) > 1 and lines else []:
            axes.plot(steps, values, color=one.color, linewidth=0.6, alpha=faint)
        # Markers take turns, so that curves that coincide remain distinguishable, in grey too.
        every = max(turns, band["step"].size // 6)
        first = place % turns * every // turns % band["step"].size
        axes.plot(
            band["step"], band["mean"], color=one.color, linestyle=one.dash, marker=one.marker, markevery=(first, every),
            markersize=4, linewidth=1.8, label=arm.label,
        )  # fmt: skip
        if len(curves) > 1:
            axes.fill_between(band["step"], band["low"], band["high"], color=one.color, alpha=faint / 4, linewidth=0)
    if not seen:
        return False
    remarks = []
    values = np.concatenate(seen)
    if limits := robust_limits(values):
        axes.set_ylim(*limits)
        outside = int(((values < limits[0]) | (values > limits[1])).sum())
        remarks.append(f"{outside} of {values.size} values lie outside")
    if lost := _ends(axes, arms, look, key, made):
        remarks.append(f"{lost} run{'s' if lost > 1 else ''} ended in NaN or inf (x)")
    if remarks:
        _remark(axes, remarks)
    return True


def training_curves(arms: Sequence[Arm], baseline: str | None = None, curves: Curves | None = None) -> Figure:
    """Six panels against the axis of `curves` (by default the step).

    A run's line ends, with a cross, where its values stop being finite. Values far outside the rest are cut off and
    counted in the panel, so that one run that diverged does not flatten all the others.
    """
    figure, grid = plt.subplots(2, 3, figsize=SIZE, sharex=True, layout="constrained")
    fill(figure, grid, arms, baseline, curves)
    return figure


def fill(
    figure: Figure, grid: NDArray[Any], arms: Sequence[Arm], baseline: str | None = None, curves: Curves | None = None
) -> None:
    """Draw the curves of the arms and their legend into the empty axes of `grid`, shape (2, 3)."""
    curves = curves or Curves()
    look = looks([a.label for a in arms], baseline)
    if len(arms) == 1:  # nothing to distinguish
        look = {label: replace(one, dash="-") for label, one in look.items()}
    handles: dict[str, Any] = {}
    for axes, (key, unit, title) in zip(grid.flat, PANELS, strict=True):
        if not _panel(axes, arms, look, key, curves):
            axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", va="center", color="#6b7280")
        axes.set_title(title, y=1.0)  # at a given height: finding one takes as long as all the rest
        axes.set_ylabel(unit)
        handles |= dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    for axes in grid[-1]:
        axes.set_xlabel(curves.axis.label)
    if handles:
        _legend(figure, handles, curves.axis, sum(len(a.runs) for a in arms))


def _legend(figure: Figure, handles: Mapping[str, Any], axis: Axis, runs: int) -> None:
    """The methods' names below all plots, so many of them as fit; the figure grows with them."""
    named = dict(list(handles.items())[:MOST_NAMES])
    more = len(handles) - len(named)
    notes = [f"and {more} more: see tables/{axis.figure}.csv"] if more else []
    if runs > MOST_LINES:
        notes.append("lines: means over seeds, bands: their range, no line for each seed")
    legend = figure.legend(
        list(named.values()), list(named), title="; ".join(notes) or None, loc="outside lower center",
        ncols=min(4, len(named)), frameon=False, handlelength=3.5,
    )  # fmt: skip
    width, height = SIZE
    figure.set_size_inches(width, height + 0.2 * max(0, -(-len(named) // 4) - 1))
    legend.set_in_layout(True)


# The training curves of many runs, one picture each, all drawn in one figure.
#
# A matrix draws hundreds of these. Making axes and ticks takes more than half the time of a drawing, so they are
# kept, and only what a run put into them is taken out again.


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
