"""Finished means marked: what a kill, a truncated or a damaged file leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.lock import output_lock
from harness.store import RunStore, read_json, write_bytes, write_json


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    made = RunStore(tmp_path / "fixed-0123456789ab")
    made.create({"run_id": "fixed-0123456789ab"})
    (made.directory / "policy").mkdir()
    (made.directory / "policy" / "w.bin").write_bytes(b"weights")
    return made


def test_a_kill_between_writing_and_renaming_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    write_json(path, {"step": 1})
    code = (
        "import os, signal, sys, pathlib, harness.store as s\n"
        "os.replace = lambda *a: os.kill(os.getpid(), signal.SIGKILL)\n"
        "s.write_json(pathlib.Path(sys.argv[1]), {'step': 2})\n"
    )
    root = Path(__file__).resolve().parents[2]
    killed = subprocess.run([sys.executable, "-c", code, str(path)], cwd=root, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert read_json(path) == {"step": 1}
    write_json(path, {"step": 3})
    assert read_json(path) == {"step": 3}


def test_a_failed_write_leaves_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    write_bytes(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_bytes(path, b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert path.read_bytes() == b"old"


def test_nan_is_refused_before_anything_is_replaced(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))
    assert read_json(tmp_path / "a.json") == 1


def test_a_marked_stage_is_done_for_its_fingerprint_only(store: RunStore) -> None:
    assert not store.is_done("train", "f1")
    store.mark_stage("train", "f1", ["policy/w.bin"], 1.5)
    assert store.is_done("train", "f1")
    assert not store.is_done("train", "f2")
    assert store.is_done("train", "f1")


def test_a_damaged_file_is_set_aside_and_the_stage_done_again(store: RunStore) -> None:
    weights = store.directory / "policy" / "w.bin"
    for n in (1, 2):
        weights.write_bytes(b"weights")
        store.mark_stage("train", "f1", ["policy/w.bin"], 1.5)
        weights.write_bytes(b"weig")
        assert not store.is_done("train", "f1")
        assert (store.directory / "quarantine" / "policy" / f"w.bin.{n}").read_bytes() == b"weig"
        assert not weights.exists()
        assert not store.is_done("train", "f1")


def test_a_missing_file_means_not_done(store: RunStore) -> None:
    store.mark_stage("train", "f1", ["policy/w.bin"], 1.5)
    (store.directory / "policy" / "w.bin").unlink()
    assert not store.is_done("train", "f1", verify=False)


@pytest.mark.parametrize("keep", [0, 1, 40])
def test_a_truncated_status_reads_as_pending(store: RunStore, keep: int) -> None:
    store.mark_stage("train", "f1", ["policy/w.bin"], 1.5)
    path = store.directory / "status.json"
    path.write_bytes(path.read_bytes()[:keep])
    assert store.status()["state"] == "pending"
    assert not store.is_done("train", "f1")
    store.start("train")
    assert json.loads(path.read_text())["state"] == "running"


def test_a_failure_keeps_finished_stages(store: RunStore) -> None:
    store.mark_stage("train", "f1", ["policy/w.bin"], 1.5)
    store.fail("OutOfMemoryError", "no room", "Traceback ...")
    status = store.status()
    assert status["state"] == "failed"
    assert status["error"]["class"] == "OutOfMemoryError"
    assert store.is_done("train", "f1")


def test_creating_again_keeps_the_record(store: RunStore) -> None:
    store.create({"run_id": "another"})
    assert read_json(store.directory / "run.json") == {"run_id": "fixed-0123456789ab"}


def test_one_process_per_output(tmp_path: Path) -> None:
    with (
        output_lock(tmp_path),
        pytest.raises(UserError, match=rf"process {os.getpid()} .*--output"),
        output_lock(tmp_path),
    ):
        pass
    with output_lock(tmp_path):
        pass


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    code = "import os, pathlib, signal, sys; from harness.lock import output_lock\n"
    code += "with output_lock(pathlib.Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)\n"
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=root, check=False)
    with output_lock(tmp_path):
        pass
