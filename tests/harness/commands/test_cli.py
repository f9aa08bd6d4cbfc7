"""The command line as a user meets it: exit codes, one-line errors, 80 columns, quick help."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., subprocess.CompletedProcess[str]]
HEAVY = ("torch", "transformers", "trl", "peft", "vllm", "pandas", "datasets", "numpy", "pydantic", "lm_eval", "rich")


def _one_line_error(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr + result.stdout
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    return errors[0]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, contextlib, io\nfrom harness.cli import main\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()): main(['--help'])\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    root = Path(__file__).resolve().parents[3]
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("verb", [None, "run-matrix", "status", "report", "doctor", "prepare-model"])
def test_help_fits_80_columns(cli: Cli, verb: str | None) -> None:
    result = cli(*([verb] if verb else []), "--help")
    assert result.returncode == 0
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_main_help_names_every_verb_and_an_example(cli: Cli) -> None:
    text = cli("--help").stdout
    for word in (
        "run-matrix",
        "status",
        "report",
        "doctor",
        "prepare-model",
        "build-preferences",
        "examples:",
        "--dry-run",
    ):
        assert word in text


def test_mistyped_verbs_and_options_get_a_suggestion(cli: Cli) -> None:
    assert "did you mean 'run-matrix'?" in _one_line_error(cli("run-matrx"))
    assert "did you mean '--json'?" in _one_line_error(cli("status", "--jsn"))


def test_no_verb(cli: Cli) -> None:
    _one_line_error(cli())


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda world: world.replace("seeds: [0, 1]", "sedes: [0, 1]"), [":14:", "sedes", "did you mean 'seeds'?"]),
        (lambda world: world.pairs.write_text('{"prompt": 1\n'), ["pairs.jsonl:1:", "not valid JSON"]),
        (lambda world: (world.model / "model.safetensors").unlink(), ["no weights (*.safetensors)", "save_pretrained"]),
        (lambda world: world.config.unlink(), ["no such file"]),
    ],
    ids=["unknown-key", "malformed-row", "no-weights", "no-matrix"],
)
def test_bad_input_is_one_line_and_exit_code_2(world: Any, cli: Cli, break_it: Any, words: list[str]) -> None:
    break_it(world)
    error = _one_line_error(cli("run-matrix", world.config, "--output", world.output))
    for word in words:
        assert word in error
    assert not world.output.exists()


def test_dry_run_shows_the_runs_and_writes_nothing(world: Any, cli: Cli) -> None:
    result = cli("run-matrix", world.config, "--output", world.output, "--dry-run")
    assert result.returncode == 0, result.stderr
    for spec in world.plan().specs:
        assert spec.run_id in result.stdout.replace("\n", "")
    assert "estimate" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert not world.output.exists()


def test_a_second_process_is_refused(world: Any, cli: Cli) -> None:
    from harness.state.lock import output_lock

    with output_lock(world.output):
        error = _one_line_error(cli("run-matrix", world.config, "--output", world.output))
    assert f"process {os.getpid()}" in error


def test_status_of_a_frozen_matrix(world: Any, cli: Cli) -> None:
    from harness.prepare import freeze
    from harness.state.store import RunStore

    plan = world.plan()
    freeze(plan)
    first, second, *_ = [RunStore(plan.run_dir(spec)) for spec in plan.specs]
    for spec in plan.specs:
        RunStore(plan.run_dir(spec)).create(plan.run_record(spec))
    first.start("train")
    first.progress(3, 10)
    second.fail("OutOfMemoryError", "needs [more] memory", "Traceback ...")
    found = json.loads(cli("status", "--output", world.output, "--json").stdout)
    assert found["matrix"] == "small"
    states = {row["run_id"]: row["state"] for row in found["runs"]}
    assert [states[spec.run_id] for spec in plan.specs] == ["running", "failed", "pending", "pending"]
    table = cli("status", "--output", world.output)
    assert table.returncode == 0
    assert "3/10" in table.stdout
    assert "OutOfMemoryError" in table.stdout
    assert max(map(len, table.stdout.splitlines())) <= 80


@pytest.mark.parametrize("verb", ["status", "report"])
def test_verbs_on_a_directory_without_a_matrix(cli: Cli, tmp_path: Path, verb: str) -> None:
    assert "holds no matrix" in _one_line_error(cli(verb, "--output", tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_doctor_says_what_there_is(cli: Cli) -> None:
    result = cli("doctor", "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["engine"] in ("vllm", "transformers")
    assert {"torch", "transformers", "trl", "peft", "lm-eval"} <= {package["name"] for package in found["packages"]}
    assert all(problem["fix"] for problem in found["problems"])
