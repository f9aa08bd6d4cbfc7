"""compare: any finished runs, by id, label, method or directory, also of several outputs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli import main
from reports.runs.records import ReportError
from reports.runs.subset import as_matrix, choose, read_source
from tests.reports.builder import FIXED, FOODPO, METHODS, write_matrix


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("matrix")
    write_matrix(path, METHODS, seeds=(0, 1), failed=[("beta_head", 1)])
    return path


def test_runs_are_found_by_every_name(root: Path) -> None:
    source = read_source(root)

    def ids(*names: str) -> list[str]:
        return [run.run_id for run in choose(names, [source]).runs]

    assert ids("fixed") == ["fixed-0000ab", "fixed-0001ab"]
    assert ids("foodpo-0001ab", "fixed-0000ab") == ["foodpo-0001ab", "fixed-0000ab"]
    assert ids("foodpo-0001") == ["foodpo-0001ab"]
    assert ids(str(root / "runs" / "fixed-0000ab")) == ["fixed-0000ab"]
    assert ids("fixed", "fixed-0000ab") == ["fixed-0000ab", "fixed-0001ab"]
    assert ids("beta_head") == ["beta_head-0000ab", "beta_head-0001ab"]  # the failed one is listed, not dropped


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fodpo", "did you mean 'foodpo'"),
        ("zzz", "there are: beta_head, "),
        ("beta_head-0001ab", "the run is failed, not done"),
        ("foodpo-000", "beginning of 2 runs"),
    ],
)
def test_mistakes_name_the_fix(root: Path, name: str, words: str) -> None:
    with pytest.raises(ReportError, match=words):
        choose([name], [read_source(root)])


def test_directories_that_are_no_runs(root: Path) -> None:
    with pytest.raises(ReportError, match="give it with --from"):
        choose([str(root)], [])
    with pytest.raises(ReportError, match="holds no runs"):
        read_source(root / "runs")


def test_several_outputs(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_matrix(other, [FOODPO], seeds=(2, 3), prompts=16)
    sources = [read_source(root), read_source(other)]
    subset = choose(["fixed", "foodpo"], sources)
    assert [run.seed for run in subset.runs] == [0, 1, 0, 1, 2, 3]
    matrix, said = as_matrix(subset, tmp_path / "out")
    assert matrix.reference is not None  # the builder writes the same one
    assert said.sources == [str(root), str(other)]
    (other / "reference" / "scores" / "capitals.json").unlink()
    matrix, said = as_matrix(subset, tmp_path / "out")
    assert matrix.reference is None and "different reference policies" in said.notes[-1]
    write_matrix(other, [FIXED], seeds=(0,))
    with pytest.raises(ReportError, match="the same run is in"):
        choose([str(p / "runs" / "fixed-0000ab") for p in (root, other)], [])


def test_baseline_and_metric_are_checked(root: Path, tmp_path: Path) -> None:
    subset = choose(["foodpo", "fixed"], [read_source(root)])
    with pytest.raises(ReportError, match=r"--baseline fixd: not among the runs; did you mean 'fixed'"):
        as_matrix(subset, tmp_path, baseline="fixd")
    with pytest.raises(ReportError, match=r"--primary capitals/ac: .*did you mean 'capitals/acc'"):
        as_matrix(subset, tmp_path, primary="capitals/ac")
    matrix, said = as_matrix(choose(["foodpo", "beta_head"], [read_source(root)]), tmp_path)
    assert matrix.config["report"]["baseline"] == "foodpo" and "not among these runs" in said.notes[-1]


def test_command(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["compare", "fixed", "foodpo", "--from", str(root), "--output", str(out)]
    assert main([*arguments, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["counts"]["planned"] == 4 and said["baseline"]["value"] == "fixed"
    assert said["subset"]["sentence"].startswith("4 of 6 runs")
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "4 of 6 runs are compared" in page and "beta_head" not in page
    assert "runs are compared" in (out / "report.md").read_text(encoding="utf-8")
    assert len(json.loads((out / "log_history.json").read_text())) == 4
    assert main(["compare", "fixed", "--from", str(root), "--output", str(root)]) == 2
    assert main(["compare", "fixed", "--from", str(root / "nowhere")]) == 2
    assert main(["compare", "fxed", "--from", str(root), "--output", str(out)]) == 2
    errors = capsys.readouterr().err
    assert "the runs lie there" in errors and "no such directory" in errors and "did you mean 'fixed'" in errors
    assert "Traceback" not in errors
