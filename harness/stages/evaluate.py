"""Evaluates the reference and every trained policy through one engine in a supervised worker."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from evals.lm_eval.model import cache_path
from evals.supervise import NOT_STARTED
from harness.plan.entries import Policy
from harness.plan.matrix import RunSpec
from harness.plan.plan import Plan
from harness.progress import Progress
from harness.stages.report import outdate
from harness.state import BACK_OFF_SECONDS, MAX_ATTEMPTS, Failure, RunStore, record_is_transient, set_aside
from harness.state.policies import benchmarks_of, label_of, missing_steps, set_torn_aside, snapshot_policies
from trainers.common import Json, scores_schema


class PolicyClock:
    """Follows the events of the evaluation job.

    What a benchmark takes is known once one policy has been through it; until then only the present benchmark's rest is.
    """

    def __init__(self, benchmarks: dict[str, list[str]]) -> None:
        """`benchmarks`: of each policy by its run id, in the order of the job."""
        self._benchmarks = benchmarks
        self._took: dict[str, float] = {}
        self._begun = 0.0
        #: Seconds that the benchmarks of each policy took, by its run id.
        self.seconds: Counter[str] = Counter()

    def see(self, event: Json) -> None:
        """Take note of an event; `time` is in seconds."""
        if event["event"] == "policy_started":
            self._begun = event["time"]
        elif event["event"] == "benchmark_done":
            self._took[event["benchmark"]] = event["time"] - self._begun
            self.seconds[event["policy"]] += event["time"] - self._begun
            self._begun = event["time"]

    def left(self, event: Json) -> tuple[float, bool]:
        """Seconds left for the policy of a progress event, and whether every benchmark to come is counted in them."""
        names = self._benchmarks.get(event["policy"], [])
        place = names.index(event["benchmark"]) + 1 if event["benchmark"] in names else len(names)
        later = [self._took.get(name) for name in names[place:]]
        return event["eta_s"] + sum(took for took in later if took is not None), None not in later


STAGE = "evaluate"


def evaluate_policies(
    plan: Plan, trained: Sequence[RunSpec], progress: Progress, retry_failed: bool = False
) -> dict[str, Failure]:
    """Fill in every missing policy x benchmark cell and mark the policies. A policy that fails is recorded.

    Corrupt scores and generations are quarantined and regenerated. Transient failures are tried again after a while; others,
    recorded by an earlier call for the same cells, only with `retry_failed`.

    Returns:
        What failed, now or in an earlier call, by policy.
    """
    evaluation = _Evaluation(plan, trained, progress)
    policies = [p for p in evaluation.policies if retry_failed or not evaluation.failed_before(p)]
    skipped = [p for p in evaluation.policies if p not in policies]
    before = {p.run_id: error for p in skipped if (error := RunStore(Path(p.out)).status().error) is not None}
    if before:
        progress.say(f"{len(before)} policies failed before with a permanent error; --retry-failed tries again")
    if not plan.benchmarks:
        policies = policies[1:]  # nothing is measured on the reference
    for policy in policies:
        evaluation.set_damaged_aside(policy)
    policies = [p for p in policies if evaluation.is_complete(p) or not evaluation.is_torn(p)]
    failed: dict[str, Failure] = {}
    again = [p for p in policies if not evaluation.is_complete(p)]
    if not again and plan.benchmarks:
        progress.say(f"all {len(policies)} policies are evaluated")
    if again:
        outdate(plan)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        if not again:
            break
        if attempt > 1:
            seconds = BACK_OFF_SECONDS[attempt - 2]
            progress.say(
                f"{len(again)} policies failed with a transient error: try {attempt} of {MAX_ATTEMPTS}, in {seconds:g}s"
            )
            time.sleep(seconds)
        progress.say(f"evaluating {len(again)} of {len(policies)} policies on {len(plan.benchmarks)} benchmarks")
        tried = {policy.run_id for policy in again}
        now_failed = evaluation.run(again, attempt)
        failed = {run_id: error for run_id, error in failed.items() if run_id not in tried} | now_failed
        again = [p for p in again if p.run_id in failed and record_is_transient(failed[p.run_id])]
    for policy in policies:
        evaluation.record(policy, failed.get(policy.run_id))
    return {**before, **failed}


class _Evaluation:
    """The policies of a matrix, the state of their cells, and the engine's worker."""

    def __init__(self, plan: Plan, trained: Sequence[RunSpec], progress: Progress) -> None:
        self.plan, self.progress = plan, progress
        self.policies = plan.policies(trained)
        self.labels = {scores_schema.REFERENCE: "reference", **{spec.run_id: spec.label for spec in trained}}
        for spec in trained:
            kept = snapshot_policies(plan, [spec])
            self.policies += kept
            self.labels |= {policy.run_id: label_of(spec, policy) for policy in kept}
            for step in missing_steps(plan, spec):
                progress.say(f"{spec.label}: the policy after step {step} was not kept when it was trained")
        self.clock = PolicyClock({p.run_id: [b.name for b in benchmarks_of(plan, p)] for p in self.policies})
        self.order = {p.run_id: i for i, p in enumerate(self.policies, start=1)}
        self._ran = False

    def fingerprint(self, policy: Policy) -> str:
        """Identity of all cells of a policy."""
        benchmarks = benchmarks_of(self.plan, policy)
        cells = [scores_schema.cell_fingerprint(policy.fingerprint, b.fingerprint) for b in benchmarks]
        return scores_schema.digest(cells)

    def is_complete(self, policy: Policy) -> bool:
        return all(self.plan.cell_done(policy, benchmark) for benchmark in benchmarks_of(self.plan, policy))

    def failed_before(self, policy: Policy) -> bool:
        """Whether an earlier call recorded a failure of these cells that would come again."""
        status = RunStore(Path(policy.out)).status()
        error = status.error if status.state == "failed" else None
        return error is not None and error.cells == self.fingerprint(policy) and not record_is_transient(error)

    def set_damaged_aside(self, policy: Policy) -> None:
        """Quarantine scores, generations and kept results that are not what was marked, or cannot be read.

        Scores go with the generations they were computed from, and before them: a kill in between then loses neither.
        """
        out = Path(policy.out)
        store, fingerprint = RunStore(out), self.fingerprint(policy)
        damaged = store.damaged(STAGE, fingerprint)
        gone = policy is not self.policies[0] and store.weightless
        if gone and damaged:  # scores of removed weights stand, also without their answers
            damaged = [file for file in damaged if (out / file).is_file()]
        bad, proved = damaged or [], store.files(STAGE) if damaged is not None else set()
        for benchmark in benchmarks_of(self.plan, policy):
            rows = scores_schema.generations_path(out, benchmark.name)
            scores = scores_schema.scores_path(out, benchmark.name)
            kept = [rows, scores_schema.logprobs_path(out, benchmark.name)]
            if not self.plan.cell_done(policy, benchmark):  # nothing reads them afterwards
                kept += [
                    scores_schema.logprobs_path(out / scores_schema.REPEAT, benchmark.name),
                    cache_path(out, benchmark.name),
                ]
            unproved = [path for path in kept if str(path.relative_to(out)) not in proved and path.is_file()]
            bad += [str(path.relative_to(out)) for path in unproved if not _is_readable(path)]
            if scores.is_file() and scores_schema.read_scores(out, benchmark.name) is None:
                bad.append(str(scores.relative_to(out)))
            if str(rows.relative_to(out)) in bad:
                scores.unlink(missing_ok=True)
        for file in dict.fromkeys(bad):
            if (out / file).is_file():
                set_aside(out / file, out)
            self.progress.say(f"{self.labels[policy.run_id]}: {file} is corrupt: quarantined, regenerating")
        if not gone or bad:
            store.check(STAGE, fingerprint)

    def is_torn(self, policy: Policy) -> bool:
        """Whether the weights of an intermediate checkpoint are corrupt: it is then quarantined, and not evaluated."""
        bad = set_torn_aside(policy) if "@" in policy.run_id else []
        if bad:
            run = Path(policy.out).parents[1]
            self.progress.say(
                f"{self.labels[policy.run_id]}: {bad[0]} is corrupt: quarantined, not evaluated; to train it again, delete {run}"
            )
        return bool(bad)

    def record(self, policy: Policy, error: Failure | None) -> None:
        """Mark a complete policy, or write down why it is not."""
        out = Path(policy.out)
        store = RunStore(out)
        fingerprint = self.fingerprint(policy)
        if error is not None:
            # settings of the engine that change no answer are not in the fingerprint: whether it starts now, only a try can tell
            cells = None if error.engine == NOT_STARTED else fingerprint
            more = {"attempts": error.attempts, "transient": record_is_transient(error), "cells": cells}
            store.fail(error.kind, error.message, error.traceback, **more)
        elif self.is_complete(policy):
            marked = store.is_done(STAGE, fingerprint, verify=False) and store.status().state == "done"
            # the reference may have scored tokens again, for other policies, under another engine
            if marked and not (self._ran and policy is self.policies[0] and store.damaged(STAGE, fingerprint)):
                return
            names = [benchmark.name for benchmark in benchmarks_of(self.plan, policy)]
            places = (scores_schema.scores_path, scores_schema.generations_path, scores_schema.logprobs_path)
            paths = [path(out, name) for name in names for path in places]
            files = [str(path.relative_to(out)) for path in paths if path.is_file()]
            store.mark_stage(STAGE, fingerprint, files, self.clock.seconds[policy.run_id], last=True)

    def run(self, policies: Sequence[Policy], attempt: int) -> dict[str, Failure]:
        """One job of the evaluation worker over `policies`; returns what failed of them.

        The reference is always listed, since benchmarks compare with it, but evaluated only if it is among them.
        """
        from harness.executors.registry import executor_of

        self._ran = True
        work = self.plan.output / "work"
        others = [policy for policy in self.policies[:1] if policy not in policies]
        job = {
            "schema_version": scores_schema.SCHEMA_VERSION,
            "engine": {
                **self.plan.config.evaluation.engine.model_dump(),
                "trust_remote_code": self.plan.config.model.trust_remote_code,
                "lora_rank": int((self.plan.config.lora or {}).get("r", 8)),
            },
            "base_model": str(self.plan.model.path),
            "events": str(work / "evaluate.events.jsonl"),
            "policies": [one.entry for one in (*others, *policies)],
            "skip": [policy.run_id for policy in others],
            "benchmarks": [one.entry for one in self.plan.benchmarks],
        }
        with executor_of(self.plan) as executor:
            result = executor.evaluate(job, work / "evaluate.json", self._show)
        told = {p.run_id: result.failed[p.run_id] for p in policies if p.run_id in result.failed}
        return {run_id: Failure.model_validate({**error, "attempts": attempt}) for run_id, error in told.items()}

    def _show(self, event: Json) -> None:
        progress, policy = self.progress, event.get("policy")
        self.clock.see(event)
        name = f"[{self.order.get(policy or '', 0)}/{len(self.policies)}] {self.labels.get(policy or '', policy)}"
        kind = event["event"]
        if kind == "started":
            progress.say("evaluation process started; starting the engine")
        elif kind == "engine_started":
            progress.say(f"engine started in {event['seconds']:.0f}s: {event['engine']}")
        elif kind == "parity" and event["reason"] is None:
            progress.say(f"greedy answers equal to {event['against']}: {event['agree']} of {event['total']}")
        elif kind == "parity":
            progress.say(f"parity with transformers not checked: {event['reason']}")
        elif kind == "progress" and "tokens_per_second" in event:
            left, whole = self.clock.left(event)
            note = f"{event['tokens_per_second']:.0f} tokens/s{'' if whole else ', this benchmark'}"
            progress.tick(f"evaluate {name}: {event['benchmark']}", event["done"], event["total"], left, note)
        elif kind == "progress":
            progress.tick(f"evaluate {name}: {event['benchmark']}", event["done"], event["total"])
        elif kind == "policy_done":
            progress.end(f"evaluated {name}")
            self.record(next(p for p in self.policies if p.run_id == policy), None)
        elif kind == "policy_failed":
            progress.end(f"failed {name}: {event['error']}: {event['message'].strip().partition(chr(10))[0]}")
        elif kind == "engine_failed":
            progress.say(f"the engine did not start: {event['message'].strip()}")
        elif kind == "worker_died":
            why = f" of {event['error']}" if event.get("error") else f" (exit code {event['returncode']})"
            then = "restarting it" if event.get("restarts", True) else "not restarted: the same would come again"
            progress.end(f"the evaluation process died{f' in {name}' if policy else ''}{why}; {then}")


def _is_readable(path: Path) -> bool:
    """Whether every whole line of a JSONL file is JSON; a torn last line is the worker's to cut off."""
    data = path.read_bytes()
    try:
        for line in data[: data.rfind(b"\n") + 1].splitlines():
            if line.strip():
                json.loads(line)
    except ValueError:
        return False
    return True
