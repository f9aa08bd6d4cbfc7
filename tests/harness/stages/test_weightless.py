"""A run whose record and scores are there is finished without its weights; where something is left to measure it is not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.harness.stages.test_added_runs import MATRIX

EXTRA = "    - {name: more, kind: constraints, prompts: prompts.jsonl, max_new_tokens: 4}\n"


@pytest.mark.slow
def test_a_measured_run_needs_no_weights(world: Any, tiny_model: Path, cli: Callable[..., Any]) -> None:
    world.write(MATRIX.replace("MODEL", str(tiny_model)))
    assert cli("run-matrix", world.config, "--output", world.output).returncode == 0
    (run,) = (world.output / "runs").iterdir()
    scores = {path: path.read_bytes() for path in run.glob("scores/*.json")}
    for folder in ("policy", "generations", "logprobs"):
        shutil.rmtree(run / folder)
    again = cli("run-matrix", world.config, "--output", world.output)
    assert again.returncode == 0, again.stderr
    assert "all 1 runs are trained" in again.stderr and "all 2 policies are evaluated" in again.stderr
    assert {path: path.read_bytes() for path in run.glob("scores/*.json")} == scores and not (run / "policy").exists()
    world.write(world.text + EXTRA)
    third = cli("run-matrix", world.config, "--output", world.output)
    assert third.returncode == 0, third.stderr
    assert "its weights were removed, and not everything is measured: training it again" in third.stderr
    assert (run / "scores" / "more.json").is_file() and (run / "policy").is_dir()
