"""The command line as a user meets it: exit codes, one-line errors, 80 columns, quick help."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.commands import VERBS
from tests.harness.conftest import one_error

Cli = Callable[..., subprocess.CompletedProcess[str]]
HEAVY = ("torch", "transformers", "trl", "peft", "vllm", "pandas", "datasets", "numpy", "pydantic", "lm_eval", "rich")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, contextlib, io\nfrom harness.cli import main\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()): main(['--help'])\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    root = Path(__file__).resolve().parents[3]
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert result.stdout.strip() == "[]"


def test_main_help_names_every_verb_and_an_example(cli: Cli) -> None:
    result = cli("--help")
    assert result.returncode == 0 and max(map(len, result.stdout.splitlines())) <= 80
    assert all(word in result.stdout for word in (*VERBS, "examples:", "--dry-run"))


def test_mistyped_verbs_and_options_get_a_suggestion(cli: Cli) -> None:
    assert "did you mean 'run-matrix'?" in one_error(cli("run-matrx"))
    assert "did you mean '--json'?" in one_error(cli("status", "--jsn"))
    assert "no verb given" in one_error(cli())


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
    error = one_error(cli("run-matrix", world.config, "--output", world.output))
    assert all(word in error for word in words) and not world.output.exists(), error


def test_dry_run_shows_the_runs_and_writes_nothing(world: Any, cli: Cli) -> None:
    result = cli("run-matrix", world.config, "--output", world.output, "--dry-run")
    assert result.returncode == 0, result.stderr
    assert all(spec.run_id in result.stdout.replace("\n", "") for spec in world.plan().specs)
    assert "estimate" in result.stdout and "\x1b[" not in result.stdout + result.stderr
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert not world.output.exists()


def test_a_second_process_is_refused(world: Any, cli: Cli) -> None:
    from harness.state.lock import output_lock

    with output_lock(world.output):
        error = one_error(cli("run-matrix", world.config, "--output", world.output))
    assert f"process {os.getpid()}" in error


def test_status_of_a_frozen_matrix(world: Any, cli: Cli) -> None:
    plan, (first, second, *_) = world.begun()
    first.start("train")
    first.progress(3, 10)
    second.fail("OutOfMemoryError", "needs [more] memory", "Traceback ...")
    found = json.loads(cli("status", "--output", world.output, "--json").stdout)
    assert found["matrix"] == "small"
    states = {row["run_id"]: row["state"] for row in found["runs"]}
    assert [states[spec.run_id] for spec in plan.specs] == ["running", "failed", "pending", "pending"]
    table = cli("status", "--output", world.output)
    assert table.returncode == 0 and "3/10" in table.stdout and "OutOfMemoryError" in table.stdout
    assert max(map(len, table.stdout.splitlines())) <= 80


@pytest.mark.parametrize("verb", ["status", "report"])
def test_verbs_on_a_directory_without_a_matrix(cli: Cli, tmp_path: Path, verb: str) -> None:
    assert "holds no matrix" in one_error(cli(verb, "--output", tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_doctor_says_what_there_is(cli: Cli) -> None:
    result = cli("doctor", "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["engine"] in ("vllm", "transformers")
    assert {"torch", "transformers", "trl", "peft", "lm-eval"} <= {package["name"] for package in found["packages"]}
    assert all(problem["fix"] for problem in found["problems"])
