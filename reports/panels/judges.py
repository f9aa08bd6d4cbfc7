"""Panel: win rates against the reference, one small plot for each benchmark and judge."""

from matplotlib.figure import Figure

from reports.panels.base import ZERO, Looks, Panel, Rows, facets, groups, label_rows, mark
from reports.runs.records import MatrixData
from reports.schema import Estimate, JudgedArm, Summary
from reports.writing import Row

COLUMNS = (
    "benchmark",
    "judge",
    "label",
    "win_rate",
    "low",
    "high",
    "n",
    "wins",
    "ties",
    "losses",
    "without_verdict",
    "length_controlled",
    "length_controlled_low",
    "length_controlled_high",
    "position_consistency",
)


def _over(method: JudgedArm) -> Estimate:
    """What the interval is of: the method over seeds where it has some, else the policies there are."""
    return method.win_rate if method.over_seeds is None or method.over_seeds.low is None else method.over_seeds


def rows(matrix: MatrixData, summary: Summary) -> list[Row]:
    """One row per benchmark, judge and method that has comparisons with the reference."""
    return [
        {
            "benchmark": entry.benchmark,
            "judge": judge.name,
            "label": method.label,
            "win_rate": method.win_rate.value,
            "low": _over(method).low,
            "high": _over(method).high,
            "n": method.win_rate.n,
            "wins": method.win_rate.wins,
            "ties": method.win_rate.draws,
            "losses": method.win_rate.losses,
            "without_verdict": method.win_rate.failed,
            "length_controlled": method.length_controlled.value,
            "length_controlled_low": method.length_controlled.low,
            "length_controlled_high": method.length_controlled.high,
            "position_consistency": method.position.consistency.value if method.position else None,
        }
        for entry in summary.judges
        for judge in entry.judges
        for method in judge.against_reference
    ]


def draw(table: Rows, look: Looks) -> Figure:
    """Filled marks: plain win rate; open marks below them: length-controlled. The line at one half is the reference itself."""
    cells, labels = groups(table, "benchmark", "judge"), list(groups(table, "label"))
    figure, plots = facets(len(cells), 1.2 + 0.5 * len(labels), margin=(1.2, 0), least=0, sharey=True)
    for axes, ((benchmark, judge), found) in zip(plots, cells.items(), strict=True):
        axes.axvline(0.5, color=ZERO, linewidth=1)
        for row in found:
            place, seen = labels.index(row["label"]), look[row["label"]]
            mark(axes, row, ("win_rate", "low", "high"), place - 0.12, seen)
            controlled = ("length_controlled", "length_controlled_low", "length_controlled_high")
            mark(axes, row, controlled, place + 0.18, seen, size=5, width=0.9, hollow=True)
        label_rows(axes, labels)
        axes.set(xlim=(-0.02, 1.02), title=f"{benchmark}, judged by {judge}", xlabel="win rate against the reference")
    return figure


PANEL = Panel(
    name="judges",
    title="Win rate against the reference",
    section="judges",
    columns=COLUMNS,
    rows=rows,
    draw=draw,
    caption=(
        "Filled: win rate, ties counted one half; its bar is the 95 % interval over seeds and prompts (with one seed: over "
        "prompts). Open: length-controlled, its bar over prompts for the seeds that were trained. The line at one half is the "
        "reference."
    ),
    absent="No judge has compared answers with those of the reference.",
)
