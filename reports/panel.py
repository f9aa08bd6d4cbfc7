"""A panel of the report: one figure, the rows it is drawn from, and what to say of it. The gallery draws all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .records import MatrixData
from .style import Look

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Where the page shows a panel.
Section = Literal["comparison", "frontier", "curves", "beta", "tuning", "strata", "judges"]


@dataclass(frozen=True)
class Panel:
    """One figure of the report.

    `rows` turns a matrix and its summary into a table (columns of `columns`); an empty table means that there is nothing to
    draw, which the report says with `absent`. `draw` makes the figure from those rows alone, so the CSV beside the figure
    is the whole truth. `section` is where the page shows it; a `headline` that can be drawn stands beside the verdict instead.
    """

    name: str
    title: str
    section: Section
    columns: Sequence[str]
    rows: Callable[[MatrixData, Mapping[str, Any]], list[dict[str, Any]]]
    draw: Callable[[Sequence[Mapping[str, Any]], Mapping[str, Look]], Figure]
    caption: str
    absent: str
    embed: Literal["png", "svg"] = "svg"
    headline: bool = False


def all_panels() -> list[Panel]:
    """Every panel that is drawn beside the gallery's own figures, in the order of the page."""
    from . import aggregate_panel, comparison_panels, frontier_panel, judge_panel, tuning_panels
    from .beta.panels import panels as beta_panels

    panels: list[Panel] = [*beta_panels(), judge_panel.PANEL, *comparison_panels.PANELS]
    panels += [*frontier_panel.PANELS, aggregate_panel.PANEL, *tuning_panels.PANELS]
    return panels
