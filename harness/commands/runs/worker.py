"""worker: one of several processes, on any hosts, that share the runs of a matrix (a Slurm array, say)."""

import argparse

from harness.prepare import freeze, make_plan
from harness.progress import Progress, stderr_line
from harness.stages.report import outdate
from harness.stages.run import Untrained, prepare, run_matrix
from harness.stages.train import train_runs
from harness.state import output_lock
from harness.state.run_locks import EVALUATES, RunClaims, shared_output
from harness.workers.signals import StopSignals


def run(options: argparse.Namespace) -> int:
    """Train runs as long as there are some to take, then evaluate, or wait for the worker that does."""
    retry_failed = options.retry_failed
    with StopSignals() as stops, Progress() as progress:
        plan = make_plan(options.config, options.output, stderr_line, options.set)
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
