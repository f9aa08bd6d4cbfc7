"""How the figures about dynamic_beta look. Each is drawn from the rows of its table, and tells methods apart in grey."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from reports.panels.style import Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
MOST_ARMS = 8
BETA = "dynamic_beta (1/nat)"
PROFILE = {
    "mean_beta": "mean beta (1/nat)",
    "spread": "spread: sd of log beta",
    "with_log_perplexity": "Spearman with log perplexity",
    "with_delta": "Spearman with delta",
}
NAMES = {
    "loss": "loss *",
    "gradient_weight": "gradient weight *",
    "grad_norm": "gradient norm *",
    "loss_at_beta0": "loss at fixed beta",
    "log_prompt_perplexity": "log perplexity",
    "prompt_tokens": "prompt tokens",
    "chosen_tokens": "chosen tokens",
    "rejected_tokens": "rejected tokens",
}


def chosen(labels: Sequence[str], most: int = MOST_ARMS) -> list[str]:
    """The labels to draw, in their order: one arm of every method first, then more, up to `most`."""
    unique = list(dict.fromkeys(labels))
    first = list({label.split("[")[0]: label for label in reversed(unique)}.values())
    ranked = [label for label in unique if label in first] + [label for label in unique if label not in first]
    kept = set(ranked[:most])
    return [label for label in unique if label in kept]


def _grid(count: int, width: float, height: float, most: int = 4, **kwargs: Any) -> tuple[Figure, list[Axes]]:
    import matplotlib.pyplot as plt

    columns = min(most, max(count, 1))
    rows = math.ceil(max(count, 1) / columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(max(width * columns, 4.2), height * rows), layout="constrained", squeeze=False, **kwargs
    )
    for axes in grid.flat[count:]:
        axes.set_visible(False)
    return figure, list(grid.flat[:count])


def _column(rows: Sequence[Row], name: str) -> np.ndarray:
    return np.array([np.nan if r.get(name) is None else r[name] for r in rows], dtype=float)


def _short(label: str, longest: int = 34) -> str:
    return label if len(label) <= longest else f"{label[: longest - 1]}…"


def fan(rows: Sequence[Row], look: Mapping[str, Look]) -> Figure:
    """Quantile fans of beta over steps, one box per arm; arms with a fixed beta are dotted lines in every box."""
    moving = chosen([r["label"] for r in rows if r["dynamic"]])
    still = chosen([r["label"] for r in rows if not r["dynamic"]], 2)
    figure, boxes = _grid(len(moving), 3.1, 2.7, sharex=True, sharey=True)
    for axes, label in zip(boxes, moving, strict=True):
        points = [r for r in rows if r["label"] == label and r["kind"] == "quantiles"]
        step, seen = _column(points, "step"), look[label]
        for low, high, alpha in (("q05", "q95", 0.18), ("q25", "q75", 0.38)):
            axes.fill_between(
                step, _column(points, low), _column(points, high), color=seen.color, alpha=alpha, linewidth=0
            )
        axes.plot(step, _column(points, "q50"), color=seen.color, linewidth=1.6)
        for other in still:
            flat = [r for r in rows if r["label"] == other and r["kind"] == "quantiles"]
            axes.plot(_column(flat, "step"), _column(flat, "q50"), color="#555555", linestyle=":", linewidth=1)
        marks = _column([r for r in rows if r["label"] == label and r["kind"] == "collapse"], "step")
        if marks.size and step.size:
            height = np.interp(marks, step, _column(points, "q50"))
            axes.plot(marks, height, "X", color="black", markersize=7, markeredgecolor="white", linestyle="none")
        axes.set_title(_short(label))
        axes.set_xlabel("optimiser step")
        axes.set_ylabel(BETA)
        axes.label_outer()
    if boxes and _wide(rows):
        boxes[0].set_yscale("log")
    return figure


def _wide(rows: Sequence[Row]) -> bool:
    """Whether beta spans more than a factor of ten, so that only a log axis shows it."""
    low, high = _column(rows, "q05"), _column(rows, "q95")
    low = low[np.isfinite(low)]
    return bool(low.size and low.min() > 0 and np.nanmax(high) / low.min() > 10)


def curve(label_x: str) -> Callable[[Sequence[Row], Mapping[str, Look]], Figure]:
    """A drawing function for beta in bins of a quantity, one box per arm."""

    def drawn(rows: Sequence[Row], look: Mapping[str, Look]) -> Figure:
        arms = chosen([r["label"] for r in rows])
        figure, boxes = _grid(len(arms), 3.1, 2.7, sharex=True, sharey=True)
        for axes, label in zip(boxes, arms, strict=True):
            points, seen = [r for r in rows if r["label"] == label], look[label]
            x, mean = _column(points, "x"), _column(points, "mean")
            low, high = _column(points, "low"), _column(points, "high")
            axes.fill_between(
                x, _column(points, "q10"), _column(points, "q90"), color=seen.color, alpha=0.18, linewidth=0
            )
            axes.vlines(x, low, high, color=seen.color, linewidth=2)
            axes.plot(x, mean, color=seen.color, marker=seen.marker, markersize=4, linewidth=1)
            axes.set_title(_short(label))
            axes.set_ylabel(BETA)
            axes.set_xlabel(label_x)
            axes.label_outer()
        figure.supxlabel(label_x, fontsize=9)
        for axes in boxes:
            axes.set_xlabel("")
        return figure

    return drawn


def lags(rows: Sequence[Row], look: Mapping[str, Look]) -> Figure:
    """Cross-correlations by lag, one box per arm (down) and quantity (across)."""
    import matplotlib.pyplot as plt

    arms = chosen([r["label"] for r in rows], 4)
    names = [n for n in ("loss", "loss_at_beta0", "delta", "grad_norm") if any(r["against"] == n for r in rows)]
    figure, grid = plt.subplots(
        len(arms), len(names), figsize=(2.6 * len(names) + 0.6, 1.8 * len(arms) + 0.6),
        layout="constrained", squeeze=False, sharex=True, sharey=True,
    )  # fmt: skip
    for down, label in enumerate(arms):
        for across, name in enumerate(names):
            axes = grid[down, across]
            points = [r for r in rows if r["label"] == label and r["against"] == name]
            lag, mean, band = (_column(points, k) for k in ("lag", "mean", "band"))
            axes.fill_between(lag, -band, band, color="#9aa2ab", alpha=0.35, linewidth=0)
            axes.axhline(0, color="#6b7280", linewidth=0.8)
            axes.axvline(0, color="#6b7280", linewidth=0.8, linestyle=":")
            axes.vlines(lag, _column(points, "low"), _column(points, "high"), color=look[label].color, linewidth=1.2)
            axes.plot(lag, mean, color=look[label].color, marker=look[label].marker, markersize=3, linewidth=0.8)
            if across == 0:
                axes.set_ylabel(_short(label, 22))
            if down == 0:
                axes.set_title(f"beta with {NAMES.get(name, name)}")
            if down == len(arms) - 1:
                axes.set_xlabel("lag (logged steps)")
    figure.supylabel("correlation of step-to-step changes", fontsize=9)
    return figure


def associations(rows: Sequence[Row], look: Mapping[str, Look]) -> Figure:
    """Spearman of beta with every quantity, one box per arm."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    arms = chosen([r["label"] for r in rows])
    names = list(dict.fromkeys(r["against"] for r in rows))
    figure, boxes = _grid(len(arms), 2.9, 0.28 * len(names) + 1.0, sharex=True, sharey=True)
    for axes, label in zip(boxes, arms, strict=True):
        seen = look[label]
        axes.axvline(0, color="#6b7280", linewidth=0.8)
        for row in (r for r in rows if r["label"] == label):
            y = names.index(row["against"])
            if row.get("null_low") is not None:
                axes.barh(y, row["null_high"] - row["null_low"], left=row["null_low"], height=0.7, color="#b6bcc4")
            if row["pooled"] is not None:
                axes.plot(row["pooled"], y + 0.2, marker="o", markersize=5, color="none", markeredgecolor="#333333")
            if row["within_low"] is not None:
                axes.plot([row["within_low"], row["within_high"]], [y - 0.1] * 2, color=seen.color, linewidth=2)
            if row["within"] is not None:
                axes.plot(row["within"], y - 0.1, marker=seen.marker, color=seen.color, markersize=5)
            if row["simpson"]:
                axes.plot(0, y, marker="o", markersize=15, color="none", markeredgecolor="black", clip_on=False)
        axes.set_title(_short(label))
        axes.set_yticks(range(len(names)), [NAMES.get(n, n) for n in names])
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlim(-1.05, 1.05)
        axes.set_xlabel("Spearman correlation with beta")
        axes.label_outer()
        axes.grid(visible=False, axis="y")
    handles = [
        Line2D([], [], marker="o", color="#333333", linewidth=2, label="within runs"),
        Line2D([], [], marker="o", color="none", markeredgecolor="#333333", label="all rows pooled (naive)"),
        Patch(color="#b6bcc4", label="null of the loss"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return figure


def controls(rows: Sequence[Row], look: Mapping[str, Look]) -> Figure:
    """Level, spread and links of beta: methods and their controls down, quantities across."""
    import matplotlib.pyplot as plt

    family = [r for r in rows if r["control"] or r["label"].split("[")[0] in {q["parent"] for q in rows}]
    arms = chosen([r["label"] for r in family or rows], 12)
    figure, grid = plt.subplots(
        1, len(PROFILE), figsize=(11, 0.42 * len(arms) + 1.1), layout="constrained", sharey=True
    )  # fmt: skip
    for axes, (name, title) in zip(grid, PROFILE.items(), strict=True):
        for row in (r for r in rows if r["label"] in arms):
            y, seen = arms.index(row["label"]), look[row["label"]]
            if row[f"{name}_low"] is not None:
                axes.plot([row[f"{name}_low"], row[f"{name}_high"]], [y, y], color=seen.color, linewidth=2)
            if row[name] is not None:
                face = "white" if row["control"] else seen.color
                axes.plot(
                    row[name],
                    y,
                    marker=seen.marker,
                    color=seen.color,
                    markersize=7,
                    markerfacecolor=face,
                    clip_on=False,
                )
        if name.startswith("with_"):
            axes.axvline(0, color="#6b7280", linewidth=0.8)
            axes.set_xlim(-1.05, 1.05)
        else:
            axes.set_xlim(left=0)
        axes.set_xlabel(title)
        axes.set_yticks(range(len(arms)), [_short(a) for a in arms])
        axes.set_ylim(len(arms) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
    grid[0].set_title("hollow: control", loc="left", fontsize=8)
    return figure
