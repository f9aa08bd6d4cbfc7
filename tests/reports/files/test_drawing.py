"""The report of a matrix by two processes: the same files as by one."""

from __future__ import annotations

import time
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

import pytest

from reports.files import gallery, logged, processes
from reports.files.report import write_report
from reports.runs.records import ReportError, load_matrix
from tests.reports.builder import FIXED, FOODPO, write_matrix


def made(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_two_processes_write_what_one_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = write_matrix(tmp_path, [FIXED, FOODPO], seeds=(0, 1))
    write_report(tmp_path, ids)
    before = made(tmp_path)
    assert {"figures/result.pdf", "training_curves.png"} <= set(before)
    (tmp_path / "training_curves.png").unlink()
    monkeypatch.setattr(gallery, "METHODS_FOR_TWO", 1)
    monkeypatch.setattr(logged, "RUNS_FOR_TWO", 1)
    monkeypatch.setattr(processes, "cores", lambda: 2)
    began: list[int] = []
    pool = processes.pool

    def counted(workers: int) -> ProcessPoolExecutor:
        began.append(workers)
        return pool(workers)

    monkeypatch.setattr(processes, "pool", counted)
    write_report(tmp_path, ids)
    assert began == [1, 1]
    after = made(tmp_path)
    assert set(after) == set(before)
    assert [name for name in before if after[name] != before[name]] == []


def test_what_the_other_process_could_not_draw_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "METHODS_FOR_TWO", 0)
    monkeypatch.setattr(processes, "cores", lambda: 2)
    monkeypatch.setattr(Future, "cancel", lambda _: False)  # all of it is left to the other
    with pytest.raises(KeyError, match="nothing"):
        gallery.draw_figures({"nothing": []}, {}, tmp_path)


def test_a_damaged_log_is_named_by_the_process_that_met_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = write_matrix(tmp_path, [FIXED, FOODPO], seeds=(0,))
    monkeypatch.setattr(logged, "RUNS_FOR_TWO", 1)
    monkeypatch.setattr(processes, "cores", lambda: 2)
    matrix = load_matrix(tmp_path, ids)
    (tmp_path / "runs" / ids[0] / "log_history.json").write_text("{")
    with pytest.raises(ReportError, match="not valid JSON"), logged.logged_files(matrix, None) as finish:
        finish()


def test_a_matrix_without_steps_has_empty_curves(tmp_path: Path) -> None:
    ids = write_matrix(tmp_path, [FIXED, FOODPO], seeds=(0,), missing=[("fixed", 0), ("foodpo", 0)])
    write_report(tmp_path, ids)
    assert (tmp_path / "training_curves.png").stat().st_size and not (
        tmp_path / "figures" / "training_curves.png"
    ).exists()


def test_processes_end_with_a_block_that_raises() -> None:
    with pytest.raises(KeyError), processes.pool(1) as pool:
        assert pool.submit(len, "ab").result() == 2
        pool.submit(time.sleep, 600)
        (worker,) = pool._processes.values()
        raise KeyError
    assert not worker.is_alive()
