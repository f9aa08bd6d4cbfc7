"""Training curves: thin lines are seeds, thick lines their mean, the band their range."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .labels import Arm
from .records import RunData, finite
from .style import Look, looks, save, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Log key, axis label with unit, panel title.
PANELS = (
    ("loss", "nats per pair", "Training loss (not comparable across beta)"),
    ("loss_at_beta0", "nats per pair", "Loss at the fixed beta"),
    ("delta", "nats", "Log-ratio margin delta"),
    ("dynamic_beta", "beta (1/nat)", "dynamic_beta"),
    ("rewards/accuracies", "share of pairs", "Reward accuracy"),
    ("log_prompt_perplexity", "nats per token", "Log prompt perplexity"),
)

CURVE_COLUMNS = ("measure", "label", "step", "mean", "low", "high", "seeds")

Floats = NDArray[np.float64]


def series(run: RunData, key: str) -> tuple[Floats, Floats]:
    """Steps and values of one logged key, shape (n,) each; a value that is absent or not finite is NaN."""
    steps = np.array([float(r["step"]) for r in run.steps], dtype=float)
    values = np.array([np.nan if (v := finite(r.get(key))) is None else v for r in run.steps], dtype=float)
    return steps, values


def seed_band(curves: Sequence[tuple[Floats, Floats]]) -> dict[str, Floats]:
    """Mean, least and greatest over seeds at every step that at least one seed logged; NaN values take no part."""
    steps = np.unique(np.concatenate([s for s, _ in curves])) if curves else np.empty(0)
    grid = np.full((len(curves), steps.size), np.nan)
    for row, (s, v) in enumerate(curves):
        grid[row, np.searchsorted(steps, s)] = v
    present = np.isfinite(grid).any(axis=0)
    steps, grid = steps[present], grid[:, present]
    if not steps.size:
        return {"step": steps, "mean": steps, "low": steps, "high": steps, "seeds": steps}
    return {
        "step": steps,
        "mean": np.nanmean(grid, axis=0),
        "low": np.nanmin(grid, axis=0),
        "high": np.nanmax(grid, axis=0),
        "seeds": np.isfinite(grid).sum(axis=0).astype(float),
    }


def curve_table(arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """The numbers behind the curves: mean and range over seeds per measure, method and step."""
    rows: list[dict[str, Any]] = []
    for key, _, _ in PANELS:
        for arm in arms:
            band = seed_band([series(run, key) for run in arm.runs if run.steps])
            for step, mean, low, high, seeds in zip(*band.values(), strict=True):
                rows.append(
                    {
                        "measure": key,
                        "label": arm.label,
                        "step": int(step),
                        "mean": mean,
                        "low": low,
                        "high": high,
                        "seeds": int(seeds),
                    }
                )
    return rows


def _panel(axes: Axes, arms: Sequence[Arm], look: dict[str, Look], key: str) -> bool:
    drawn = False
    faint = 0.45 if len(arms) <= 4 else 0.2  # many methods: let the means be read
    for arm in arms:
        curves = [c for run in arm.runs if np.isfinite((c := series(run, key))[1]).any()]
        style_ = look[arm.label]
        band = seed_band(curves)
        if not band["step"].size:
            continue
        drawn = True
        for steps, values in curves if len(curves) > 1 else []:
            axes.plot(steps, values, color=style_.color, linewidth=0.6, alpha=faint)
        every = max(1, band["step"].size // 6)
        axes.plot(
            band["step"],
            band["mean"],
            color=style_.color,
            linestyle=style_.dash,
            marker=style_.marker,
            markevery=every,
            markersize=4,
            linewidth=1.8,
            label=arm.label,
        )
        if len(curves) > 1:
            axes.fill_between(band["step"], band["low"], band["high"], color=style_.color, alpha=faint / 4, linewidth=0)
    return drawn


def training_curves(arms: Sequence[Arm], baseline: str | None = None) -> Figure:
    """Six panels against the optimiser step. A diverged run's line ends where its values stop being finite."""
    import matplotlib.pyplot as plt

    look = looks([a.label for a in arms], baseline)
    figure, grid = plt.subplots(2, 3, figsize=(11, 6), sharex=True, layout="constrained")
    handles: dict[str, Any] = {}
    for axes, (key, unit, title) in zip(grid.flat, PANELS, strict=True):
        if not _panel(axes, arms, look, key):
            axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", va="center", color="#6b7280")
        axes.set_title(title)
        axes.set_ylabel(unit)
        handles |= dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    for axes in grid[-1]:
        axes.set_xlabel("optimiser step")
    if handles:
        figure.legend(
            handles.values(),
            handles.keys(),
            loc="outside lower center",
            ncols=min(4, len(handles)),
            frameon=False,
            handlelength=3.5,
        )
    return figure


def save_training_curves(arms: Sequence[Arm], path: Path, baseline: str | None = None) -> None:
    """Draw the training curves of the arms into a .png or .svg."""
    with style():
        save(training_curves(arms, baseline), path)
