"""run-matrix: train, evaluate and compare."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli import DEFAULT_OUTPUT
from harness.progress import duration, stderr_line

if TYPE_CHECKING:
    from harness.matrix import RunSpec
    from harness.plan import Plan
    from harness.signals import StopSignals

DEMO = Path(__file__).resolve().parents[1] / "configs" / "demo.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", nargs="?", type=Path, default=DEMO, help="matrix file (default: the demo)")
    parser.add_argument("--output", type=Path, default=Path(DEFAULT_OUTPUT), help="default: %(default)s")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done and what it would cost")
    parser.add_argument(
        "--only", type=_names, default=(), metavar="METHOD[,..]", help="work on these methods or runs only"
    )
    parser.add_argument("--exclude", type=_names, default=(), metavar="METHOD[,..]", help="leave these out")
    parser.add_argument("--seeds", type=_numbers, default=(), metavar="N[,..]", help="work on these seeds only")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a value of the matrix file; dotted key"
    )
    parser.add_argument("--max-failures", type=_positive, metavar="N", help="end once N runs have failed")
    parser.add_argument("--retry-failed", action="store_true", help="try runs again that failed for a lasting reason")
    parser.add_argument("--wait", action="store_true", help="if another process works on the output, wait for it")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers such as 0,1") from None


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def run(options: argparse.Namespace) -> int:
    stderr_line(f"reading {_short(options.config)}")
    from harness.errors import UserError
    from harness.failures import disk_errno, disk_line
    from harness.plan import make_plan
    from harness.selection import Selection, select
    from harness.signals import Stopped, StopSignals

    with StopSignals() as stops:
        try:
            plan = make_plan(options.config, options.output, stderr_line, options.set)
            selected, parents = select(plan.specs, Selection(options.only, options.exclude, options.seeds))
            for spec in parents:
                stderr_line(f"{spec.label} is taken in too: a selected control repeats it")
            if options.dry_run:
                show_plan(plan, selected)
                return 0
            _check_writable(plan.output)
            return _work(plan, selected, options, stops)
        except Stopped as stopped:
            stderr_line(f"\n{_going_on(stopped.at_once)}")
            return stopped.exit_code
        except OSError as error:
            number = disk_errno(error)
            if number is None:
                raise
            raise UserError(disk_line(number, error.filename or options.output)) from None


def _work(plan: Plan, selected: list[RunSpec], options: argparse.Namespace, stops: StopSignals) -> int:
    from harness.lock import output_lock
    from harness.plan import freeze
    from harness.progress import Progress
    from harness.run import run_matrix
    from reports.terminal import print_summary

    with output_lock(plan.output, options.wait):
        freeze(plan)
        with Progress() as progress:
            code = run_matrix(plan, progress, stops, selected, options.max_failures, options.retry_failed)
        print_summary(plan.output)
    print(f"report: {_short(plan.output / 'report.html')}")
    return code


def _going_on(at_once: bool) -> str:
    command = shlex.join(["python", "-m", "harness", *sys.argv[1:]])
    lost = "the run in work goes on from its last checkpoint" if at_once else "nothing is lost"
    return f"stopped; {lost}. Go on with: {command}"


def _short(path: Path) -> str:
    """Relative to the working directory where that is shorter."""
    relative = os.path.relpath(path)
    return relative if not relative.startswith("..") else str(path)


def _check_writable(output: Path) -> None:
    from harness.errors import UserError

    existing = next(p for p in (output, *output.parents) if p.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"--output {output}: {existing} cannot be written to; give another directory")


def show_plan(plan: Plan, selected: list[RunSpec]) -> None:
    """The selected runs, what is cached, and an estimate of the whole matrix."""
    from rich.console import Console
    from rich.table import Table

    from evals.engine import EngineConfig, choose_backend
    from harness.estimate import estimate
    from harness.store import RunStore

    console = Console(highlight=False)
    config = plan.config
    console.print(f"matrix [bold]{config.name}[/]: {len(plan.specs)} runs, {len(plan.pairs)} training pairs")
    console.print(f"model {plan.model.name}, {config.model.dtype}, {'LoRA' if config.lora else 'all weights'}")
    table = Table(box=None, pad_edge=False)
    for column in ("run", "method", "parameters", "seed", "train", "evaluate"):
        table.add_column(column, overflow="fold")
    for spec, policy in zip(selected, plan.policies(selected)[1:], strict=True):
        trained = RunStore(plan.run_dir(spec)).is_done("train", spec.fingerprint, verify=False)
        cells = sum(plan.cell_done(policy, benchmark) for benchmark in plan.benchmarks)
        shown = {**spec.params, **spec.hyper}
        keys = [key for key in ("pref_beta", "pref_beta_scale", "epsilon", *spec.hyper) if key in shown]
        table.add_row(
            spec.run_id,
            spec.method,
            " ".join(f"{key}={shown[key]}" for key in dict.fromkeys(keys)),
            str(spec.seed),
            "cached" if trained else "to do",
            "cached"
            if cells == len(plan.benchmarks)
            else f"{cells}/{len(plan.benchmarks)} cached"
            if cells
            else "to do",
        )
    console.print(table)
    names = ", ".join(benchmark["name"] for benchmark in plan.benchmarks) or "none"
    backend = choose_backend(EngineConfig.from_dict(config.evaluation.engine.model_dump()))
    console.print(f"benchmarks: {names} (engine: {backend})")
    cost = estimate(plan)
    gib = 2**30
    console.print(
        f"estimate, from {cost.basis}: about {duration(cost.train_seconds)} to train, "
        f"{duration(cost.eval_seconds)} to evaluate; {cost.memory_bytes / gib:.1f} GiB of memory, "
        f"{cost.disk_bytes / gib:.1f} GiB of disk ({cost.free_disk_bytes / gib:.0f} GiB free)"
    )
    console.print("nothing was written to the output directory")
