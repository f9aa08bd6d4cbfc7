"""`clean` removes only what the matrix does not need; `status` says who works, and what is interrupted."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.commands.runs.output import collect
from harness.state import Hardware, frozen_matrix, output_lock, shown_state
from harness.state.clean import leftovers, temporary
from harness.state.machine import differences, mismatches, note_trainer
from harness.state.records import seal, unusable
from harness.state.run_locks import RunClaims
from trainers.common.files import read_json, write_json


def test_clean_lists_then_removes_what_no_run_needs(world: Any, cli: Any) -> None:
    _, stores = world.begun()
    world.replace("pref_beta_scale: 0.5", "pref_beta_scale: 0.6")
    plan, current = world.begun()
    gone = [store.directory for store in stores if store.directory not in [c.directory for c in current]]
    assert len(gone) == 2
    run = current[0].directory
    kept = [run / "scores" / "constraints.json", run / "checkpoints" / "checkpoint-2" / "w", world.output / "notes.txt"]
    kept += [plan.training_pairs(plan.data_hash), world.output / "shared" / "reference" / "this" / "identity.json"]
    extra = [run / "scores" / "old.json", run / "quarantine" / "w.1", run / ".status.json.12.tmp"]
    extra += [world.output / "train_pairs-0123456789abcdef.jsonl", world.output / "figures" / ".a.svg.pujcgf8b"]
    extra += [world.output / "shared" / "reference" / "other" / "identity.json"]
    for path in (*kept, *extra):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text("x")
    write_json(kept[-1], {"weights": plan.model_hash})
    write_json(extra[-1], {"weights": "of another model"})

    listed = cli("clean", "--output", world.output)
    assert listed.returncode == 0 and "nothing removed; --yes removes them" in listed.stdout
    for path in (*gone, *extra[:-1]):
        assert path.name in listed.stdout or path.parent.name in listed.stdout
    assert all(path.exists() for path in (*kept, *extra, *gone))

    removed = cli("clean", "--output", world.output, "--yes")
    assert removed.returncode == 0 and "removed 8 items" in removed.stdout
    assert all(path.exists() for path in kept)
    assert not any(path.exists() for path in (*extra, *gone))
    assert "nothing to remove" in cli("clean", "--output", world.output).stdout
    assert [spec.run_id for spec in world.plan().specs] == [c.directory.name for c in current]


def test_a_finished_run_needs_no_checkpoints(world: Any) -> None:
    _, stores = world.begun()
    store = stores[0]
    (store.directory / "checkpoints" / "checkpoint-2").mkdir(parents=True)
    frozen = frozen_matrix(world.output)
    assert leftovers(world.output, frozen) == []
    store.mark_stage("train", "f", [], 1.0)
    assert [one.path for one in leftovers(world.output, frozen)] == [store.directory / "checkpoints"]


@pytest.mark.parametrize(
    ("name", "unfinished"),
    [
        (".status.json.77.tmp", True),
        ("log_history.77.tmp", True),
        ("example_metrics.parquet.tmp", True),
        ("part-000000004.tmp", True),
        (".policy.tmp", True),
        (".report.html.ab3_de1f", True),
        ("notes.tmp", False),
        (".lock.json", False),
        ("status.json", False),
        (".hidden.file", False),
    ],
)
def test_names_of_unfinished_files(tmp_path: Path, name: str, unfinished: bool) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / name).write_text("")
    assert [path.name for path in temporary(tmp_path)] == ([name] if unfinished else [])


def test_status_tells_running_from_interrupted(world: Any) -> None:
    _, stores = world.begun()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    stores[0].start("train")
    status = stores[0].status()
    assert (status.pid, status.host) == (os.getpid(), socket.gethostname())
    assert shown_state(status) == "running"
    assert shown_state(status.model_copy(update={"pid": dead.pid})) == "interrupted"
    assert shown_state(status.model_copy(update={"pid": dead.pid, "host": "another-host"})) == "running", (
        "not to be known from here"
    )
    stores[1].stop("SIGTERM", 3)
    found = collect(world.output)
    assert [row["state"] for row in found["runs"]] == ["running", "interrupted", "pending", "pending"]
    assert found["runs"][1]["step"] == 3


def test_watch_ends_when_all_is_done(world: Any, cli: Any) -> None:
    _, stores = world.begun()
    for store in stores:
        store.mark_stage("train", "f", [], 1.0, last=True)
    shown = cli("status", "--output", world.output, "--watch", "0.1")
    assert shown.returncode == 0 and "4 done" in shown.stdout
    lines = cli("status", "--output", world.output, "--watch", "0.1", "--json").stdout.splitlines()
    assert json.loads(lines[-1])["matrix"] == "small" and len(lines) == 1
    refused = cli("status", "--output", world.output, "--watch", "soon")
    assert refused.returncode == 2 and "'soon'" in refused.stderr


def test_watch_ends_when_all_is_trained_and_nobody_evaluates(
    world: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `worker --train-only` leaves it."""
    from harness.cli import main
    from harness.commands.runs import output

    _, stores = world.begun()
    for store in stores:
        store.start("train")
        store.mark_stage("train", "f", [], 1.0)
    with output_lock(world.output):
        assert {row["state"] for row in collect(world.output)["runs"]} == {"running"}
    monkeypatch.setattr(output, "_HANDOVER_SECONDS", 0.1)
    assert main(["status", "--output", str(world.output), "--watch", "0.1"]) == 0
    assert "4 trained" in capsys.readouterr().out


