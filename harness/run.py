"""Runs a matrix: reference, train, evaluate, report. What is finished is skipped; what failed is recorded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.evaluate import evaluate_policies
from harness.plan import Plan
from harness.progress import Progress
from harness.report import make_report
from harness.store import RunStore
from harness.training import train_runs


def run_matrix(plan: Plan, progress: Progress) -> int:
    """Bring every run of `plan` to its end and make the report.

    Returns:
        0 if everything is done, 1 if some runs failed or the reference policy could not be scored.
    """
    stores = {spec.run_id: RunStore(plan.run_dir(spec)) for spec in plan.specs}
    for spec in plan.specs:
        stores[spec.run_id].create(plan.run_record(spec))
    waiting = [spec for spec in plan.specs if not stores[spec.run_id].is_done("train", spec.fingerprint)]
    if waiting:
        done = len(plan.specs) - len(waiting)
        progress.say(f"training {len(waiting)} run{_s(waiting)}" + (f" ({done} already trained)" if done else ""))
        train_runs(plan, waiting, progress)
    else:
        progress.say(f"all {len(plan.specs)} runs are trained")
    trained = [spec for spec in plan.specs if stores[spec.run_id].is_done("train", spec.fingerprint, verify=False)]
    evaluate_policies(plan, trained, progress)
    made = make_report(plan, progress)
    failed = [spec for spec in plan.specs if stores[spec.run_id].status()["state"] == "failed"]
    reference = plan.policies([])[0]
    unscored = not all(plan.cell_done(reference, benchmark) for benchmark in plan.benchmarks)
    if not waiting and not made and not failed and not unscored:
        progress.say("nothing to do: every run, evaluation and the report are up to date")
    for spec in failed:
        error = stores[spec.run_id].status()["error"]
        progress.say(f"failed: {spec.label}: {error['class']}: {error['message']}")
    return 1 if failed or unscored else 0


def _s(items: Sequence[Any]) -> str:
    return "" if len(items) == 1 else "s"
