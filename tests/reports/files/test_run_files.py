"""The files of many runs, written by several processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.files import metrics, processes
from reports.files.report import write_files
from reports.runs.records import ReportError, load_matrix
from tests.reports.builder import FIXED, FOODPO, write_matrix

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