def test_a_worker_notes_under_what_it_trains(world: Any) -> None:
    """Another one may have made the record of the run; one that goes on from a checkpoint is noted as well."""
    plan, (store, *_) = world.begun()
    other = plan.environment.model_copy(update={"hardware": Hardware(machine="other", cpus=1, gpus=[])})
    note_trainer(store, other)
    record = read_json(store.directory / "run.json")
    assert record["hardware"] == other.hardware.plain() and "resumed_under" not in record
    (store.directory / "checkpoints" / "checkpoint-2").mkdir(parents=True)
    claims = RunClaims(plan)
    assert claims.take(plan.specs[0])
    claims.give_back(plan.specs[0])
    record = read_json(store.directory / "run.json")
    assert record["hardware"] == other.hardware.plain()
    assert [entry["hardware"] for entry in record["resumed_under"]] == [plan.environment.hardware.plain()]


def test_other_versions_on_resume_are_reported_and_recorded(world: Any) -> None:
    plan, (store, other, *_) = world.begun()
    changed = plan.environment.model_copy(update={"versions": {**plan.environment.versions, "torch": "0.1"}})
    assert mismatches([store, other], changed) == {}, "nothing is begun yet"
    store.progress(3, 10)
    (text,) = mismatches([store, other], changed)
    assert text == f"torch {plan.environment.versions['torch']} -> 0.1"
    (store.directory / "checkpoints" / "checkpoint-3").mkdir(parents=True)
    note_trainer(store, changed)
    note_trainer(store, changed)
    record = read_json(store.directory / "run.json")
    assert [entry["versions"]["torch"] for entry in record["resumed_under"]] == ["0.1"]
    assert differences(plan.environment, plan.environment) == []


def test_a_damaged_checkpoint_is_found_by_its_checksums(world: Any) -> None:
    _, (store, *_) = world.begun()
    folder = store.directory / "checkpoints" / "checkpoint-2"
    part = store.directory / "example_metrics.parts" / "part-000000002.parquet"
    for path in (folder / "model.safetensors", part):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"weights")
    assert unusable(store.directory) == {folder: []}
    seal(folder, store.directory)
    assert unusable(store.directory) == {}
    part.write_bytes(b"weightz")
    assert unusable(store.directory) == {folder: [str(part.relative_to(store.directory))]}


def test_a_run_goes_on_from_the_last_checkpoint_that_was_finished(world: Any) -> None:
    """One without a seal may load and not be whole: a power cut came while it was written."""
    from harness.workers.train_worker import Events, _keep_whole_checkpoints

    _, (store, *_) = world.begun()
    folders = [store.directory / "checkpoints" / f"checkpoint-{step}" for step in (2, 4)]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "trainer_state.json").write_text('{"global_step": 4}')
    seal(folders[0], store.directory)
    _keep_whole_checkpoints(store, Events(world.root / "events.jsonl"))
    assert folders[0].is_dir() and not folders[1].exists()
    assert "checkpoint-4 is incomplete" in (world.root / "events.jsonl").read_text()
