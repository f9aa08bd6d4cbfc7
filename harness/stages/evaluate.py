"""Evaluates the reference and every trained policy through one engine in a supervised worker."""

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from evals.job import Policy
from evals.lm_eval.model import cache_path
from evals.supervise import NOT_STARTED
from harness.plan.matrix import RunSpec
from harness.plan.plan import Plan
from harness.progress import Progress
from harness.stages.report import outdate
from harness.state import BACK_OFF_SECONDS, MAX_ATTEMPTS, Failure, RunStore, record_is_transient, set_aside
from harness.state.policies import benchmarks_of, missing_steps, set_torn_aside, snapshot_policies
from trainers.common import Json, scores_schema

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
    told = {p.run_id: evaluation.failed_before(p) for p in evaluation.policies if not retry_failed}
    before = {run_id: error for run_id, error in told.items() if error is not None}
    if before:
        progress.say(f"{len(before)} policies failed before with a permanent error; --retry-failed tries again")
    measured = evaluation.policies[0 if plan.benchmarks else 1 :]  # nothing is measured on the reference
    policies = [p for p in measured if p.run_id not in before]
    for policy in policies:
        evaluation.set_damaged_aside(policy)
    policies = [p for p in policies if evaluation.is_complete(p) or not evaluation.is_torn(p)]
    failed: dict[str, Failure] = {}
    again, attempt = [p for p in policies if not evaluation.is_complete(p)], 0
    if again:
        outdate(plan)
    elif plan.benchmarks:
        progress.say(f"all {len(policies)} policies are evaluated")
    while again and attempt < MAX_ATTEMPTS:
        attempt += 1
        if attempt > 1:
            seconds, tries = BACK_OFF_SECONDS[attempt - 2], f"try {attempt} of {MAX_ATTEMPTS}"
            progress.say(f"{len(again)} policies failed with a transient error: {tries}, in {seconds:g}s")
            time.sleep(seconds)
        progress.say(f"evaluating {len(again)} of {len(policies)} policies on {len(plan.benchmarks)} benchmarks")
        now = evaluation.run(again, attempt)
        failed = {p.run_id: failed[p.run_id] for p in policies if p.run_id in failed and p not in again} | now
        again = [p for p in again if p.run_id in now and record_is_transient(now[p.run_id])]
    for policy in policies:
        evaluation.record(policy, failed.get(policy.run_id))
    return {**before, **failed}


def _death(event: Json, name: str) -> str:
    where = f" in {name}" if event.get("policy") else ""
    why = f" of {event['error']}" if event.get("error") else f" (exit code {event['returncode']})"
    then = "restarting it" if event.get("restarts", True) else "not restarted: the same would come again"
    return f"the evaluation process died{where}{why}; {then}"


#: What to say of an event of the worker; `name` is the policy it is about.
_SAID: dict[str, Callable[[Json, str], str]] = {
    "started": lambda event, name: "evaluation process started; starting the engine",
    "engine_started": lambda event, name: f"engine started in {event['seconds']:.0f}s: {event['engine']}",
    "engine_failed": lambda event, name: f"the engine did not start: {event['message'].strip()}",
    "policy_done": lambda event, name: f"evaluated {name}",
    "policy_failed": lambda event, name: (
        f"failed {name}: {event['error']}: {event['message'].strip().partition(chr(10))[0]}"
    ),
    "parity": lambda event, name: (
        f"greedy answers equal to {event['against']}: {event['agree']} of {event['total']}"
        if event["reason"] is None
        else f"parity with transformers not checked: {event['reason']}"
    ),
    "worker_died": _death,
}


