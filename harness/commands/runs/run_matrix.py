"""run-matrix: train, evaluate and compare."""

from __future__ import annotations

import argparse
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.options import print_json, short
from harness.progress import stderr_line
from harness.workers.signals import StopSignals
from trainers.common import UserError

if TYPE_CHECKING:
    from harness.plan.matrix import RunSpec
    from harness.plan.plan import Plan


def run(options: argparse.Namespace) -> int:
    """Check, show or run the matrix. What each of these imports takes a moment, so a line comes first."""
    stderr_line(f"reading {short(options.config)}")
    if options.json and not options.dry_run:
        raise UserError("--json goes with --dry-run; add it (status --json says how far a matrix is)")
    if options.check:
        return _check(options)
    from harness.plan.matrix import select
    from harness.prepare import make_plan

    with StopSignals() as stops:
        plan = make_plan(options.config, options.output, stderr_line, options.set)
        selected, parents = select(plan.specs, options.only, options.exclude, options.seeds)
        for spec in parents:
            stderr_line(f"{spec.label} is included too: a selected control repeats it")
        if options.dry_run:
            from harness.forecast.dry_run import plan_record, show_plan

            if options.json:
                print_json(plan_record(plan, selected))
            else:
                show_plan(plan, selected)
            return 0
        _check_writable(plan.output)
        return _work(plan, selected, options, stops)


def _check(options: argparse.Namespace) -> int:
    from harness.checks.static import check_static
    from harness.config.source import load, override

    config, runs = check_static(override(load(options.config), options.set))
    print(
        f"{short(options.config)}: matrix {config.name} is well-formed: {len(config.methods)} methods, {len(runs)} runs"
    )
    return 0


def _work(plan: Plan, selected: list[RunSpec], options: argparse.Namespace, stops: StopSignals) -> int:
    from harness.checks.trackers import live_views
    from harness.forecast.estimate import remember
    from harness.prepare import freeze
    from harness.progress import Progress
    from harness.stages.publish import check_push, push_policies, write_card
    from harness.stages.run import run_matrix
    from harness.state.lock import output_lock
    from reports.page.first import print_summary

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


def _check_writable(output: Path) -> None:
    existing = next(p for p in (output, *output.parents) if p.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"--output {output}: {existing} cannot be written to; give another directory")
