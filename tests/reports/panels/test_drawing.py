"""How figures are drawn: by two processes, one figure for many runs, and panels from outside the package."""

import json
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from reports.files import gallery, processes
from reports.files.report import write_report
from reports.panels import curves
from reports.panels.all import ENTRY_POINT_GROUP, all_panels
from reports.runs.arms import Arm
from reports.runs.records import ReportError, RunData, load_matrix
from tests.reports.builder import FIXED, FOODPO, write_matrix
from trainers.common.plugins import entry_points


def test_what_the_other_process_could_not_draw_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "METHODS_FOR_TWO", 0)
    monkeypatch.setattr(processes, "cores", lambda: 2)
    monkeypatch.setattr(Future, "cancel", lambda _: False)  # all of it is left to the other
    with pytest.raises(KeyError, match="nothing"):
        gallery.draw_figures({"nothing": []}, {}, tmp_path)


def test_a_damaged_log_is_named_by_the_process_that_met_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = write_matrix(tmp_path, [FIXED, FOODPO], seeds=(0,))
    monkeypatch.setattr(gallery, "RUNS_FOR_TWO", 1)
    monkeypatch.setattr(processes, "cores", lambda: 2)
    matrix = load_matrix(tmp_path, ids)
    (tmp_path / "runs" / ids[0] / "log_history.json").write_text("{")
    with pytest.raises(ReportError, match="not valid JSON"), gallery.logged_files(matrix, None) as finish:
        finish()


def test_curves_by_pairs_seen_where_runs_differ_in_pairs_a_step(tmp_path: Path) -> None:
    ids = write_matrix(tmp_path, [FIXED, FOODPO], seeds=(0,))
    drawn = gallery.write_logged(tmp_path, load_matrix(tmp_path, ids).runs, "fixed")
    assert list(drawn) == ["training_curves"]
    path = tmp_path / "runs" / ids[0] / "log_history.json"
    history = json.loads(path.read_text())
    for record in history[ids[0]]:
        record["examples_seen"] = 2 * record.get("examples_seen", 0)
    path.write_text(json.dumps(history))
    drawn = gallery.write_logged(tmp_path, load_matrix(tmp_path, ids).runs, "fixed")
    assert list(drawn) == ["training_curves", "training_curves_by_examples"]


def test_processes_end_with_a_block_that_raises() -> None:
    with pytest.raises(KeyError), processes.pool(1) as pool:
        assert pool.submit(len, "ab").result() == 2
        pool.submit(time.sleep, 600)
        (worker,) = pool._processes.values()
        raise KeyError
    assert not worker.is_alive()


# The curves of run after run in one figure: as if each were drawn alone.


def arm(name: str, records: list[dict[str, Any]]) -> Arm:
    run = RunData(f"{name}-0", Path("."), {"method": name, "seed": 0}, None, tuple(records), {})
    return Arm(name, name, None, {}, (run,))


def records(steps: int, level: float, **more: Any) -> list[dict[str, Any]]:
    return [
        {"step": i, "loss": level / (i + 1), "delta": level * i, "dynamic_beta": 0.1 * level, **more}
        for i in range(1, steps + 1)
    ]


ARMS = [
    arm("long", records(300, 500.0, **{"rewards/accuracies": 0.5})),
    arm("short", records(3, 1e-3)),
    arm("nothing", []),
    arm("diverged", [*records(20, 0.1), {"step": 21, "loss": float("nan"), "delta": 2.0}]),
    arm("outlier", [*records(40, 1.0), {"step": 41, "loss": 1e9}]),
]


def test_a_picture_does_not_depend_on_those_before_it(tmp_path: Path) -> None:
    expected = []
    for one in ARMS:
        curves._kept.cache_clear()
        curves.save_run_curves(one, tmp_path / "alone.png")
        expected.append((tmp_path / "alone.png").read_bytes())
    assert len(set(expected)) == len(ARMS)
    for order in (range(len(ARMS)), reversed(range(len(ARMS)))):
        for place in order:
            curves.save_run_curves(ARMS[place], tmp_path / "drawn.png")
            assert (tmp_path / "drawn.png").read_bytes() == expected[place]


# A panel that another package registers is drawn, tabled and shown like the report's own.


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
