"""The four files of a run and of a matrix."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pandas as pd
import pytest

import reports
from reports.files import metrics, processes
from reports.files.metrics import COLUMNS, write_run_files
from reports.files.report import write_files, write_report
from reports.runs.records import ReportError, load_matrix
from reports.schema import Summary, schema_text
from tests.reports.builder import FIXED, FOODPO, write_matrix, write_run

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


def test_nan_is_null_and_diverged_is_said(tmp_path: Path) -> None:
    run_id = write_run(tmp_path, FOODPO, 0, nan_from=4)
    write_report(tmp_path, [run_id])
    summary = check(tmp_path / "summary.json")
    assert summary["runs"][0]["diverged"]
    table = pd.read_csv(tmp_path / "training_metrics.csv")
    assert table["loss"].notna().sum() == 3
    assert "NaN" not in (tmp_path / "log_history.json").read_text()


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


@pytest.mark.parametrize(
    ("case", "options", "words"),
    [
        ("empty", {"methods": [], "reference": False}, "no runs, so there is nothing to compare"),
        ("one run", {"methods": [FOODPO], "seeds": [0]}, "No comparison is possible"),
        ("one seed", {"methods": BOTH, "seeds": [0]}, "One seed cannot decide"),
        ("all failed", {"methods": BOTH, "failed": CELLS, "reference": False}, "No comparison"),
        ("all missing", {"methods": BOTH, "missing": CELLS}, "No comparison"),
        ("no answers", {"methods": BOTH, "reference": False}, "No answers are on disk"),
        ("diverged", {"methods": BOTH}, "a loss that is not a number"),
    ],
)
def test_odd_matrices(tmp_path: Path, case: str, options: dict[str, Any], words: str) -> None:
    ids = write_matrix(tmp_path, **options)
    if case == "no answers":
        for path in tmp_path.rglob("*.jsonl"):
            path.unlink()
    for path in tmp_path.glob("runs/*/log_history.json") if case == "diverged" else ():
        path.write_text(re.sub(r'"(loss|delta|dynamic_beta)": [-\d.e]+', r'"\1": NaN', path.read_text()))
    assert words in write_report(tmp_path, ids).read_text()
    summary = check(tmp_path / "summary.json")
    assert summary["counts"]["planned"] == len(ids)
    assert without_reason(summary) == []
    if "all" in case:
        assert summary["counts"]["unfinished"] == 4
        assert "No comparison" in summary["verdict"]["answer"][0] and summary["verdict"]["kind"] == "exploratory"


def test_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    ids = write_matrix(tmp_path, [FIXED, FOODPO])
    names = ("training_metrics.csv", "summary.json", "training_curves.png")
    write_report(tmp_path, ids)
    first = [(tmp_path / n).read_bytes() for n in names]
    write_report(tmp_path, ids)
    assert first == [(tmp_path / n).read_bytes() for n in names]


# The files of many runs, written by several processes.


FILES = ("training_metrics.csv", "training_curves.png", "summary.json")


def test_two_processes_write_what_one_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = write_matrix(tmp_path, (FIXED, FOODPO), seeds=(0,))
    one = metrics.write_all(tmp_path, ids)
    alone = [(tmp_path / "runs" / i / f).read_bytes() for i in ids for f in FILES]
    monkeypatch.setattr(metrics, "RUNS_PER_PROCESS", 1)
    monkeypatch.setattr(processes, "cores", lambda: 2)
    for i in ids:
        for name in FILES:
            (tmp_path / "runs" / i / name).unlink()
    two = metrics.write_all(tmp_path, ids)
    assert [(tmp_path / "runs" / i / f).read_bytes() for i in ids for f in FILES] == alone
    assert {i: a.entry for i, a in two.items()} == {i: a.entry for i, a in one.items()}
    matrix = load_matrix(tmp_path, ids)
    assert write_files(matrix, two) == write_files(matrix)
    (tmp_path / "runs" / ids[1] / "log_history.json").write_text("{")
    with pytest.raises(ReportError, match="not valid JSON"):
        metrics.write_all(tmp_path, ids)
