"""Two workers on one output: never both in one run, and one killed in the middle loses nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.compare import differences
from tests.harness.small_matrix import SmallMatrix

ROOT = Path(__file__).resolve().parents[2]


def _worker(small: SmallMatrix, output: Path, log: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "harness", "worker", str(small.config), "--output", str(output), "--train-only"]
    with (small.root / log).open("wb") as handle:
        return subprocess.Popen([*command, "--set", "executor.threads=1"], cwd=ROOT, stdout=handle, stderr=handle)


@pytest.mark.timeout(600)
def test_one_of_two_workers_is_killed(tmp_path: Path) -> None:
    from trainers.tiny import build_tiny_model

    small = SmallMatrix(tmp_path / "m", build_tiny_model(tmp_path / "model"))
    small.train(tmp_path / "single", "executor.threads=1")
    output, steps = tmp_path / "out", small.root / "steps.log"
    steps.unlink()
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
            busy = busy if steps.exists() else {}
            time.sleep(0.1)
        assert set(busy) == {worker.pid for worker in workers} and all(len(runs) == 1 for runs in busy.values())
        os.kill(workers[0].pid, signal.SIGKILL)
        assert workers[1].wait(timeout=300) == 0, (small.root / "1.log").read_text()
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert all("train" in status["stages"] and status["error"] is None for status in small.statuses(output))
    assert differences(small.trained(tmp_path / "single"), small.trained(output)) == []
    assert len(steps.read_text().splitlines()) <= 2 * 4 + 2
