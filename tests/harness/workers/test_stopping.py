"""Ctrl-C and SIGTERM end a matrix where it can go on; failures that may pass are tried again, others are not."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from harness.state.failures import disk_errno, disk_line, is_transient, record_is_transient
from harness.state.records import Failure
from harness.workers.stopping import Stopped, StopSignals
from tests.harness.small_matrix import statuses, write_matrix
from tests.warm import Harness

ROOT = Path(__file__).resolve().parents[3]
RULES = """
import errno, os, pathlib, signal, time
from trainers.rules.base import BetaRule

class Slow(BetaRule):
    def __init__(self, hidden_size, pref_beta=0.1):
        super().__init__(pref_beta)
    def beta(self, batch):
        time.sleep(0.2)
        return self.pref_beta

def first_time(name):
    marker = pathlib.Path(__file__).with_name(name)
    first = not marker.exists()
    marker.touch()
    return first

class KilledOnce(BetaRule):
    def __init__(self, hidden_size, pref_beta=0.1):
        super().__init__(pref_beta)
    def beta(self, batch):
        if first_time("killed"):
            os.kill(os.getpid(), signal.SIGKILL)
        return self.pref_beta

class FullOnce(KilledOnce):
    def beta(self, batch):
        if first_time("full"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x")
        return self.pref_beta

class Wrong(KilledOnce):
    def beta(self, batch):
        raise ValueError("this never works")
"""
MATRIX = """
name: stopping
model: {name_or_path: "MODEL"}
data: {train: pairs.jsonl}
training: {per_device_train_batch_size: 2, max_steps: STEPS, max_length: 128, bf16: false, gradient_checkpointing: false}
methods:
METHODS
report: {}
"""


def _matrix(folder: Path, model: Path, methods: list[str], steps: int) -> list[str]:
    (folder / "rules.py").write_text(RULES)
    lines = "\n".join(f'  - {{name: {name.lower()}, rule: "rules.py:{name}"}}' for name in methods)
    config = write_matrix(folder, MATRIX.replace("STEPS", str(steps)).replace("METHODS", lines), model)
    return ["run-matrix", str(config), "--output", str(folder / "out")]


def _status(output: Path, method: str) -> dict[str, Any]:
    return statuses(output).get(method, {"state": "absent", "step": 0})


def _start_and_wait_for_step(harness: Harness, command: list[str], output: Path, step: int) -> int:
    harness.start(command)
    deadline = time.monotonic() + 300
    while not (_status(output, "slow")["state"] == "running" and _status(output, "slow")["step"] >= step):
        assert (early := harness.ended()) is None, early.stderr
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert harness.pid
    return harness.pid


def test_signals_leave_a_checkpoint_to_go_on_from(tiny_model: Path, tmp_path: Path, warm_harness: Harness) -> None:
    command, output = _matrix(tmp_path, tiny_model, ["Slow"], 16), tmp_path / "out"

    os.killpg(_start_and_wait_for_step(warm_harness, command, output, 2), signal.SIGINT)  # as a terminal's Ctrl-C
    ended = warm_harness.wait(120)
    error = ended.stderr
    assert ended.returncode == 130, error
    assert "finishing and saving" in error and "Resume with: python -m harness run-matrix" in error
    assert "Traceback" not in error
    stopped = _status(output, "slow")
    assert (stopped["state"], stopped["error"]) == ("pending", None)
    folder = next(output.glob("runs/slow-*"))
    assert [path.name for path in (folder / "checkpoints").iterdir()] == [f"checkpoint-{stopped['step']}"]
    assert (folder / "checkpoints" / f"checkpoint-{stopped['step']}" / "checksums.json").is_file()

    os.killpg(_start_and_wait_for_step(warm_harness, command, output, stopped["step"] + 2), signal.SIGTERM)  # as Slurm
    ended = warm_harness.wait(120)
    assert ended.returncode == 143, ended.stderr
    later = _status(output, "slow")
    assert later["state"] == "pending" and later["step"] > stopped["step"]

    process = _start_and_wait_for_step(warm_harness, command, output, later["step"])
    worker = _status(output, "slow")["pid"]
    for _ in range(2):
        os.kill(process, signal.SIGINT)
        time.sleep(0.05)
    ended = warm_harness.wait(60)
    assert ended.returncode == 130 and "resumes from its last checkpoint" in ended.stderr
    assert not Path(f"/proc/{worker}").exists()

    warm_harness.start(command)
    result = warm_harness.wait()
    assert result.returncode == 0, result.stderr
    assert json.loads((folder / "train_result.json").read_text())["resumed_from_step"] == later["step"]
    history = json.loads((folder / "log_history.json").read_text())[folder.name]
    assert [record["step"] for record in history if "loss" in record] == list(range(1, 17))


def test_what_may_pass_is_tried_again_and_what_may_not_is_not(
    tiny_model: Path, tmp_path: Path, warm_harness: Harness
) -> None:
    output = tmp_path / "out"
    warm_harness.start(_matrix(tmp_path, tiny_model, ["KilledOnce", "FullOnce", "Wrong"], 2))
    result = warm_harness.wait()
    assert result.returncode == 1, result.stderr
    assert _status(output, "killedonce")["state"] == _status(output, "fullonce")["state"] == "done"
    assert "signal SIGKILL" in result.stderr and "try 2 of 3" in result.stderr
    error = _status(output, "wrong")["error"]
    assert (error["class"], error["message"], error["attempts"]) == ("ValueError", "this never works", 1)
    assert "Traceback" in error["traceback"] and error["transient"] is False


def test_max_failures_ends_the_matrix_early(tiny_model: Path, tmp_path: Path, warm_harness: Harness) -> None:
    warm_harness.start([*_matrix(tmp_path, tiny_model, ["Wrong", "Slow"], 60), "--max-failures", "1"])
    result = warm_harness.wait()
    assert result.returncode == 1 and "ending early: 1 failed" in result.stderr
    assert "train" not in _status(tmp_path / "out", "slow")["stages"]


def test_a_full_disk_is_one_line(tiny_model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "harness", *_matrix(tmp_path, tiny_model, ["Slow"], 2)]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))

    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, preexec_fn=limit)
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.returncode == 2 and len(errors) == 1 and "Traceback" not in result.stderr, result.stderr
    assert "File too large" in errors[0] and "run the same command again" in errors[0]


def test_a_disk_that_fills_up_in_training_is_one_line_and_loses_nothing(
    tiny_model: Path, tmp_path: Path, warm_harness: Harness
) -> None:
    disk = tmp_path / "out"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a small disk is not allowed here")
    try:
        command = _matrix(tmp_path, tiny_model, ["FullOnce"], 2)
        (tmp_path / "full").touch()
        warm_harness.start(command)
        full = warm_harness.wait()
        errors = [line for line in full.stderr.splitlines() if line.startswith("error: ")]
        assert full.returncode == 2 and len(errors) == 1 and "Traceback" not in full.stderr, full.stderr
        assert "No space left on device" in errors[0] and "free some space" in errors[0]
        subprocess.run(["mount", "-o", "remount,size=16M", str(disk)], check=True)
        warm_harness.start(command)
        result = warm_harness.wait()
        assert result.returncode == 0, result.stderr
    finally:
        subprocess.run(["umount", str(disk)], check=False)


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (MemoryError("no room"), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory"), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EIO, "Input/output error"), True),
        (RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"), True),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 31552 vs 31440"), True),
        (OSError(errno.ENOENT, "No such file or directory"), False),
        (OSError(errno.EROFS, "Read-only file system"), False),
        (ValueError("wrong"), False),
        (RuntimeError("no beta today"), False),
    ],
)
def test_which_failures_are_transient(error: Exception, transient: bool) -> None:
    assert is_transient(error) is transient
    recorded = Failure.model_validate({"class": type(error).__name__, "message": str(error), "transient": None})
    assert record_is_transient(recorded) is transient


def test_lines_about_disks_say_what_to_do() -> None:
    assert "free some space" in disk_line(errno.ENOSPC, "x")
    assert "give another --output" in disk_line(errno.EROFS, "x")
    assert disk_errno(OSError(errno.EROFS, "Read-only file system")) == errno.EROFS
    assert disk_errno(ValueError("x")) is None


def test_a_read_only_directory_is_one_line(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.cli import main
    from harness.state import store

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(world.output))

    monkeypatch.setattr(store.os, "replace", refuse)
    assert main(["run-matrix", str(world.config), "--output", str(world.output)]) == 2


def test_the_first_signal_is_noted_in_a_step_and_the_second_ends_it() -> None:
    with StopSignals() as stops:
        with stops.finishing_steps():
            os.kill(os.getpid(), signal.SIGTERM)
            assert stops.requested == signal.SIGTERM
            os.kill(os.getpid(), signal.SIGTERM)  # a scheduler's second copy changes nothing
            with pytest.raises(Stopped) as at_once:
                os.kill(os.getpid(), signal.SIGINT)
            assert at_once.value.at_once
        with pytest.raises(Stopped) as stopped:
            stops.check()
        assert stopped.value.exit_code == 143


def test_outside_a_step_the_first_signal_ends_it() -> None:
    before = signal.getsignal(signal.SIGINT)
    with StopSignals(), pytest.raises(Stopped) as stopped:
        os.kill(os.getpid(), signal.SIGINT)
    assert stopped.value.exit_code == 130
    assert signal.getsignal(signal.SIGINT) is before
