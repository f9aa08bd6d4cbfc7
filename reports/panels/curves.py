"""Training curves: thick lines are means over seeds, bands their range, thin lines seeds (up to 60 runs)."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
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
from reports.runs import Arm, finite
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


#: What the curves are drawn against, by log key: its label, and the name of the figure and of its table.
AXES = {
    "step": ("optimiser step", "training_curves"),
    "examples_seen": ("preference pairs seen", "training_curves_by_examples"),
}

#: Width and height in inches.
SIZE = (11.0, 6.0)
#: Names in a legend; with more methods the rest is told from the tables.
MOST_NAMES = 24
#: With more runs a line for each seed is a blur that takes most of the time; the band shows their range.
MOST_LINES = 60
#: A curve may leave the range of the other points by this many of their interquartile ranges before the axis is cut.
FAR = 15.0

Floats = NDArray[np.float64]
#: By measure and label: what each run of the arm logged, by place on the axis; absent and infinite values are NaN.
Logged = Mapping[tuple[str, str], Sequence[pd.Series]]


def logged(arms: Sequence[Arm], axis: str = "step") -> Logged:
    """The curves of the runs along an axis, one for each run of an arm, for `curve_table` and `training_curves`."""
    found: dict[tuple[str, str], list[pd.Series]] = {(key, arm.label): [] for key, _, _ in PANELS for arm in arms}
    for arm in arms:
        for run in arm.runs:
            names = [axis, *(key for key, _, _ in PANELS)]
            values = np.array([[finite(r.get(name)) for name in names] for r in run.steps], dtype=float)  # None is NaN
            table = pd.DataFrame(values.reshape(-1, len(names)), columns=names).dropna(subset=[axis])
            for key, curve in table.set_index(axis).items():
                found[str(key), arm.label].append(curve)
    return found


def seed_band(curves: Sequence[pd.Series]) -> pd.DataFrame:
    """Mean, low, high and number of seeds at every step that at least one seed logged; NaN values take no part."""
    kept = [one[~one.index.duplicated(keep="last")] for one in curves]  # of a resumed run the later record
    every = pd.concat([pd.Series(dtype=float), *kept]).dropna()
    return every.groupby(level=0).agg(mean="mean", low="min", high="max", seeds="count")


def curve_table(curves: Logged, axis: str = "step") -> list[Row]:
    """The numbers behind the curves: mean and range over seeds per measure, method and place on the axis."""
    return [
        {"measure": key, "label": label, axis: int(x), "mean": mean, "low": low, "high": high, "seeds": seeds}
        for (key, label), found in curves.items()
        for x, mean, low, high, seeds in seed_band(found).itertuples()
    ]


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


def _remark(axes: Axes, remarks: Sequence[str]) -> None:
    """Say it in the corner of the plot, with room above the data."""
    box = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1}
    axes.text(
        0.01, 0.985, "\n".join(remarks), transform=axes.transAxes, va="top", fontsize=7, color="#8a3b12", bbox=box
    )  # fmt: skip
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.12 * len(remarks) * (high - low))


def _panel(axes: Axes, arms: Sequence[Arm], look: Mapping[str, Look], key: str, made: Logged) -> bool:
    """Draw one measure of all arms; whether there was anything to draw."""
    lines = sum(len(a.runs) for a in arms) <= MOST_LINES
    seen: list[pd.Series] = []
    faint = 0.45 if len(arms) <= 4 else 0.2  # many methods: let the means be read
    turns, lost = min(len(arms), 4), 0
    for place, arm in enumerate(arms):
        curves = [curve for curve in made[key, arm.label] if curve.notna().any()]
        one, band = look[arm.label], seed_band(curves)
        if band.empty:
            continue
        seen += curves
        for curve in curves if len(curves) > 1 and lines else []:
            axes.plot(curve.index, curve, color=one.color, linewidth=0.6, alpha=faint)
        # Markers take turns, so that curves that coincide remain distinguishable, in grey too.
        every = max(turns, len(band) // 6)
        first = place % turns * every // turns % len(band)
        axes.plot(
            band.index, band["mean"], color=one.color, linestyle=one.dash, marker=one.marker, markevery=(first, every),
            markersize=4, linewidth=1.8, label=arm.label,
        )  # fmt: skip
        if len(curves) > 1:
            axes.fill_between(band.index, band["low"], band["high"], color=one.color, alpha=faint / 4, linewidth=0)
    if not seen:
        return False
    remarks = []
    values = pd.concat(seen).to_numpy()
    if limits := robust_limits(values):
        axes.set_ylim(*limits)
        outside = int(((values < limits[0]) | (values > limits[1])).sum())
        remarks.append(f"{outside} of {values.size} values lie outside")
    for arm in arms:
        for run, curve in zip(arm.runs, made[key, arm.label], strict=True):
            # A key that is absent was not measured; one that is there and no number was lost.
            if curve.hasnans and any(r.get(key) is not None and finite(r[key]) is None for r in run.steps):
                lost += 1
                last = curve.dropna()[-1:]
                axes.plot(last.index, last, marker="x", color=look[arm.label].color, markersize=8, mew=2, ls="none")
    if lost:
        remarks.append(f"{lost} run{'s' if lost > 1 else ''} ended in NaN or inf (x)")
    if remarks:
        _remark(axes, remarks)
    return True


def training_curves(arms: Sequence[Arm], baseline: str | None, curves: Logged, axis: str = "step") -> Figure:
    """Six panels of `curves` against their axis.

    A run's line ends, with a cross, where its values stop being finite. Values far outside the rest are cut off and
    counted in the panel, so that one run that diverged does not flatten all the others.
    """
    figure, grid = plt.subplots(2, 3, figsize=SIZE, sharex=True, layout="constrained")
    _fill(figure, grid, arms, baseline, curves, axis)
    return figure


def _fill(
    figure: Figure, grid: NDArray[Any], arms: Sequence[Arm], baseline: str | None, curves: Logged, axis: str = "step"
) -> None:
    """Draw the curves of the arms and their legend into the empty axes of `grid`, shape (2, 3)."""
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
        axes.set_xlabel(AXES[axis][0])
    if handles:
        _legend(figure, handles, axis, sum(len(a.runs) for a in arms))


def _legend(figure: Figure, handles: Mapping[str, Any], axis: str, runs: int) -> None:
    """The methods' names below all plots, so many of them as fit; the figure grows with them."""
    named = dict(list(handles.items())[:MOST_NAMES])
    more = len(handles) - len(named)
    notes = [f"and {more} more: see tables/{AXES[axis][1]}.csv"] if more else []
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


