"""All panels of the report: its own in the order of the page, then those that installed packages register.

A package adds one with an object of `reports.panels.base.Panel` and one line of its pyproject.toml:

    [project.entry-points."dpo_beta_harness.report_panels"]
    my_panel = "my_package.my_module:PANEL"
"""

from reports.panels import beta, frontier, judges, result, strata, tuning
from reports.panels.base import Panel
from reports.runs.records import ReportError
from trainers.common.plugins import Registry

ENTRY_POINT_GROUP = "dpo_beta_harness.report_panels"


def all_panels() -> list[Panel]:
    """Every panel, in the order in which they are drawn. Raises ReportError for a registered one that is none."""
    panels: list[Panel] = [result.RESULT, *frontier.PANELS, result.DIFFERENCES, *beta.PANELS]
    panels += [judges.PANEL, *tuning.PANELS, strata.PANEL]
    registry = Registry("report panel", {}, (ENTRY_POINT_GROUP,), (Panel,), ReportError)
    for name, target in sorted(registry.available().items()):
        panel = registry.load(name)
        if not isinstance(panel, Panel):
            raise ReportError(f"report panel {name!r}: {target} is not a reports.panels.base.Panel")
        if panel.name in {known.name for known in panels}:
            raise ReportError(f"report panel {name!r}: there is a panel {panel.name!r} already; give it another name")
        panels.append(panel)
    return panels
