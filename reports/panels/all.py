"""All panels of the report, in the order of the page."""

from __future__ import annotations

from reports.panels.base import Panel


def all_panels() -> list[Panel]:
    """Every panel that is drawn beside the gallery's own figures, in the order of the page."""
    from reports.panels import aggregate, comparison, frontier, judges, tuning
    from reports.panels.beta import panels as beta_panels

    panels: list[Panel] = [*beta_panels(), judges.PANEL, *comparison.PANELS]
    panels += [*frontier.PANELS, aggregate.PANEL, *tuning.PANELS]
    return panels
