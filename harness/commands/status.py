"""status: how far each run is."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from harness.cli import DEFAULT_OUTPUT
from harness.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, default=Path(DEFAULT_OUTPUT), help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="one JSON object for scripts")


def frozen_matrix(output: Path) -> dict[str, Any]:
    """matrix.json of an output directory.

    Raises:
        UserError: there is none.
    """
    from harness.store import read_json

    frozen = read_json(output / "matrix.json")
    if not isinstance(frozen, dict):
        raise UserError(
            f"--output {output} holds no matrix; run: python -m harness run-matrix CONFIG --output {output}"
        )
    return frozen


def shown_state(status: dict[str, Any]) -> str:
    """The state; a run whose process is gone is `interrupted`, not running."""
    pid = status.get("pid")
    if pid and status["state"] == "running" and "train" not in status["stages"]:
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return "interrupted"
        except PermissionError:
            pass
    return str(status["state"])


def run(options: argparse.Namespace) -> int:
    from harness.store import RunStore

    frozen = frozen_matrix(options.output)
    rows = []
    for run_id in frozen["runs"]:
        status = RunStore(options.output / "runs" / run_id).status()
        rows.append(
            {
                "run_id": run_id,
                "state": shown_state(status),
                "stage": status["stage"],
                "step": status["step"],
                "total_steps": status["total_steps"],
                "loss": status.get("loss"),
                "dynamic_beta": status.get("dynamic_beta"),
                "error": status["error"],
            }
        )
    if options.json:
        json.dump({"matrix": frozen["name"], "runs": rows}, sys.stdout, indent=1)
        print()
        return 0
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, title=f"matrix {frozen['name']}", title_justify="left")
    for column in ("run", "state", "stage", "step", "loss", "beta"):
        table.add_column(column, justify="right" if column in ("step", "loss", "beta") else "left", overflow="fold")
    colours = {"done": "green", "failed": "red", "running": "yellow"}
    for row in rows:
        colour = colours.get(row["state"], "dim")
        table.add_row(
            row["run_id"],
            f"[{colour}]{row['state']}[/]",
            row["stage"],
            f"{row['step']}/{row['total_steps']}" if row["total_steps"] else "-",
            "-" if row["loss"] is None else f"{row['loss']:.4f}",
            "-" if row["dynamic_beta"] is None else f"{row['dynamic_beta']:.4f}",
        )
    console.print(table)
    for row in rows:
        if row["error"]:
            console.print(
                f"[red]failed[/] {row['run_id']}: {row['error']['class']}: {row['error']['message']}", markup=True
            )
    return 0
