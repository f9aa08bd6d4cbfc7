"""A panel that another package registers is drawn, tabled and shown like the report's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.files.report import write_report
from reports.panels.all import ENTRY_POINT_GROUP, all_panels
from reports.runs.records import ReportError
from tests.reports.builder import FIXED, write_matrix
from trainers.common.plugins import entry_points

MODULE = """
from matplotlib.figure import Figure

from reports.panels.base import Panel


def draw(rows, look):
    figure = Figure()
    figure.subplots().plot([row["mean"] for row in rows])
    return figure


def rows(matrix, summary):
    return [{"label": arm.label, "mean": arm.mean.value} for arm in summary.metrics[0].methods]


PANEL = Panel("extra", "An extra <panel>", "comparison", ("label", "mean"), rows, draw, "Means.", "No means.")
TAKEN = Panel("judges", "Taken", "judges", ("label",), rows, draw, "", "")
"""


def install(folder: Path, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with one entry point, as pip leaves it."""
    (folder / "report_extra_module.py").write_text(MODULE)
    info = folder / "report_extra-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: report-extra\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\nextra = {target}\n")
    monkeypatch.syspath_prepend(str(folder))
    entry_points.cache_clear()


def test_a_registered_panel_is_in_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site").mkdir()
    install(tmp_path / "site", "report_extra_module:PANEL", monkeypatch)
    try:
        page = write_report(tmp_path / "out", write_matrix(tmp_path / "out", [FIXED], seeds=(0, 1))).read_text()
    finally:
        entry_points.cache_clear()
    assert 'id="panel-extra">An extra &lt;panel&gt;<' in page and "Means. Drawn from 1 row, 1 method." in page
    assert (tmp_path / "out" / "tables" / "extra.csv").read_text().startswith("label,mean\nfixed,0.")
    assert (tmp_path / "out" / "figures" / "extra.svg").stat().st_size


@pytest.mark.parametrize(
    ("target", "said"), [("json:loads", "is not a reports"), ("report_extra_module:TAKEN", "already")]
)
def test_what_is_no_new_panel_is_refused(
    tmp_path: Path, target: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, target, monkeypatch)
    try:
        with pytest.raises(ReportError, match=f"report panel 'extra'.*{said}"):
            all_panels()
    finally:
        entry_points.cache_clear()
