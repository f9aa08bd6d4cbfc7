"""The four files of a run and of a matrix."""

import html
import json
import re
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import jsonschema
import pandas as pd
import pytest

import reports
from reports.files import gallery, metrics, processes
from reports.files.metrics import COLUMNS, write_run_files
from reports.files.report import write_report
from reports.runs.records import ReportError
from reports.schema import Summary, schema_text
from tests.reports.builder import FIXED, FOODPO, write_matrix, write_run
from tests.reports.chromium import CHROMIUM, Page, browser

SCHEMA = json.loads((Path(reports.__file__).parent / "summary.schema.json").read_text())


def test_the_shipped_schema_is_current() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    stale = "write it again: python -m harness schema --of summary --output reports/summary.schema.json"
    assert (Path(reports.__file__).parent / "summary.schema.json").read_text(encoding="utf-8") == schema_text(), stale


def check(path: Path) -> dict:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in {path}")

    summary = json.loads(path.read_text(), parse_constant=refuse)
    jsonschema.Draft202012Validator(SCHEMA).validate(summary)
    assert Summary.model_validate(summary).plain() == summary
    return summary


def test_run_and_matrix_files_share_a_schema(tmp_path: Path) -> None:
    ids = write_matrix(tmp_path, [FIXED, FOODPO], seeds=(0,))
    write_run_files(tmp_path / "runs" / ids[0])
    write_report(tmp_path, ids)
    run_dir = tmp_path / "runs" / ids[0]
    for name in ("training_metrics.csv", "training_curves.png", "summary.json", "log_history.json"):
        assert (run_dir / name).stat().st_size and (tmp_path / name).stat().st_size
    one, all_ = pd.read_csv(run_dir / "training_metrics.csv"), pd.read_csv(tmp_path / "training_metrics.csv")
    assert list(one.columns) == list(all_.columns) == list(COLUMNS)
    assert len(one) == 8 and len(all_) == 16
    assert all_["run_id"].tolist() == [ids[0]] * 8 + [ids[1]] * 8
    assert set(json.loads((tmp_path / "log_history.json").read_text())) == set(ids)
    assert check(run_dir / "summary.json")["kind"] == "run"
    assert check(tmp_path / "summary.json")["kind"] == "matrix"
    assert not list(tmp_path.rglob(".*"))  # no temporary file is left


def test_a_running_run_has_its_own_scores_in_its_summary(tmp_path: Path) -> None:
    run_id = write_run(tmp_path, FIXED, 0)
    path = tmp_path / "runs" / run_id
    state = json.loads((path / "status.json").read_text()) | {"state": "running"}
    (path / "status.json").write_text(json.dumps(state))
    summary = write_run_files(path)[0]
    assert summary.metrics[0].methods[0].mean.value is not None


def without_reason(value: Any, path: str = "") -> list[str]:
    """Places of estimates and tests that are null, or lack an end of their interval, without a reason beside it."""
    if isinstance(value, list):
        return [place for i, v in enumerate(value) for place in without_reason(v, f"{path}[{i}]")]
    if not isinstance(value, dict):
        return []
    bare = [k for k in ("value", "low", "high", "p_value", "p") if k in value and value[k] is None]
    own = [f"{path}.{k}" for k in bare if not value.get("reason")]
    return own + [place for k, v in value.items() for place in without_reason(v, f"{path}.{k}")]


CELLS = [(m, s) for m in ("fixed", "foodpo") for s in (0, 1)]
BOTH = [FIXED, FOODPO]


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page | None]:
    """A browser, where there is one."""
    with browser(tmp_path_factory.mktemp("chromium")) if CHROMIUM else nullcontext() as page:
        yield page


