"""Reading a matrix: absent files are facts, damaged files are errors that name themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from reports.runs.arms import arms
from reports.runs.records import ReportError, load_matrix, load_run
from tests.reports.builder import FIXED, FOODPO, Method, write_matrix, write_run


def test_every_run_is_carried(tmp_path: Path) -> None:
    ids = write_matrix(tmp_path, failed=[("foodpo", 1)], missing=[("beta_head", 0)])
    matrix = load_matrix(tmp_path, ids)
    states = {r.run_id: r.state for r in matrix.runs}
    assert list(states) == ids
    assert states["foodpo-0001ab"] == "failed"
    assert states["beta_head-0000ab"] == "missing"
    failed = next(r for r in matrix.runs if r.state == "failed")
    assert failed.error == "OutOfMemoryError: tried to allocate <2 GiB>"
    assert matrix.reference is not None
    assert matrix.benchmarks == ["capitals", "constraints"]


def test_steps_are_the_records_with_a_loss(tmp_path: Path) -> None:
    run_id = write_run(tmp_path, FIXED, 0, steps=5)
    run = load_run(tmp_path / "runs" / run_id)
    assert len(run.steps) == 5
    assert len(run.history) == 6


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("run.json", "{not json"),
        ("status.json", "[1, 2]"),
        ("log_history.json", '{"fixed-0000ab": 3}'),
        ("scores/constraints.json", '{"items": []}'),
        ("scores/constraints.json", "\udc80"),
    ],
)
def test_damaged_file_is_named(tmp_path: Path, name: str, text: str) -> None:
    run_id = write_run(tmp_path, FIXED, 0)
    path = tmp_path / "runs" / run_id / name
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ReportError, match=name.split("/")[-1]) as caught:
        load_run(path.parents[1] if "/" in name else path.parent)
    assert "\n" not in str(caught.value)


def test_damaged_parquet_is_named(tmp_path: Path) -> None:
    run_id = write_run(tmp_path, FIXED, 0)
    path = tmp_path / "runs" / run_id / "example_metrics.parquet"
    path.write_bytes(b"PAR1 no")
    with pytest.raises(ReportError, match=r"example_metrics\.parquet"):
        load_run(path.parent).examples(["step"])


def test_repeated_item_ids_are_refused(tmp_path: Path) -> None:
    run_id = write_run(tmp_path, FIXED, 0)
    path = tmp_path / "runs" / run_id / "scores" / "constraints.json"
    path.write_text(path.read_text().replace('"p001"', '"p000"'))
    with pytest.raises(ReportError, match="'p000' appears twice"):
        load_run(path.parents[1])


def test_a_run_listed_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="listed twice"):
        load_matrix(tmp_path, ["a", "a"])


def test_arms_keep_settings_apart(tmp_path: Path) -> None:
    ids = write_matrix(tmp_path, [FIXED, FOODPO, Method("foodpo2", "foodpo")], seeds=(0, 1))
    runs = list(load_matrix(tmp_path, ids).runs)
    assert [a.label for a in arms(runs)] == ["fixed", "foodpo", "foodpo2"]
    for run, beta in zip(runs[:2], (0.1, 0.2), strict=True):
        assert run.identity is not None
        run.identity["hyper"] = {"pref_beta": beta}
    assert [a.label for a in arms(runs)][:2] == ["fixed[pref_beta=0.1]", "fixed[pref_beta=0.2]"]


def test_controls_are_told_apart_by_the_setting_of_their_parent(tmp_path: Path) -> None:
    """`permuted` takes no parameter that says which setting of its parent it repeats."""
    other = Method("foodpo2", "foodpo", 0.0, {"pref_beta": 0.1, "pref_beta_scale": 0.9})
    ids = write_matrix(tmp_path, [FOODPO, other, Method("shuffled", "permuted")], seeds=(0, 1))
    runs = list(load_matrix(tmp_path, ids).runs)
    identities = [run.identity for run in runs if run.identity is not None]
    for identity, parent in zip(identities[4:], (ids[0], ids[2]), strict=True):
        identity |= {"seed": 0, "parent": parent}
    assert [a.label for a in arms(runs)][2:] == ["shuffled[pref_beta_scale=0.5]", "shuffled[pref_beta_scale=0.9]"]
    identities[5]["seed"] = 1  # nothing is repeated: a parent that was not picked splits no arm
    assert [(a.label, len(a.runs)) for a in arms(runs)][2:] == [("shuffled", 2)]


def test_two_runs_of_one_seed_are_not_replicates(tmp_path: Path) -> None:
    ids = write_matrix(tmp_path, [FIXED], seeds=(0, 1))
    runs = list(load_matrix(tmp_path, ids).runs)
    assert runs[1].identity is not None
    runs[1].identity["seed"] = 0
    assert [(a.label, len(a.runs)) for a in arms(runs)] == [("fixed", 1), ("fixed (fixed-0001ab)", 1)]


def test_a_report_needs_no_heavy_library() -> None:
    heavy = "{'torch', 'transformers', 'vllm', 'trl', 'harness', 'evals'"
    code = "import sys"
    for drawing, names in (
        (", 'matplotlib', 'seaborn'", ("runs.records", "page.html", "page.terminal", "summary")),
        ("", ("files.metrics", "files.gallery")),
    ):
        code += "".join(f"; import reports.{name}" for name in names)
        code += f"; assert not (found := {heavy}{drawing}}} & set(sys.modules)), found"
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert not done.returncode, done.stderr