class _Evaluation:
    """The policies of a matrix, the state of their cells, and the engine's worker."""

    def __init__(self, plan: Plan, trained: Sequence[RunSpec], progress: Progress) -> None:
        self.plan, self.progress = plan, progress
        self.policies = plan.policies(trained)
        self.labels = {scores_schema.REFERENCE: "reference", **{spec.run_id: spec.label for spec in trained}}
        for spec in trained:
            kept = snapshot_policies(plan, [spec])
            self.policies += kept
            self.labels |= {one.run_id: f"{spec.label}, step {one.run_id.rpartition('@')[2]}" for one in kept}
            for step in missing_steps(plan, spec):
                progress.say(f"{spec.label}: the policy after step {step} was not kept when it was trained")
        #: Seconds that the benchmarks of each policy took, by its run id; and when the one in progress began.
        self._seconds, self._begun = Counter[str](), 0.0
        self.order = {p.run_id: i for i, p in enumerate(self.policies, start=1)}
        self._ran = False

    def fingerprint(self, policy: Policy) -> str:
        """Identity of all cells of a policy."""
        return scores_schema.digest([benchmark.cell(policy) for benchmark in benchmarks_of(self.plan, policy)])

    def is_complete(self, policy: Policy) -> bool:
        return all(self.plan.cell_done(policy, benchmark) for benchmark in benchmarks_of(self.plan, policy))

    def failed_before(self, policy: Policy) -> Failure | None:
        """The failure of these cells that an earlier call recorded, where it would come again."""
        error = RunStore(policy.out).failure()
        again = error is None or error.cells != self.fingerprint(policy) or record_is_transient(error)
        return None if again else error

    def set_damaged_aside(self, policy: Policy) -> None:
        """Quarantine scores, generations and kept results that are not what was marked, or cannot be read.

        Scores go with the generations they were computed from, and before them: a kill in between then loses neither.
        """
        out, fingerprint = policy.out, self.fingerprint(policy)
        store = RunStore(out)
        damaged = store.damaged(STAGE, fingerprint)
        gone = not policy.is_reference and store.weightless
        # scores of removed weights stand, also without their answers
        bad = [out / file for file in damaged or [] if not gone or (out / file).is_file()]
        mark = store.mark(STAGE, fingerprint)
        proved = {out / file for file in (mark.files if mark else ())}
        for benchmark in benchmarks_of(self.plan, policy):
            rows = scores_schema.generations_path(out, benchmark.name)
            scores = scores_schema.scores_path(out, benchmark.name)
            kept = [rows, scores_schema.logprobs_path(out, benchmark.name)]
            if not self.plan.cell_done(policy, benchmark):  # nothing reads them afterwards
                repeated = scores_schema.logprobs_path(out / scores_schema.REPEAT, benchmark.name)
                kept += [repeated, cache_path(out, benchmark.name)]
            bad += [path for path in kept if path not in proved and path.is_file() and not _is_readable(path)]
            if scores.is_file() and scores_schema.read_scores(out, benchmark.name) is None:
                bad.append(scores)
            if rows in bad:
                scores.unlink(missing_ok=True)
        for path in dict.fromkeys(bad):
            if path.is_file():
                set_aside(path, out)
            said = f"{path.relative_to(out)} is corrupt: quarantined, regenerating"
            self.progress.say(f"{self.labels[policy.run_id]}: {said}")
        if not gone or bad:
            store.check(STAGE, fingerprint)

    def is_torn(self, policy: Policy) -> bool:
        """Whether the weights of an intermediate checkpoint are corrupt: it is then quarantined, and not evaluated."""
        bad = set_torn_aside(policy) if "@" in policy.run_id else []
        for file in bad[:1]:
            said = f"{file} is corrupt: quarantined, not evaluated; to train it again, delete {policy.out.parents[1]}"
            self.progress.say(f"{self.labels[policy.run_id]}: {said}")
        return bool(bad)

    def record(self, policy: Policy, error: Failure | None) -> None:
        """Mark a complete policy, or write down why it is not."""
        out, store, fingerprint = policy.out, RunStore(policy.out), self.fingerprint(policy)
        if error is not None:
            # settings of the engine that change no answer are not in the fingerprint: whether it starts now, only a try can tell
            cells = None if error.engine == NOT_STARTED else fingerprint
            more = {"attempts": error.attempts, "transient": record_is_transient(error), "cells": cells}
            store.fail(error.kind, error.message, error.traceback, **more)
            return
        marked = store.is_done(STAGE, fingerprint, verify=False) and store.status().state == "done"
        # the reference may have scored tokens again, for other policies, under another engine
        anew = self._ran and policy.is_reference and store.damaged(STAGE, fingerprint)
        if self.is_complete(policy) and (anew or not marked):
            places = (scores_schema.scores_path, scores_schema.generations_path, scores_schema.logprobs_path)
            paths = [path(out, one.name) for one in benchmarks_of(self.plan, policy) for path in places]
            files = [str(path.relative_to(out)) for path in paths if path.is_file()]
            store.mark_stage(STAGE, fingerprint, files, self._seconds[policy.run_id], last=True)

    def run(self, policies: Sequence[Policy], attempt: int) -> dict[str, Failure]:
        """One job of the evaluation worker over `policies`; returns what failed of them.

        The reference is always listed, since benchmarks compare with it, but evaluated only if it is among them.
        """
        from harness.executors.registry import executor_of

        self._ran = True
        work, config = self.plan.output / "work", self.plan.config
        others = [policy for policy in self.policies[:1] if policy not in policies]
        job = {
            "schema_version": scores_schema.SCHEMA_VERSION,
            "engine": {
                **config.evaluation.engine.model_dump(),
                "trust_remote_code": config.model.trust_remote_code,
                "lora_rank": int((config.lora or {}).get("r", 8)),
            },
            "base_model": str(self.plan.model.path),
            "events": str(work / "evaluate.events.jsonl"),
            "policies": [one.model_dump(mode="json", exclude_unset=True) for one in (*others, *policies)],
            "skip": [policy.run_id for policy in others],
            "benchmarks": [one.model_dump(mode="json", exclude_unset=True) for one in self.plan.benchmarks],
        }
        with executor_of(self.plan) as executor:
            told = executor.evaluate(job, work / "evaluate.json", self._show).failed
        failed = {policy.run_id: told[policy.run_id] for policy in policies if policy.run_id in told}
        return {run_id: Failure.model_validate({**one, "attempts": attempt}) for run_id, one in failed.items()}

    def _show(self, event: Json) -> None:
        kind, policy = event["event"], event.get("policy") or ""
        if kind == "benchmark_done":
            self._seconds[policy] += event["time"] - self._begun
        if kind in ("policy_started", "benchmark_done"):
            self._begun = event["time"]
        name = f"[{self.order.get(policy, 0)}/{len(self.policies)}] {self.labels.get(policy, policy)}"
        if kind == "progress":
            rate, what = event.get("tokens_per_second"), f"evaluate {name}: {event['benchmark']}"
            left, note = (None, "") if rate is None else (event["eta_s"], f"{rate:.0f} tokens/s")
            self.progress.tick(what, event["done"], event["total"], left, note)
        elif kind in _SAID:
            self.progress.end(_SAID[kind](event, name))
        if kind == "policy_done":
            self.record(next(p for p in self.policies if p.run_id == policy), None)


def _is_readable(path: Path) -> bool:
    """Whether every whole line of a JSONL file is JSON; a torn last line is the worker's to cut off."""
    try:
        for line in filter(bytes.strip, path.read_bytes().rpartition(b"\n")[0].splitlines()):
            json.loads(line)
    except ValueError:
        return False
    return True