@pytest.mark.parametrize(
    ("case", "options", "words"),
    [
        (
            "empty",
            {"methods": [], "reference": False},
            ("no runs, so there is nothing to compare", "no runs were planned"),
        ),
        ("one run", {"methods": [FOODPO], "seeds": [0]}, ("No comparison is possible", "1 of 1 runs finished")),
        ("one seed", {"methods": BOTH, "seeds": [0]}, ("One seed cannot decide",)),
        (
            "all failed",
            {"methods": BOTH, "failed": CELLS, "reference": False},
            ("No comparison", "tried to allocate <2 GiB>"),
        ),
        ("all missing", {"methods": BOTH, "missing": CELLS}, ("No comparison",)),
        ("no answers", {"methods": BOTH, "reference": False}, ("No answers are on disk",)),
        ("diverged", {"methods": BOTH}, ("a loss that is not a number",)),
    ],
)
def test_odd_matrices_have_an_honest_report(
    tab: Page | None, tmp_path: Path, case: str, options: dict[str, Any], words: tuple[str, ...]
) -> None:
    ids = write_matrix(tmp_path, **options)
    if case == "no answers":
        for path in tmp_path.rglob("*.jsonl"):
            path.unlink()
    for path in tmp_path.glob("runs/*/log_history.json") if case == "diverged" else ():
        path.write_text(re.sub(r'"(loss|delta|dynamic_beta)": [-\d.e]+', r'"\1": NaN', path.read_text()))
    report = write_report(tmp_path, ids)
    page = re.sub("<[^>]+>", "", report.read_text())
    assert all(html.escape(text, quote=False) in page for text in words)
    summary = check(tmp_path / "summary.json")
    assert summary["counts"]["planned"] == len(ids)
    assert without_reason(summary) == []
    if "all" in case:
        assert summary["counts"]["unfinished"] == 4
        assert "No comparison" in summary["verdict"]["answer"][0] and summary["verdict"]["kind"] == "exploratory"
    if case == "all missing":  # without a step the curves are empty
        assert (tmp_path / "training_curves.png").stat().st_size
        assert not (tmp_path / "figures" / "training_curves.png").exists()
    if case == "diverged":
        assert all(run["diverged"] for run in summary["runs"])
        assert pd.read_csv(tmp_path / "training_metrics.csv")["loss"].isna().all()
        assert "NaN" not in (tmp_path / "log_history.json").read_text()
    if tab:
        tab.size(400)
        tab.open(report.as_uri())
        assert tab.problems == [] and tab.cut() == [] and tab.unnamed() == []
        assert tab.js("[...document.querySelectorAll('section')].every(s => s.textContent.trim().length > 20)")


# The files of many runs and of their matrix, written by several processes.


def test_two_processes_write_what_one_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def written() -> dict[str, bytes]:
        """Every file of the output; what was analysed is not analysed again."""
        write_report(tmp_path, ids, analysed=metrics.write_all(tmp_path, ids) if began else None)
        return {str(p.relative_to(tmp_path)): p.read_bytes() for p in sorted(tmp_path.rglob("*")) if p.is_file()}

    ids = write_matrix(tmp_path, BOTH, seeds=(0, 1))
    began: list[int] = []
    metrics.write_all(tmp_path, ids)
    before = written()
    assert {"figures/result.pdf", "training_curves.png", f"runs/{ids[0]}/training_curves.png"} <= set(before)
    for name in ("training_curves.png", *(f"runs/{run}/summary.json" for run in ids)):
        (tmp_path / name).unlink()
    for module, name in ((metrics, "RUNS_PER_PROCESS"), (gallery, "METHODS_FOR_TWO"), (gallery, "RUNS_FOR_TWO")):
        monkeypatch.setattr(module, name, 1)
    monkeypatch.setattr(processes, "cores", lambda: 2)
    pool = processes.pool

    def counted(workers: int) -> AbstractContextManager[ProcessPoolExecutor]:
        began.append(workers)
        return pool(workers)

    monkeypatch.setattr(processes, "pool", counted)
    began.append(0)
    after = written()
    assert began == [0, 1, 1, 1]
    assert set(after) == set(before)
    assert [name for name in before if after[name] != before[name]] == []
    (tmp_path / "runs" / ids[1] / "log_history.json").write_text("{")
    with pytest.raises(ReportError, match="not valid JSON"):
        metrics.write_all(tmp_path, ids)