@functools.cache
def _kept() -> tuple[Figure, NDArray[Any]]:
    """A figure of six panels at fixed places, shape (2, 3), for one run at a time."""
    with style():
        figure = Figure(figsize=SIZE)
        FigureCanvasAgg(figure)
        grid = figure.subplots(2, 3, sharex=True)
        for axes in grid.flat:
            # Half of the time goes into the labels of ticks, and a quarter into measuring them to place those of the axes.
            axes.locator_params(nbins=5)
            axes.xaxis.set_label_coords(0.5, -0.125)
            axes.yaxis.set_label_coords(-0.175, 0.5)
        figure.subplots_adjust(left=0.065, right=0.99, top=0.95, bottom=0.125, wspace=0.27, hspace=0.16)
    return figure, grid


def save_run_curves(arm: Arm, path: Path) -> None:
    """Draw the curves of an arm of one run, by step, into a .png or .svg; no picture depends on those before it."""
    figure, grid = _kept()
    for legend in list(figure.legends):
        legend.remove()
    for axes in grid.flat:
        for artist in [*axes.lines, *axes.texts, *axes.collections]:
            artist.remove()
        axes.relim()
        axes.set(xlim=(0, 1), ylim=(0, 1))  # the limits of axes that nothing was drawn in yet
    for axes in grid.flat:  # after all limits are set: setting one ends the scaling of all that share it
        axes.set_autoscale_on(True)
    with style():
        _fill(figure, grid, [arm], None, logged([arm]))
        save(figure, path)
