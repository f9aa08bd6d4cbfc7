"""worker: one of several processes, on any hosts, that share the runs of a matrix (a Slurm array, say)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli import DEFAULT_OUTPUT
from harness.progress import stderr_line

if TYPE_CHECKING:
    from harness.plan.plan import Plan
    from harness.workers.signals import StopSignals


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, help="matrix file")
    parser.add_argument("--output", type=Path, default=Path(DEFAULT_OUTPUT), help="default: %(default)s; shared by all")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a value of the matrix file; dotted key"
    )
    parser.add_argument("--retry-failed", action="store_true", help="try runs again that failed for a lasting reason")
    parser.add_argument("--train-only", action="store_true", help="end when all runs are trained; do not evaluate")


def run(options: argparse.Namespace) -> int:
    from harness.prepare import make_plan
    from harness.workers.signals import StopSignals

    with StopSignals() as stops:
        return _work(make_plan(options.config, options.output, stderr_line, options.set), options, stops)


def _work(plan: Plan, options: argparse.Namespace, stops: StopSignals) -> int:
    from harness.progress import Progress
    from harness.stages.report import outdate
    from harness.stages.run import Untrained, prepare, run_matrix
    from harness.stages.train import train_runs
    from harness.state.lock import output_lock
    from harness.state.output import freeze
    from harness.state.run_locks import EVALUATES, RunClaims, shared_output

    retry_failed = options.retry_failed
    with Progress() as progress:
        while True:
            with shared_output(plan.output, progress.say):
                claims = RunClaims(plan)
                with output_lock(plan.output / "work" / "setup", wait=True):
                    freeze(plan)
                    waiting = prepare(plan, claims, progress, retry_failed)
                if waiting:
                    outdate(plan)
                    progress.say(f"{len(waiting)} runs left to train, shared by all workers")
                train_runs(plan, waiting, progress, stops, claims=claims)
            if options.train_only:
                return 0
            # all are trained: the first to get the output to itself evaluates, the others then find everything done
            try:
                with output_lock(plan.output, wait=True, log=progress.say, role=EVALUATES):
                    return run_matrix(plan, progress, stops, retry_failed=retry_failed, finish_only=True)
            except Untrained:
                retry_failed = False  # what was damaged is trained again, and nothing else
