"""Finished means marked: what a kill, a truncated or a damaged file leaves behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.state.records import RunRecord, Status, verified
from harness.state.store import RunStore, read_run
from trainers.common.errors import UnreadableError
from trainers.common.files import read_json, write_bytes, write_json


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    made = RunStore(tmp_path / "fixed-0123456789ab")
    made.create(RunRecord(run_id="fixed-0123456789ab"))
    (made.directory / "policy").mkdir()
    (made.directory / "policy" / "w.bin").write_bytes(b"weights")
    return made


def test_a_kill_between_writing_and_renaming_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    write_json(path, {"step": 1})
    code = (
        "import os, signal, sys, pathlib, harness.state.store as s\n"
        "os.replace = lambda *a: os.kill(os.getpid(), signal.SIGKILL)\n"
        "s.write_json(pathlib.Path(sys.argv[1]), {'step': 2})\n"
    )
    root = Path(__file__).resolve().parents[3]
    killed = subprocess.run([sys.executable, "-c", code, str(path)], cwd=root, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert read_json(path) == {"step": 1}


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
    assert store.is_done("train", "f1") and not store.is_done("train", "f2")
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


@pytest.mark.parametrize("keep", [0, 1, 40])
def test_a_truncated_status_reads_as_pending(store: RunStore, keep: int) -> None:
    store.mark_stage("train", "f1", ["policy/w.bin"], 1.5)
    path = store.directory / "status.json"
    path.write_bytes(path.read_bytes()[:keep])
    assert store.status().state == "pending" and not store.is_done("train", "f1")
    store.start("train")
    assert json.loads(path.read_text())["state"] == "running"


def test_a_failure_keeps_finished_stages(store: RunStore) -> None:
    store.mark_stage("train", "f1", ["policy/w.bin"], 1.5)
    store.fail("OutOfMemoryError", "no room", "Traceback ...")
    status = store.status()
    assert status.state == "failed" and status.error.kind == "OutOfMemoryError" and store.is_done("train", "f1")


def test_creating_again_keeps_the_record(store: RunStore) -> None:
    store.create(RunRecord(run_id="another"))
    assert read_run(store.directory).plain() == {"run_id": "fixed-0123456789ab", "schema_version": 2}


def _flipped(data: bytes) -> Iterator[Any]:
    """What is read from `data` with one bit flipped, for every bit that leaves JSON."""
    for at in range(8 * len(data)):
        other = bytearray(data)
        other[at // 8] ^= 1 << at % 8
        with contextlib.suppress(ValueError):
            yield json.loads(other)


def test_no_flipped_bit_is_taken_for_a_record(store: RunStore) -> None:
    store.mark_stage("train", "f1", ["policy/w.bin"], 1.5)
    for name, read in (("run.json", verified), ("status.json", lambda value: Status.of(verified(value)))):
        data = (store.directory / name).read_bytes()
        found = [read(value) for value in _flipped(data)]
        assert read(json.loads(data)) is not None and len(found) > 500
        assert all(record in (None, read(json.loads(data))) for record in found)


def _flip(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_of_a_damaged_status_is_kept_what_files_prove(store: RunStore) -> None:
    (store.directory / "train_result.json").write_text('{"steps": 4}')
    store.mark_stage("train", "f1", ["policy/w.bin", "train_result.json"], 1.5)
    store.mark_stage("evaluate", "f2", ["policy/w.bin"], 1.5, last=True)
    status = store.directory / "status.json"
    _flip(status, '"evaluate": {', '"evaluatf": {')
    assert store.status().stages == {}, "nothing is believed before it is proved"
    assert store.create(RunRecord(run_id="x")) == [store.directory / "quarantine" / "status.json.1"]
    found = store.status()
    assert list(found.stages) == ["train"] and (found.step, found.total_steps, found.state) == (
        4,
        4,
        "pending",
    )
    assert store.is_done("train", "f1")
    (store.directory / "policy" / "w.bin").write_bytes(b"other")
    _flip(status, '"step": 4', '"step": 5')
    store.create(RunRecord(run_id="x"))
    assert store.status().stages == {}


def test_a_damaged_run_record_is_written_anew(store: RunStore) -> None:
    _flip(store.directory / "run.json", "fixed-0", "fixee-0")
    assert [path.name for path in store.create(RunRecord(run_id="fixed-0123456789ab", seed=3))] == ["run.json.1"]
    assert read_run(store.directory).plain() == {"run_id": "fixed-0123456789ab", "seed": 3, "schema_version": 2}


def test_records_of_earlier_versions_are_read(store: RunStore) -> None:
    """They have no checksum; one without a key that every status has is damaged all the same."""
    store.mark_stage("train", "f1", ["policy/w.bin"], 1.5)
    path = store.directory / "status.json"
    old = {key: value for key, value in read_json(path).items() if key != "checksum"} | {"schema_version": 1}
    write_json(path, old)
    write_json(store.directory / "run.json", {"run_id": "old", "schema_version": 1})
    assert store.create(RunRecord(run_id="new")) == [] and store.is_done("train", "f1")
    assert read_run(store.directory).plain() == {"run_id": "old", "schema_version": 1}
    write_json(path, {{"stages": "stbges"}.get(key, key): value for key, value in old.items()})
    assert store.damaged("train", "f1") is None and store.status().state == "pending"
    assert len(store.create(RunRecord(run_id="new"))) == 1


def test_a_file_that_cannot_be_read_now_is_not_damaged(world: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from harness.cli import main

    plan, (store, *_) = world.begun()
    for name in ("run.json", "status.json"):
        path = store.directory / name
        kept = path.rename(path.with_suffix(".kept"))
        path.symlink_to(
            path
        )  # to itself: the system refuses to read it, with an errno that is not that of a missing file
        with pytest.raises(UnreadableError, match="cannot be read"):
            store.create(RunRecord(run_id="x"))
        if name == "status.json":
            with pytest.raises(UnreadableError):
                store.progress(1, 2)
            assert main(["status", "--output", str(plan.output)]) == 2
            (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("error: ")]
            assert str(path) in line and "run the same command again" in line
        assert not (store.directory / "quarantine").exists()
        path.unlink()
        kept.rename(path)
    assert store.create(RunRecord(run_id="x")) == []
