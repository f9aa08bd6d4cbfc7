"""The figure of the report: reward against KL, and every method's difference to the baseline as an estimation plot."""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.panels.base import QUIET, ZERO, Look, Looks, Panel, Rows, groups, label_rows, mark
from reports.panels.frontier import FRONTIER_COLUMNS, KL_NAME, MOST_INSIDE, SIZE, draw_frontier, frontier_rows
from reports.runs.records import MatrixData
from reports.schema import Summary
from reports.writing import Row

#: `level` is method (the mean with its interval), seed, or the positive or negative control of the instrument.
COLUMNS = (
    "level", "label", "against", "at", "difference", "low", "high", "min_effect", "verdict", "adjusted_p", "metric",
)  # fmt: skip
#: Height of one line of the estimation plot, in inches.
LINE = 0.42
_INSTRUMENT = Look(QUIET, "-", "D")


def difference_rows(_: MatrixData, summary: Summary) -> list[Row]:
    """A row a method and a row a seed, controls last; before them the instrument's two, where the matrix has them."""
    found, seen = summary.inference, summary.sensitivity
    shared: Row = dict.fromkeys(COLUMNS) | {"at": found.at, "metric": found.metric, "against": summary.baseline.value}
    rows = [
        shared
        | {"level": one.role, "label": f"{one.role} control", "difference": one.difference}
        | {"low": one.ci_low, "high": one.ci_high}
        for one in ((seen.positive, seen.negative) if seen else ())
    ]
    for r in found.rows:
        # the band says what counts as equivalent: nothing where the matrix failed its own controls
        band = r.min_effect if seen is None or seen.nulls_count else None
        head = shared | {"label": found.named(r), "against": r.against, "min_effect": band}
        mean = {"difference": r.difference.value, "low": r.difference.low, "high": r.difference.high}
        rows.append(head | {"level": "method", "verdict": r.verdict, "adjusted_p": r.adjusted_p.value} | mean)
        rows += [head | {"level": "seed", "difference": value} for value in r.seed_differences]
    return rows


def draw_differences(axes: Axes, rows: Rows, look: Looks) -> None:
    """Dots are seeds, the filled mark with its bar the mean and its interval; the band is what counts as equivalent."""
    by_label = groups(rows, "label")
    margins = {r["min_effect"] for r in rows if r["level"] == "method"} - {None, 0}
    if len(margins) == 1:
        (m,) = margins
        axes.axvspan(-m, m, color="#dfe3e8", linewidth=0, zorder=0)
    axes.axvline(0, color=ZERO, linewidth=1)
    for place, (label, mine) in enumerate(by_label.items()):
        seen = look.get(label.partition(" vs ")[0], _INSTRUMENT)
        for row in mine:
            if row["level"] == "seed":
                axes.plot(
                    row["difference"], place - 0.17, marker=seen.marker, markersize=4.5, color=seen.color, alpha=0.55,
                    markeredgewidth=0,
                )  # fmt: skip
            else:
                mark(axes, row, ("difference", "low", "high"), place + 0.12, seen, solid_capstyle="butt", zorder=3)
    label_rows(axes, list(by_label))
    instrument = sum(mine[0]["level"] in ("positive", "negative") for mine in by_label.values())
    if instrument:
        axes.axhline(instrument - 0.5, color=ZERO, linewidth=0.8)
    axes.locator_params(axis="x", nbins=6)
    where = " at equal KL" if rows[0]["at"] == "matched_kl" else ""
    band = f" (grey: within {next(iter(margins)):g})" if len(margins) == 1 else ""
    axes.set(xlabel=f"difference to {rows[-1]['against']}{where}{band}")


def _height(rows: Rows) -> float:
    return float(max(SIZE[1], 0.9 + LINE * len({r["label"] for r in rows})))


def _draw_alone(rows: Rows, look: Looks) -> Figure:
    figure, axes = plt.subplots(figsize=(SIZE[0], _height(rows)), layout="constrained")
    draw_differences(axes, rows, look)
    return figure


# --- both side by side, for paper


def _both_rows(matrix: MatrixData, summary: Summary) -> list[Row]:
    differences = difference_rows(matrix, summary)
    known = any(row["difference"] is not None for row in differences)
    parts = (("reward", frontier_rows("kl", matrix, summary)), ("difference", differences if known else []))
    return [{c: row.get(c) for c in _BOTH} | {"panel": name} for name, rows in parts for row in rows]


_BOTH = ("panel", *dict.fromkeys((*FRONTIER_COLUMNS, *COLUMNS)))


def _draw_both(rows: Rows, look: Looks) -> Figure:
    """Two panels of one height; one alone where KL was not measured or nothing was compared."""
    parts = groups(rows, "panel")
    size = (2 * SIZE[0] if len(parts) > 1 else 1.4 * SIZE[0], _height(parts.get("difference", [])))
    figure, grid = plt.subplots(1, len(parts), figsize=size, layout="constrained", squeeze=False)
    for axes, (name, mine) in zip(grid[0], parts.items(), strict=True):
        if name == "reward":
            draw_frontier(axes, mine, look, "kl", KL_NAME)
            if len(axes.get_legend_handles_labels()[1]) > MOST_INSIDE:  # the names of the other panel tell
                axes.get_legend().remove()
        else:
            draw_differences(axes, mine, look)
    return figure


_HOW = (
    "Dots: single seeds. Mark and bar: the mean over seeds and prompts with its 95 % interval. Right of zero the method is "
    "better."
)
RESULT = Panel(
    name="result",
    title="Reward against KL, and differences to the baseline",
    section="headline",
    columns=_BOTH,
    rows=_both_rows,
    draw=_draw_both,
    caption="Reward against KL: thick lines are methods from the reference (star) through their checkpoints, thin lines "
    f"seeds. Differences: {_HOW[0].lower()}{_HOW[1:]}",
    absent="Neither KL to the reference nor a difference to the baseline is known.",
)
DIFFERENCES = Panel(
    name="differences",
    title="Differences, every seed a dot",
    section="headline",
    columns=COLUMNS,
    rows=difference_rows,
    draw=_draw_alone,
    caption=_HOW,
    absent="No method shares a seed and prompts with the baseline.",
    needs="difference",
)
