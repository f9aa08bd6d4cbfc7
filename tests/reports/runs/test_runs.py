"""The runs of a matrix as they lie on disk, and any subset of them as a matrix."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import main
from reports.runs.arms import arms
from reports.runs.records import ReportError, error_text, load_matrix, load_run
from reports.runs.subset import as_matrix, choose, read_source
from tests.reports.builder import FIXED, FOODPO, METHODS, Method, write_matrix, write_run

# Reading a matrix: absent files are facts, damaged files are errors that name themselves.


def test_every_run_is_carried(tmp_path: Path) -> None:
    ids = write_matrix(tmp_path, failed=[("foodpo", 1)], missing=[("beta_head", 0)])
    matrix = load_matrix(tmp_path, ids)
    states = {r.run_id: r.state for r in matrix.runs}
    assert list(states) == ids
    assert states["foodpo-0001ab"] == "failed"
    assert states["beta_head-0000ab"] == "missing"
    failed = next(r for r in matrix.runs if r.state == "failed")
    assert error_text(failed.status) == "OutOfMemoryError: tried to allocate <2 GiB>"
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
        (", 'matplotlib', 'seaborn'", ("runs.records", "page.first", "summary")),
        ("", ("files.metrics", "files.gallery")),
    ):
        code += "".join(f"; import reports.{name}" for name in names)
        code += f"; assert not (found := {heavy}{drawing}}} & set(sys.modules)), found"
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert not done.returncode, done.stderr


# compare: any finished runs, by id, label, method or directory, also of several outputs.


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
