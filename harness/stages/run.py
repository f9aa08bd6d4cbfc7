"""Runs a matrix: reference, train, evaluate, report. What is finished is skipped; what failed is recorded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.executors.registry import settings_of
from harness.plan.matrix import RunSpec
from harness.plan.plan import Plan
from harness.progress import Progress
from harness.stages.evaluate import evaluate_policies
from harness.stages.judge import judge_policies
from harness.stages.report import make_report, outdate, write_contamination
from harness.stages.train import TooManyFailures, train_runs
from harness.state import Environment, RunStore, record_is_transient
from harness.state.clean import remove_path, temporary
from harness.state.environment import mismatches, note_trainer
from harness.state.policies import policy_entry
from harness.state.run_locks import RunClaims
from harness.workers.orphans import wait_for_orphan
from harness.workers.signals import StopSignals


class Untrained(Exception):
    """Trained runs whose files turned out corrupt and were quarantined."""


def run_matrix(
    plan: Plan,
    progress: Progress,
    stops: StopSignals,
    selected: Sequence[RunSpec] | None = None,
    max_failures: int | None = None,
    retry_failed: bool = False,
    finish_only: bool = False,
) -> int:
    """Bring every selected run of `plan` to its end and make the report, which is over all runs.

    Args:
        selected: the runs to work on; None means all.
        max_failures: training and evaluation end once that many runs have failed for good.
        retry_failed: try again what failed in an earlier call in a way that would come again (a transient failure always is).
        finish_only: nothing is trained; what is trained is evaluated and reported, once every run is or has failed.

    Returns:
        0 if everything selected is done, 1 if some of it failed, a judge did not finish, or the reference policy could not be
        scored.

    Raises:
        harness.workers.signals.Stopped: on request.
        Untrained: `finish_only`, and runs are to be trained first.
    """
    wait_for_orphan(plan.output / "work")
    for path in temporary(plan.output):
        remove_path(path)
    specs = list(plan.specs if selected is None else selected)
    stores = {spec.run_id: RunStore(plan.run_dir(spec)) for spec in plan.specs}
    for spec in plan.specs:
        for path in stores[spec.run_id].create(plan.run_record(spec)):
            progress.say(f"{spec.label}: {path.relative_to(plan.run_dir(spec))} is corrupt: quarantined, regenerating")
    waiting = _waiting(plan, specs, stores, progress)
    if finish_only and any(stores[spec.run_id].status().state != "failed" for spec in waiting):
        raise Untrained
    settled = waiting if finish_only else [] if retry_failed else _settled(waiting, stores)
    waiting = [spec for spec in waiting if spec not in settled]
    _compare_environments(plan, waiting, stores, progress)
    if settled and not finish_only:
        progress.say(
            f"{len(settled)} run{_s(settled)} failed before with a permanent error; --retry-failed tries again"
        )
    if waiting:
        outdate(plan)
        done = len(specs) - len(waiting) - len(settled)
        progress.say(f"training {len(waiting)} run{_s(waiting)}" + (f" ({done} already trained)" if done else ""))
    elif not settled:
        progress.say(f"all {len(specs)} runs are trained")
    lost: list[str] = []  # intermediate checkpoints that could not be evaluated
    unjudged: list[str] = []
    try:
        train_runs(plan, waiting, progress, stops, max_failures)
        trained = [spec for spec in specs if stores[spec.run_id].is_done("train", spec.fingerprint, verify=False)]
        lost = [policy for policy in evaluate_policies(plan, trained, progress, retry_failed) if "@" in policy]
        unjudged = judge_policies(plan, progress)
    except TooManyFailures:
        progress.say(f"ending early: {max_failures} failed (--max-failures)")
    write_contamination(plan)
    made = make_report(plan, progress)
    failed = [spec for spec in specs if stores[spec.run_id].status().state == "failed"]
    unscored = not all(plan.cell_done(plan.reference, benchmark) for benchmark in plan.benchmarks)
    if not waiting and not made and not failed and not unscored and not unjudged:
        progress.say("nothing to do: all runs, evaluations and the report are up to date")
    for spec in failed:
        if error := stores[spec.run_id].status().error:
            progress.say(f"failed: {spec.label}: {error.kind}: {error.message}")
    return 1 if failed or unscored or lost or unjudged else 0


def prepare(plan: Plan, claims: RunClaims, progress: Progress, retry_failed: bool = False) -> list[RunSpec]:
    """Records of all runs, and the runs that are still to be trained, for one of several workers on `plan.output`.

    A recorded transient failure is dropped, unless another process works on the run.
    """
    stores = {spec.run_id: RunStore(plan.run_dir(spec)) for spec in plan.specs}
    for spec in plan.specs:
        stores[spec.run_id].create(plan.run_record(spec))
    for spec in plan.specs:
        if stores[spec.run_id].weightless and not _scored(plan, spec):
            stores[spec.run_id].forget("train")
    left = [s for s in plan.specs if not stores[s.run_id].is_done("train", s.fingerprint, verify=False)]
    settled = [] if retry_failed else _settled(left, stores)
    left = [spec for spec in left if spec not in settled]
    for spec in left:
        if stores[spec.run_id].status().state == "failed" and claims.free(spec):
            stores[spec.run_id].forget("train")
    _compare_environments(plan, [], stores, progress)
    return left


def _waiting(plan: Plan, specs: Sequence[RunSpec], stores: dict[str, RunStore], progress: Progress) -> list[RunSpec]:
    found = []
    for spec in specs:
        store = stores[spec.run_id]
        if store.weightless and not _scored(plan, spec):
            progress.say(f"{spec.label}: its weights were removed, and not everything is measured: training it again")
            found.append(spec)
            continue
        damaged = store.check("train", spec.fingerprint)
        for file in damaged or []:
            progress.say(f"{spec.label}: {file} is corrupt: quarantined, regenerating")
        if damaged != []:
            found.append(spec)
    return found


def _scored(plan: Plan, spec: RunSpec) -> bool:
    """Whether a run is measured on all benchmarks."""
    policy = policy_entry(plan, spec)
    return bool(plan.benchmarks) and all(plan.cell_done(policy, benchmark) for benchmark in plan.benchmarks)


def _settled(waiting: Sequence[RunSpec], stores: dict[str, RunStore]) -> list[RunSpec]:
    """Runs that failed in a way that would come again. A control that failed for want of its parent's rows may go well once
    the parent does, so it is settled only with the parent (which stands before it)."""
    settled: list[RunSpec] = []
    for spec in waiting:
        status = stores[spec.run_id].status()
        error = status.error
        if status.state != "failed" or error is None or record_is_transient(error):
            continue
        if error.kind != "ParentRunError" or spec.parent in [other.run_id for other in settled]:
            settled.append(spec)
    return settled


def _compare_environments(
    plan: Plan, waiting: Sequence[RunSpec], stores: dict[str, RunStore], progress: Progress
) -> None:
    here = settings_of(plan.config, plan.source)[0].here
    current = plan.environment if here else Environment(versions=plan.environment.versions)
    for text, run_ids in mismatches(stores.values(), current).items():
        progress.say(f"{text} since {len(run_ids)} run{_s(run_ids)} began; the last digits of new results may differ")
    for spec in waiting if here else []:
        note_trainer(stores[spec.run_id], plan.environment)


def _s(items: Sequence[Any]) -> str:
    return "" if len(items) == 1 else "s"
