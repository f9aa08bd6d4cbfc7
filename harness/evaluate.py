"""Evaluates the reference and every trained policy through one engine in a supervised worker."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evals import schema
from harness.matrix import RunSpec
from harness.plan import Plan
from harness.progress import Progress
from harness.store import RunStore


def evaluate_policies(plan: Plan, trained: Sequence[RunSpec], progress: Progress) -> None:
    """Fill in every missing policy x benchmark cell and mark the runs. A policy that fails is recorded."""
    policies = plan.policies(trained)
    waiting = [p for p in policies if not all(plan.cell_done(p, b) for b in plan.benchmarks)]
    started = time.monotonic()
    failed: dict[str, dict[str, str]] = {}
    if waiting:
        progress.say(f"evaluating {len(waiting)} of {len(policies)} policies on {len(plan.benchmarks)} benchmarks")
        failed = _run(plan, policies, trained, progress)
    elif plan.benchmarks:
        progress.say(f"all {len(policies)} policies are evaluated")
    for spec in trained:
        store = RunStore(plan.run_dir(spec))
        if spec.run_id in failed:
            error = failed[spec.run_id]
            store.fail(error["class"], error["message"], error["traceback"])
            continue
        entry = next(p for p in policies if p["run_id"] == spec.run_id)
        cells = [schema.cell_fingerprint(entry["fingerprint"], b["fingerprint"]) for b in plan.benchmarks]
        fingerprint = schema.digest(cells)
        if store.is_done("evaluate", fingerprint, verify=False) and store.status()["state"] == "done":
            continue
        files = [
            str(schema.scores_path(Path(entry["out"]), b["name"]).relative_to(plan.run_dir(spec)))
            for b in plan.benchmarks
        ]
        if all(plan.cell_done(entry, b) for b in plan.benchmarks):
            store.mark_stage("evaluate", fingerprint, files, time.monotonic() - started, last=True)
        else:
            store.fail("EvaluationIncomplete", "the evaluation ended before this policy was done", "")
    if schema.REFERENCE in failed:
        progress.say(f"failed: reference: {failed[schema.REFERENCE]['message']}")


def _run(
    plan: Plan, policies: list[dict[str, Any]], trained: Sequence[RunSpec], progress: Progress
) -> dict[str, dict[str, str]]:
    from evals.supervise import run_job

    labels = {schema.REFERENCE: "reference", **{spec.run_id: spec.label for spec in trained}}
    order = {p["run_id"]: i for i, p in enumerate(policies, start=1)}
    work = plan.output / "work"
    job = {
        "schema_version": schema.SCHEMA_VERSION,
        "engine": plan.config.evaluation.engine.model_dump(),
        "base_model": str(plan.model.path),
        "events": str(work / "evaluate.events.jsonl"),
        "policies": policies,
        "benchmarks": plan.benchmarks,
    }

    def show(event: dict[str, Any]) -> None:
        policy = event.get("policy")
        name = f"[{order.get(policy or '', 0)}/{len(policies)}] {labels.get(policy or '', policy)}"
        kind = event["event"]
        if kind == "started":
            progress.say("evaluation process started; the engine takes a while to come up")
        elif kind == "engine_started":
            progress.say(f"engine up in {event['seconds']:.0f}s: {event['engine']}")
        elif kind == "progress" and "tokens_per_second" in event:
            note = f"{event['tokens_per_second']:.0f} tokens/s"
            progress.tick(f"evaluate {name}: {event['benchmark']}", event["done"], event["total"], event["eta_s"], note)
        elif kind == "progress":
            progress.tick(f"evaluate {name}: {event['benchmark']}", event["done"], event["total"])
        elif kind == "policy_done":
            progress.clear()
            progress.say(f"evaluated {name}")
        elif kind == "policy_failed":
            progress.clear()
            progress.say(f"failed {name}: {event['error']}: {event['message'].splitlines()[0]}")
        elif kind == "worker_died":
            progress.clear()
            progress.say(f"the evaluation process died{f' (in {name})' if policy else ''}; starting it again")

    return run_job(job, work / "evaluate.json", show).failed
