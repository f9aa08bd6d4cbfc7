"""`from harness import Matrix, load_results`: tidy frames of a matrix on disk, and the code block that documents them."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness import Matrix, Results, load_results
from harness.api import IDENTITY
from harness.prepare import freeze
from trainers.common.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "harness" / "configs" / "demo.yaml"


@pytest.fixture
def output(world: Any) -> Path:
    """A matrix with one run done, one failed and two pending."""
    plan, (store, failed, *_) = world.begun()
    done, folder = plan.specs[0], store.directory
    log = [{"step": 1, "loss": 0.69, "dynamic_beta": 0.1}, {"step": 2, "loss": 0.5}, {"train_runtime": 3.0, "step": 2}]
    (folder / "log_history.json").write_text(json.dumps({done.run_id: log}), encoding="utf-8")
    rows = {"run_id": [done.run_id] * 2, "step": [1, 2], "example_id": ["a", "b"], "dynamic_beta": [0.1, 0.2]}
    pd.DataFrame(rows).to_parquet(folder / "example_metrics.parquet")
    for place, reward in ((folder, 0.75), (plan.reference_dir, 0.5)):
        (place / "scores").mkdir(parents=True)
        (place / "generations").mkdir()
        metrics = {"gold_reward": {"value": reward, "stderr": 0.1, "n": 4, "higher_is_better": True}}
        items = [{"id": "b0", "values": {"gold_reward": 1.0}}]
        scores = {"benchmark": "constraints", "metrics": metrics, "items": items}
        (place / "scores" / "constraints.json").write_text(json.dumps(scores), encoding="utf-8")
        row = {"benchmark": "constraints", "prompt_id": "b0", "sample": 0, "prompt": "Say <b>", "text": "Yes."}
        row["finish_reason"] = "stop"
        (place / "generations" / "constraints.jsonl").write_text(json.dumps(row) + '\n{"torn', encoding="utf-8")
    store.mark_stage("train", done.fingerprint, [], 1.0, last=True)
    failed.fail("OutOfMemoryError", "needs <more> memory", "Traceback")
    return Path(world.output)


def test_frames_are_tidy(output: Path) -> None:
    results = load_results(output)
    assert isinstance(results, Results) and results.name == "small" and len(results.run_ids) == 4
    for frame in (results.runs, results.scores, results.steps, results.examples, results.samples):
        assert list(frame.columns[:4]) == IDENTITY
    runs = results.runs.set_index("run_id")
    done = results.run_ids[0]
    assert list(runs.index) == ["reference", *results.run_ids]
    assert list(runs.loc[results.run_ids, "state"]) == ["done", "failed", "pending", "pending"]
    assert runs.loc[done, "constraints/gold_reward"] == 0.75 and runs.loc["reference", "constraints/gold_reward"] == 0.5
    assert runs.loc[results.run_ids[1], "error"] == "needs <more> memory"
    assert runs.loc[done, "param.pref_beta"] == 0.1
    assert results.steps[["run_id", "step", "loss"]].values.tolist() == [[done, 1, 0.69], [done, 2, 0.5]]
    assert results.examples["dynamic_beta"].tolist() == [0.1, 0.2] and set(results.examples["method"]) == {"fixed"}
    assert results.samples[["run_id", "text", "value.gold_reward"]].values.tolist() == [
        ["reference", "Yes.", 1.0],
        [done, "Yes.", 1.0],
    ]
    assert results.scores[["run_id", "value", "stderr", "n"]].values.tolist() == [
        ["reference", 0.5, 0.1, 4],
        [done, 0.75, 0.1, 4],
    ]


def test_a_matrix_without_results_has_empty_frames(world: Any) -> None:
    freeze(world.plan())
    results = load_results(world.output)
    assert len(results.runs) == 5 and set(results.runs["state"]) == {"pending"}
    assert all(frame.empty for frame in (results.steps, results.examples, results.samples, results.scores))
    with pytest.raises(UserError, match="holds no matrix"):
        load_results(world.root)


def test_notebooks_show_a_table_and_escape_it(output: Path, world: Any) -> None:
    results = load_results(output)
    assert repr(results) == "<Results of 'small': 1 done, 1 failed, 2 pending>"
    results.runs.loc[0, "method"] = "<script>"
    shown = results._repr_html_()
    assert "<table" in shown and "<script>" not in shown and "&lt;script&gt;" in shown
    assert "foodpo" in Matrix(world.config)._repr_html_()


def test_a_matrix_file(world: Any) -> None:
    matrix = Matrix(world.config, overrides=["seeds=[0, 1, 2]"])
    assert repr(matrix) == "<Matrix 'small': 2 methods, 6 runs>"
    assert set(matrix.runs["seed"]) == {0, 1, 2} and set(matrix.runs["param.pref_beta"]) == {0.1}
    world.replace("pref_beta: 0.1", "pref_beta: none")
    with pytest.raises(UserError, match=r"m\.yaml:11: .*pref_beta"):
        Matrix(world.config)


def test_running_passes_options_on_and_reports_refusals(world: Any) -> None:
    with pytest.raises(UserError, match="ended with code 2"):
        Matrix(world.config).run(world.output, "--seeds", "99")
    assert not world.output.exists()


def test_importing_harness_imports_nothing_heavy() -> None:
    code = "import sys, harness; print([m for m in ('pandas', 'torch', 'pydantic', 'yaml') if m in sys.modules], dir(harness))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.startswith("[]") and "load_results" in result.stdout
    with pytest.raises(ImportError):
        from harness import nothing_of_that_name  # type: ignore[attr-defined]  # noqa: F401


def test_the_documented_block_runs(output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "harness" / "README.md").read_text(encoding="utf-8")
    block = next(b for b in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "from harness import" in b)
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    shutil.copy(DEMO, folder / "my.yaml")
    shutil.copytree(output, folder / "out" / "my")
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    exec(compile(block, "README.md", "exec"), names)
    assert names["matrix"].name == "demo" and isinstance(names["gains"], pd.Series)
    assert names["gains"].to_dict() == {"fixed": 0.25}


def test_every_package_says_that_it_is_typed() -> None:
    root = Path(__file__).resolve().parents[2]
    assert all((root / package / "py.typed").is_file() for package in ("evals", "harness", "reports", "trainers"))
