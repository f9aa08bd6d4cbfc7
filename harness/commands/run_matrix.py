"""run-matrix: train, evaluate and compare."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli import DEFAULT_OUTPUT
from harness.progress import duration, stderr_line

if TYPE_CHECKING:
    from harness.plan import Plan

DEMO = Path(__file__).resolve().parents[1] / "configs" / "demo.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", nargs="?", type=Path, default=DEMO, help="matrix file (default: the demo)")
    parser.add_argument("--output", type=Path, default=Path(DEFAULT_OUTPUT), help="default: %(default)s")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done and what it would cost")


def run(options: argparse.Namespace) -> int:
    stderr_line(f"reading {_short(options.config)}")
    from harness.lock import output_lock
    from harness.plan import freeze, make_plan
    from harness.progress import Progress
    from harness.run import run_matrix
    from reports.terminal import print_summary

    plan = make_plan(options.config, options.output, stderr_line)
    if options.dry_run:
        show_plan(plan)
        return 0
    _check_writable(plan.output)
    with output_lock(plan.output):
        freeze(plan)
        with Progress() as progress:
            code = run_matrix(plan, progress)
        print_summary(plan.output)
    print(f"report: {_short(plan.output / 'report.html')}")
    return code


def _short(path: Path) -> str:
    """Relative to the working directory where that is shorter."""
    relative = os.path.relpath(path)
    return relative if not relative.startswith("..") else str(path)


def _check_writable(output: Path) -> None:
    from harness.errors import UserError

    existing = next(p for p in (output, *output.parents) if p.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"--output {output}: {existing} cannot be written to; give another directory")


def show_plan(plan: Plan) -> None:
    """The runs, what is cached, and an estimate."""
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
    for spec, policy in zip(plan.specs, plan.policies(plan.specs)[1:], strict=True):
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
