"""Trains the waiting runs in a worker process, watches it, and records what dies with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.matrix import RunSpec
from harness.plan import Plan
from harness.progress import Progress
from harness.store import RunStore, write_json


class EventTail:
    """Reads whole JSON lines as they are appended to a file."""

    def __init__(self, path: Path) -> None:
        self.path, self._offset = path, 0

    def read(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        with self.path.open("rb") as handle:
            handle.seek(self._offset)
            data = handle.read()
        end = data.rfind(b"\n") + 1
        self._offset += end
        return [json.loads(line) for line in data[:end].splitlines()]


def worker_environment() -> dict[str, str]:
    """The environment of a worker: this one, with the project importable from any working directory."""
    root = str(Path(__file__).resolve().parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


def train_runs(plan: Plan, waiting: Sequence[RunSpec], progress: Progress) -> None:
    """Train every waiting run. A run that fails or takes its process down is recorded; the rest goes on."""
    work_dir = plan.output / "work"
    work_dir.mkdir(parents=True, exist_ok=True)
    for spec in waiting:  # a failure of an earlier attempt must not count as this one's
        RunStore(plan.run_dir(spec)).forget("train")
    left = list(waiting)
    number = {spec.run_id: i for i, spec in enumerate(waiting, start=1)}
    while left:
        current = _run_worker(plan, left, work_dir, progress, number, len(waiting))
        settled = [spec for spec in left if RunStore(plan.run_dir(spec)).status()["state"] in ("done", "failed")]
        trained = [
            spec for spec in left if RunStore(plan.run_dir(spec)).is_done("train", spec.fingerprint, verify=False)
        ]
        if current is not None:  # the worker died in the middle of this run, or before any (then: the first)
            spec = next((s for s in left if s.run_id == current[0]), left[0])
            if spec not in trained:
                log = work_dir / "train.log"
                tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-40:])
                RunStore(plan.run_dir(spec)).fail("WorkerDied", f"the training process ended with {current[1]}", tail)
                progress.say(f"failed: {spec.label}: the training process ended with {current[1]} (see {log})")
                settled.append(spec)
        remaining = [spec for spec in left if spec not in settled and spec not in trained]
        if len(remaining) == len(left):
            break
        left = remaining


def _exit_text(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _run_worker(
    plan: Plan, runs: Sequence[RunSpec], work_dir: Path, progress: Progress, number: dict[str, int], total: int
) -> tuple[str, str] | None:
    """One worker over `runs`; None if it finished, else (run it was in or '', how it ended)."""
    events_path, work_path = work_dir / "train.events.jsonl", work_dir / "train.json"
    events_path.unlink(missing_ok=True)
    labels = {spec.run_id: spec.label for spec in runs}
    write_json(
        work_path,
        {"parent": os.getpid(), "events": str(events_path), "jobs": [plan.train_job(spec) for spec in runs]},
    )
    tail, current, finished = EventTail(events_path), "", False
    with (work_dir / "train.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "harness.train_worker", str(work_path)],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env=worker_environment(),
        )
    try:
        alive = True
        while alive:
            alive = process.poll() is None
            for event in tail.read():
                run_id = event.get("run_id", "")
                if event["event"] == "run_started":
                    current = run_id
                elif event["event"] in ("run_done", "run_failed"):
                    current = ""
                finished = finished or event["event"] == "finished"
                _show(event, labels, number, total, plan, progress)
            if alive:
                time.sleep(0.1)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    return None if finished else (current, _exit_text(process.returncode))


def _show(
    event: dict[str, Any], labels: dict[str, str], number: dict[str, int], total: int, plan: Plan, progress: Progress
) -> None:
    run_id = event.get("run_id", "")
    name = f"[{number.get(run_id, 0)}/{total}] {labels.get(run_id, run_id)}"
    if event["event"] == "started":
        progress.say("training process started; importing torch, transformers and trl")
    elif event["event"] == "run_started":
        progress.say(f"train {name}: tokenising, reference log-probs")
    elif event["event"] == "progress" and event["step"]:
        loss, beta = event["loss"], event["dynamic_beta"]
        note = f"loss {loss:.4f}  beta {beta:.4f}" if loss is not None and beta is not None else ""
        progress.tick(f"train {name}: step", event["step"], event["total_steps"], event["eta_seconds"], note)
    elif event["event"] == "note":
        progress.clear()
        progress.say(f"train {name}: {event['text']}")
    elif event["event"] == "run_done":
        from reports.metrics import write_run_files

        seconds = RunStore(plan.output / "runs" / run_id).status()["stages"]["train"]["seconds"]
        progress.clear()
        progress.say(f"trained {name} in {seconds:.0f}s")
        try:
            write_run_files(plan.output / "runs" / run_id)
        except Exception as error:  # a figure must not end a matrix; the report makes these files again
            progress.say(f"metrics of {name} could not be written yet: {type(error).__name__}: {error}")
    elif event["event"] == "run_failed":
        progress.clear()
        progress.say(f"failed {name}: {event['error']}: {event['message'].splitlines()[0] if event['message'] else ''}")
