"""run-matrix: train, evaluate and compare."""

from __future__ import annotations

import argparse
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli import DEFAULT_OUTPUT
from harness.commands.options import names, print_json, whole, wholes
from harness.progress import stderr_line

if TYPE_CHECKING:
    from harness.plan.matrix import RunSpec
    from harness.plan.plan import Plan
    from harness.workers.signals import StopSignals

DEMO = Path(__file__).resolve().parents[2] / "configs" / "demo.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", nargs="?", type=Path, default=DEMO, help="matrix file (default: the demo)")
    parser.add_argument("--output", type=Path, default=Path(DEFAULT_OUTPUT), help="default: %(default)s")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done and what it would cost")
    parser.add_argument("--json", action="store_true", help="with --dry-run: one JSON object for scripts")
    parser.add_argument("--check", action="store_true", help="check the file alone: no model, no data, no network")
    parser.add_argument(
        "--only", type=names, default=(), metavar="METHOD[,..]", help="work on these methods or runs only"
    )
    parser.add_argument("--exclude", type=names, default=(), metavar="METHOD[,..]", help="leave these out")
    parser.add_argument("--seeds", type=wholes(0), default=(), metavar="N[,..]", help="work on these seeds only")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a value of the matrix file; dotted key"
    )
    parser.add_argument("--max-failures", type=whole(1), metavar="N", help="end once N runs have failed")
    parser.add_argument("--retry-failed", action="store_true", help="try runs again that failed for a lasting reason")
    parser.add_argument("--push", action="store_true", help="upload finished policies to push_to_hub of the matrix")
    parser.add_argument("--wait", action="store_true", help="if another process works on the output, wait for it")


def run(options: argparse.Namespace) -> int:
    stderr_line(f"reading {_short(options.config)}")
    from harness.plan.selection import Selection, select
    from harness.prepare import make_plan
    from harness.workers.signals import StopSignals
    from trainers.common.errors import UserError

    if options.json and not options.dry_run:
        raise UserError("--json goes with --dry-run; add it (status --json says how far a matrix is)")
    if options.check:
        return _check(options)
    with StopSignals() as stops:
        plan = make_plan(options.config, options.output, stderr_line, options.set)
        selected, parents = select(plan.specs, Selection(options.only, options.exclude, tuple(options.seeds)))
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
        if options.push:
            from harness.stages.publish import check_push

            check_push(plan.config, plan.source, [spec.run_id for spec in selected])
        return _work(plan, selected, options, stops)


def _check(options: argparse.Namespace) -> int:
    from harness.checks.static import check_static
    from harness.config.source import load, override

    config, runs = check_static(override(load(options.config), options.set))
    print(
        f"{_short(options.config)}: matrix {config.name} is well-formed: {len(config.methods)} methods, {len(runs)} runs"
    )
    return 0


def _work(plan: Plan, selected: list[RunSpec], options: argparse.Namespace, stops: StopSignals) -> int:
    from harness.checks.trackers import live_views
    from harness.progress import Progress
    from harness.stages.publish import write_card
    from harness.stages.run import run_matrix
    from harness.state.lock import output_lock
    from harness.state.output import freeze
    from reports.page.terminal import print_summary

    with output_lock(plan.output, options.wait):
        freeze(plan)
        with Progress() as progress:
            for command in live_views(plan.config, plan.output):
                progress.say(f"live view: {command}")
            code = run_matrix(plan, progress, stops, selected, options.max_failures, options.retry_failed)
            for spec in selected:
                write_card(plan.run_dir(spec), plan.config.name)
            if options.push:
                from harness.stages.publish import push_policies

                push_policies(plan, selected, progress.say)
        _remember_speed(plan)
        print_summary(plan.output)
    print(f"report: {_short(plan.output / 'report.html')}")
    return code


def _remember_speed(plan: Plan) -> None:
    from harness.forecast.speed import remember

    with contextlib.suppress(OSError):  # a cache that cannot be written must not fail a finished matrix
        remember(plan)


def _short(path: Path) -> str:
    """Relative to the working directory where that is shorter."""
    relative = os.path.relpath(path)
    return relative if not relative.startswith("..") else str(path)


def _check_writable(output: Path) -> None:
    from trainers.common.errors import UserError

    existing = next(p for p in (output, *output.parents) if p.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"--output {output}: {existing} cannot be written to; give another directory")
