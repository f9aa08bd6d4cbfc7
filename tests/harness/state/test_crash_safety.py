"""What a crash, a failure or a wrong clock may not take: syncs before renames, finished scores, the order of the stages."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from evals.supervise import JobResult
from harness.commands.runs.output import collect
from harness.executors import local
from harness.progress import Progress
from harness.stages.evaluate import evaluate_policies
from harness.state import RunRecord, RunStore
from trainers.common import scores_schema
from trainers.common.files import read_json, write_json


def _traced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of files pushed to disk and renamed, in order."""
    seen: list[str] = []
    fsync, replace = os.fsync, os.replace

    def traced_fsync(descriptor: int) -> None:
        seen.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        fsync(descriptor)

    def traced_replace(source: Any, target: Any) -> None:
        seen.append(f"rename {Path(source).name}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", traced_fsync)
    monkeypatch.setattr(os, "replace", traced_replace)
    return seen


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="names of open files come from /proc")
def test_a_file_is_on_disk_before_its_name_and_its_name_before_the_next_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    seen = _traced(monkeypatch)
    write_json(tmp_path / "folder" / "a.json", 1)
    temporary = f".a.json.{os.getpid()}.tmp"
    assert seen == [f"sync {temporary}", f"rename {temporary}", "sync folder"]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="names of open files come from /proc")
def test_a_marker_comes_after_the_files_it_stands_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RunStore(tmp_path / "run")
    store.create(RunRecord(run_id="run"))
    (store.directory / "policy").mkdir()
    (store.directory / "policy" / "w").write_bytes(b"weights")
    seen = _traced(monkeypatch)
    store.mark_stage("train", "f", ["policy/w"], 1.0)
    marker = seen.index(f"rename .status.json.{os.getpid()}.tmp")
    assert {"sync w", "sync policy"} <= set(seen[:marker])


class _Engine:
    """Stands for the evaluation worker: scores every policy but `broken`."""

    def __init__(self, broken: str | None = None) -> None:
        self.broken, self.asked = broken, list[str]()

    def __call__(self, job: dict[str, Any], job_path: Path, on_event: Any) -> JobResult:
        result = JobResult()
        for policy in job["policies"]:
            if policy["run_id"] in job["skip"]:
                continue
            self.asked.append(policy["run_id"])
            if policy["run_id"] == self.broken:
                result.failed[self.broken] = {"class": "ValueError", "message": "no", "traceback": "Traceback ..."}
                continue
            for benchmark in job["benchmarks"]:
                cell = scores_schema.cell_fingerprint(policy["fingerprint"], benchmark["fingerprint"])
                path = scores_schema.scores_path(Path(policy["out"]), benchmark["name"])
                scores_schema.write_json(path, {"fingerprint": cell, "policy": policy["run_id"]})
            on_event({"event": "policy_done", "policy": policy["run_id"]})
        return result


def _trained(world: Any) -> tuple[Any, list[RunStore]]:
    plan, stores = world.begun()
    for store, spec in zip(stores, plan.specs, strict=True):
        store.mark_stage("train", spec.fingerprint, [], 1.0)
    return plan, stores


def test_evaluations_of_finished_runs_survive_a_later_failure(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, stores = _trained(world)
    first, later = plan.specs[:2], plan.specs[:3]
    engine = _Engine()
    monkeypatch.setattr(local, "run_job", engine)
    with Progress() as progress:
        assert evaluate_policies(plan, first, progress) == {}
        files = {store.directory: scores_schema.scores_path(store.directory, "constraints") for store in stores[:2]}
        before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files.values()}
        engine = _Engine(broken=plan.specs[2].run_id)
        monkeypatch.setattr(local, "run_job", engine)
        failed = evaluate_policies(plan, later, progress)
    assert list(failed) == [plan.specs[2].run_id] == list(dict.fromkeys(engine.asked)), "only what was missing is asked"
    engine.asked.clear()
    again = evaluate_policies(plan, later, Progress())
    assert list(again) == list(failed) and engine.asked == [], "told by every call, and not tried again"
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before} == before
    assert [store.status().state for store in stores[:3]] == ["done", "done", "failed"]
    assert "train" in stores[2].status().stages, "a failed evaluation is no failed training"


def test_a_flipped_digit_in_kept_log_probs_is_found(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is JSON as before, so only the checksum tells."""
    plan, (store, *_) = _trained(world)
    spec = plan.specs[0]
    path = scores_schema.logprobs_path(store.directory, "constraints")
    scores_schema.append_rows(path, [{"id": "b0", "logprobs": [-1.25]}])
    engine = _Engine()
    monkeypatch.setattr(local, "run_job", engine)
    with Progress() as progress:
        evaluate_policies(plan, [spec], progress)
        asked = list(engine.asked)
        path.write_bytes(path.read_bytes().replace(b"1.25", b"1.24"))
        assert evaluate_policies(plan, [spec], progress) == {}
    assert not path.exists() and (store.directory / "quarantine" / "logprobs" / "constraints.jsonl.1").is_file()
    assert engine.asked == asked, "the scores are whole"
    assert store.status().state == "done"


@pytest.mark.parametrize("clock", ["1970-01-01T00:00:00+00:00", "2199-12-31T23:59:59+00:00"])
def test_a_clock_that_jumps_changes_no_state(world: Any, monkeypatch: pytest.MonkeyPatch, clock: str) -> None:
    """Dates are for people: what is finished, running or interrupted never depends on them."""
    plan, stores = _trained(world)
    monkeypatch.setattr("harness.state.store.now", lambda: clock)
    stores[1].start("evaluate")
    stores[2].fail("ValueError", "no", "Traceback ...")
    stores[3].progress(1, 2, every=0.0)
    assert [row["state"] for row in collect(plan.output)["runs"]] == ["trained", "trained", "failed", "trained"]
    assert all(s.is_done("train", spec.fingerprint) for s, spec in zip(stores, plan.specs, strict=True))
    assert stores[1].status().heartbeat == clock
    assert [spec.run_id for spec in world.plan().specs] == [spec.run_id for spec in plan.specs]


def test_an_output_that_is_moved_goes_on(world: Any) -> None:
    _trained(world)
    shutil.move(world.output, world.root / "moved")
    world.output = world.root / "moved"
    moved = world.plan()
    assert all(RunStore(moved.run_dir(spec)).is_done("train", spec.fingerprint) for spec in moved.specs)
    assert read_json(moved.output / "matrix.json")["runs"] == [spec.run_id for spec in moved.specs]
