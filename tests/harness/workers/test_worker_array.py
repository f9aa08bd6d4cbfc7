"""Several workers on one output: never two in one run; one killed in the middle, or a damaged policy, loses nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from harness.progress import Progress
from harness.stages.train import train_runs
from harness.state.run_locks import RunClaims
from harness.workers.stopping import StopSignals
from tests.faults.compare import differences
from tests.harness.small_matrix import SmallMatrix

ROOT = Path(__file__).resolve().parents[3]


def _worker(small: SmallMatrix, output: Path, log: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "harness", "worker", str(small.config), "--output", str(output), "--train-only"]
    with (small.root / log).open("wb") as handle:
        return subprocess.Popen([*command, "--set", "executor.threads=1"], cwd=ROOT, stdout=handle, stderr=handle)


@pytest.mark.timeout(600)
def test_one_of_two_workers_is_killed(small: SmallMatrix, single: Any, tmp_path: Path) -> None:
    output = tmp_path / "out"
    small.steps.unlink()
    small.pause(1.0)
    workers = [_worker(small, output, f"{n}.log") for n in range(2)]
    try:
        deadline = time.monotonic() + 240
        busy: dict[int, list[str]] = {}
        while len(busy) < 2 and time.monotonic() < deadline:
            assert all(worker.poll() is None for worker in workers), (small.root / "0.log").read_text()
            busy = {}
            for path in output.glob("runs/*/.lock.json"):
                busy.setdefault(json.loads(path.read_text())["pid"], []).append(path.parent.name)
            busy = busy if small.steps.exists() else {}
            time.sleep(0.1)
        assert set(busy) == {worker.pid for worker in workers} and all(len(runs) == 1 for runs in busy.values())
        os.kill(workers[0].pid, signal.SIGKILL)
        assert workers[1].wait(timeout=300) == 0, (small.root / "1.log").read_text()
    finally:
        small.pause(0.0)
        for worker in workers:
            worker.kill()
            worker.wait()
    assert small.all_trained(output) and differences(single, small.trained(output)) == []
    assert len(small.steps.read_text().splitlines()) <= 2 * 4 + 2


def test_a_worker_died_before_it_wrote_the_files_of_its_run(small: SmallMatrix, single: Any, tmp_path: Path) -> None:
    output = tmp_path / "out"
    shutil.copytree(small.root / "single", output)
    for name in ("summary.json", "training_metrics.csv", "training_curves.png"):
        next(output.glob(f"runs/foodpo-*/{name}")).unlink()
    plan = small.plan(output)
    with StopSignals() as stops:
        train_runs(plan, plan.specs, Progress(), stops, claims=RunClaims(plan))
    assert differences(single, small.trained(output)) == []


def test_a_damaged_policy_is_trained_again(small: SmallMatrix, single: Any, tmp_path: Path) -> None:
    """It is found by whoever evaluates, when all runs counted as trained: then there is something to train again."""
    from harness.cli import main

    whole, output = small.root / "single", tmp_path / "out"
    shutil.copytree(whole, output)
    weights = next(output.glob("runs/foodpo-*/policy/model.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-8] + b"\1" * 8)
    assert main(["worker", str(small.config), "--output", str(output), "--set", "executor.threads=1"]) == 0
    assert list(weights.parents[1].glob("quarantine/policy/model.safetensors.*"))
    assert (output / "report.html").is_file()
    assert weights.read_bytes() == (whole / weights.relative_to(output)).read_bytes() and small.all_trained(output)
