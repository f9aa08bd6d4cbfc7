"""Verbs that read a matrix file: run-matrix, plan, and worker (one of several processes, on any hosts, that share the runs)."""

import argparse
import contextlib
import os
from pathlib import Path

from harness.checks.static import check_static
from harness.checks.trackers import live_views
from harness.commands.options import print_json, short
from harness.config import load, override, refuse
from harness.forecast.dry_run import plan_record, show_plan
from harness.forecast.estimate import remember
from harness.plan.analysis import analysis_plan, frozen_plan, registered
from harness.plan.matrix import RunSpec, select
from harness.plan.plan import Plan
from harness.prepare import freeze, make_plan, resolve
from harness.progress import Progress, stderr_line
from harness.stages.publish import check_push, push_policies, write_card
from harness.stages.report import outdate
from harness.stages.run import Untrained, prepare, run_matrix
from harness.stages.train import train_runs
from harness.state import output_lock
from harness.state.run_locks import EVALUATES, RunClaims, shared_output
from harness.workers.stopping import StopSignals
from reports.page.first import print_summary
from reports.verdict.claims import ClaimError, read_claims, thaw
from reports.verdict.plan import differences
from trainers.common import UserError


def run(options: argparse.Namespace) -> int:
    """Check, show or run the matrix."""
    said = "--json goes with --dry-run; add it (status --json says how far a matrix is)"
    refuse((options.json and not options.dry_run, said))
    if options.check:
        config, runs = check_static(override(load(options.config), options.set))
        counts = f"{len(config.methods)} methods, {len(runs)} runs"
        print(f"{short(options.config)}: matrix {config.name} is well-formed: {counts}")
        return 0
    with StopSignals() as stops:
        plan = make_plan(options.config, options.output, stderr_line, options.set)
        selected, parents = select(plan.specs, options.only, options.exclude, options.seeds)
        for spec in parents:
            stderr_line(f"{spec.label} is included too: a selected control repeats it")
        if options.dry_run and options.json:
            print_json(plan_record(plan, selected))
        elif options.dry_run:
            show_plan(plan, selected)
        if options.dry_run:
            return 0
        existing = next(p for p in (plan.output, *plan.output.parents) if p.exists())
        said = f"--output {plan.output}: {existing} cannot be written to; give another directory"
        refuse((not os.access(existing, os.W_OK | os.X_OK), said))
        return _work(plan, selected, options, stops)


def _work(plan: Plan, selected: list[RunSpec], options: argparse.Namespace, stops: StopSignals) -> int:
    if options.push:
        check_push(plan.config, plan.source, [spec.run_id for spec in selected])
    with output_lock(plan.output, options.wait):
        freeze(plan)
        with Progress() as progress:
            for command in live_views(plan.config, plan.output):
                progress.say(f"live view: {command}")
            code = run_matrix(plan, progress, stops, selected, options.max_failures, options.retry_failed)
            for spec in selected:
                write_card(plan.run_dir(spec), plan.config.name)
            if options.push:
                push_policies(plan, selected, progress.say)
        with contextlib.suppress(OSError):  # a cache that cannot be written must not fail a finished matrix
            remember(plan)
        print_summary(plan.output)
    print(f"report: {short(plan.output / 'report.html')}")
    return code


def print_plan(options: argparse.Namespace) -> int:
    """Print the frozen plan of an output with the differences to it, or the plan as it would be frozen; nothing is written."""
    source = override(load(options.config), options.set)
    config, drafts = check_static(source)
    plan = resolve(config, source, drafts, (options.output or Path("output")).resolve(), stderr_line)
    try:
        kept = None if options.output is None else read_claims(options.output)
        if kept is not None:
            thaw(kept)
    except ClaimError as error:
        raise UserError(f"--output {options.output}: {error}") from None
    known = kept is not None and bool(kept.get("plan"))
    frozen = kept if kept is not None and known else frozen_plan(plan)
    changes = [str(one) for one in differences(frozen["plan"], analysis_plan(plan))]
    if options.json:
        print_json({**frozen, "frozen": frozen["frozen"] if known else None, "changes": changes})
        return 0
    print(registered(config.name, frozen))
    print(f"\nfrozen {frozen['frozen']}" if known else "\nnot frozen yet: run-matrix does that, before the first step")
    for change in changes:
        print(f"changed since; what rests on it is exploratory: {change}")
    return 0


def work(options: argparse.Namespace) -> int:
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
