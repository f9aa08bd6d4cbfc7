"""Runs a matrix: reference, train, evaluate, report. What is finished is skipped; what failed is recorded."""

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from harness.executors.registry import settings_of
from harness.plan.matrix import RunSpec
from harness.plan.plan import Plan
from harness.progress import Progress
from harness.stages.evaluate import evaluate_policies
from harness.stages.judge import judge_policies
from harness.stages.report import make_report, outdate, write_contamination
from harness.stages.train import TooManyFailures, train_runs
from harness.state import Environment, RunStore, record_is_transient, whole_rows
from harness.state.clean import remove_path, temporary
from harness.state.machine import mismatches, note_trainer
from harness.state.policies import policy_entry
from harness.state.run_locks import RunClaims
from harness.workers.stopping import StopSignals


class Untrained(Exception):
    """Trained runs whose files turned out corrupt and were quarantined."""


Stores = dict[str, RunStore]


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
        harness.workers.stopping.Stopped: on request.
        Untrained: `finish_only`, and runs are to be trained first.
    """
    wait_for_orphan(plan.output / "work")
    for path in temporary(plan.output):
        remove_path(path)
    specs = list(plan.specs if selected is None else selected)
    stores = _stores(plan, progress)
    waiting = [spec for spec in specs if _is_untrained(plan, spec, stores[spec.run_id], progress)]
    if finish_only and not all(stores[spec.run_id].failure() for spec in waiting):
        raise Untrained
    settled = waiting if finish_only else [] if retry_failed else _settled(waiting, stores)
    waiting = [spec for spec in waiting if spec not in settled]
    _compare_environments(plan, waiting, stores, progress)
    if settled and not finish_only:
        progress.say(f"{_runs(settled)} failed before with a permanent error; --retry-failed tries again")
    if waiting:
        outdate(plan)
        done = len(specs) - len(waiting) - len(settled)
        progress.say(f"training {_runs(waiting)}" + (f" ({done} already trained)" if done else ""))
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
    errors = {spec.label: stores[spec.run_id].failure() for spec in specs}
    failed = {label: error for label, error in errors.items() if error is not None}
    unscored = not all(plan.cell_done(plan.reference, benchmark) for benchmark in plan.benchmarks)
    if not waiting and not made and not failed and not unscored and not unjudged:
        progress.say("nothing to do: all runs, evaluations and the report are up to date")
    for label, error in failed.items():
        progress.say(f"failed: {label}: {error.kind}: {error.message}")
    return 1 if failed or unscored or lost or unjudged else 0


def prepare(plan: Plan, claims: RunClaims, progress: Progress, retry_failed: bool = False) -> list[RunSpec]:
    """Records of all runs, and the runs that are still to be trained, for one of several workers on `plan.output`.

    A recorded transient failure is dropped, unless another process works on the run.
    """
    stores = _stores(plan, progress)
    for spec in plan.specs:
        if stores[spec.run_id].weightless and not _scored(plan, spec):
            stores[spec.run_id].forget("train")
    left = [spec for spec in plan.specs if not stores[spec.run_id].is_done("train", spec.fingerprint, verify=False)]
    settled = [] if retry_failed else _settled(left, stores)
    left = [spec for spec in left if spec not in settled]
    for spec in left:
        if stores[spec.run_id].failure() and claims.free(spec):
            stores[spec.run_id].forget("train")
    _compare_environments(plan, [], stores, progress)
    return left


def _stores(plan: Plan, progress: Progress) -> Stores:
    """The records of all runs on disk, made where they are missing or corrupt."""
    stores = {spec.run_id: RunStore(plan.run_dir(spec)) for spec in plan.specs}
    for spec in plan.specs:
        for path in stores[spec.run_id].create(plan.run_record(spec)):
            progress.say(f"{spec.label}: {path.relative_to(plan.run_dir(spec))} is corrupt: quarantined, regenerating")
    return stores


def _is_untrained(plan: Plan, spec: RunSpec, store: RunStore, progress: Progress) -> bool:
    if store.weightless and not _scored(plan, spec):
        progress.say(f"{spec.label}: its weights were removed, and not everything is measured: training it again")
        return True
    damaged = store.check("train", spec.fingerprint)
    for file in damaged or []:
        progress.say(f"{spec.label}: {file} is corrupt: quarantined, regenerating")
    return damaged != []


def _scored(plan: Plan, spec: RunSpec) -> bool:
    """Whether a run is measured on all benchmarks."""
    policy = policy_entry(plan, spec)
    return bool(plan.benchmarks) and all(plan.cell_done(policy, benchmark) for benchmark in plan.benchmarks)


def _settled(waiting: Sequence[RunSpec], stores: Stores) -> list[RunSpec]:
    """Runs that failed in a way that would come again. A control that failed for want of its parent's rows may go well once
    the parent does, so it is settled only with the parent (which stands before it)."""
    settled: dict[str, RunSpec] = {}
    for spec in waiting:
        error = stores[spec.run_id].failure()
        waits = error is None or (error.kind == "ParentRunError" and spec.parent not in settled)
        if error is not None and not waits and not record_is_transient(error):
            settled[spec.run_id] = spec
    return list(settled.values())


def _compare_environments(plan: Plan, waiting: Sequence[RunSpec], stores: Stores, progress: Progress) -> None:
    here = settings_of(plan.config, plan.source)[0].here
    current = plan.environment if here else Environment(versions=plan.environment.versions)
    for text, run_ids in mismatches(stores.values(), current).items():
        progress.say(f"{text} since {_runs(run_ids)} began; the last digits of new results may differ")
    for spec in waiting if here else []:
        note_trainer(stores[spec.run_id], plan.environment)


def _runs(found: Sequence[object]) -> str:
    return f"{len(found)} run{'' if len(found) == 1 else 's'}"


# A worker whose parent was killed notices within a second; until then a restart must not work beside it.


_PATIENCE_SECONDS = 10.0
#: Module of a worker -> the stem of its job and events files.
_WORKERS = {"evals.worker": "evaluate", "evals.judges.worker": "judge"}


def wait_for_orphan(work: Path) -> None:
    """Wait until the workers of an earlier call, if they are still there, are gone; end one that stays.

    Args:
        work: the folder of job and events files. Only a process that runs exactly this job is touched (Linux; elsewhere
            processes cannot be recognised, and this returns at once).
    """
    for module, stem in _WORKERS.items():
        for events in sorted(work.glob(f"{stem}*.events.jsonl")):  # each judge tells its events in a separate file
            pids = [event["pid"] for event in whole_rows(events) if isinstance(event.get("pid"), int)]
            deadline = time.monotonic() + _PATIENCE_SECONDS
            while pids and _runs_job(pids[-1], module, work / f"{stem}.json"):
                if time.monotonic() > deadline:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.killpg(pids[-1], signal.SIGKILL)  # the worker leads its own group
                    deadline = float("inf")
                time.sleep(0.1)


def _runs_job(pid: int, module: str, job: Path) -> bool:
    with contextlib.suppress(psutil.Error):
        return {module, str(job)} <= set(psutil.Process(pid).cmdline())
    return False
