"""Verbs that look at an output directory: status (how far each run is) and clean (what its matrix does not need)."""

import argparse
import contextlib
import json
import time
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from harness.commands.options import print_json
from harness.progress import duration
from harness.state import HOLDER, RunStore, frozen_matrix, output_lock, shown_state
from harness.state.clean import leftovers, remove_path
from trainers.common import Json, read_json

#: Seconds within which the last of several workers to train has the output to itself, and evaluates.
_HANDOVER_SECONDS = 5.0


def collect(output: Path) -> Json:
    """What `--json` prints: the matrix, who works on it, and one record per run.

    Raises:
        UserError: no matrix there.
    """
    frozen = frozen_matrix(output)
    holder = read_json(output / HOLDER)
    rows = []
    for run_id in frozen.runs:
        status = RunStore(output / "runs" / run_id).status()
        state = shown_state(status)
        if state == "running" and "train" in status.stages and not isinstance(holder, dict):
            state = "trained"  # and nobody evaluates it
        rows.append(
            {
                "run_id": run_id,
                "state": state,
                **{key: getattr(status, key) for key in ("stage", "step", "total_steps", "loss", "dynamic_beta")},
                "eta_seconds": status.eta_seconds if state == "running" else None,
                **{key: getattr(status, key) for key in ("pid", "host", "heartbeat")},
                "error": status.error.plain() if status.error is not None else None,
            }
        )
    worker = {key: holder.get(key) for key in ("pid", "host", "since")} if isinstance(holder, dict) else None
    return {"matrix": frozen.name, "held_by": worker, "runs": rows}


def show_status(options: argparse.Namespace) -> int:
    """Print how far each run is, once or again and again."""
    if options.watch is not None:
        return _watch(options)
    found = collect(options.output)
    if options.json:
        print_json(found)
        return 0
    console = Console(highlight=False)
    console.print(_table(found))
    for row in found["runs"]:
        if error := row["error"]:
            console.print(f"[red]failed[/] {row['run_id']}: {escape(error['class'])}: {escape(error['message'])}")
    return 0


def _watch(options: argparse.Namespace) -> int:
    """The table again and again, or one JSON a line, until every run is done or failed and no process works on the matrix.

    Trained runs that nobody evaluates are the end too: `worker --train-only` leaves them so.
    """
    console = Console(highlight=False)
    live = Live(console=console, auto_refresh=False) if not options.json and console.is_terminal else None
    rested = 0.0  # seconds
    with live if live is not None else contextlib.nullcontext():
        while True:
            found = collect(options.output)
            if options.json:
                print(json.dumps(found), flush=True)
            elif live is not None:
                live.update(_table(found), refresh=True)
            else:
                console.print(_table(found))
            states = {row["state"] for row in found["runs"]} if not found["held_by"] else {"held"}
            if states <= {"done", "failed"} or rested >= _HANDOVER_SECONDS:
                return 0
            rested = rested + options.watch if states <= {"done", "failed", "trained"} else 0.0
            time.sleep(options.watch)


def _table(found: Json) -> Table:
    summary = ", ".join(f"{count} {state}" for state, count in Counter(row["state"] for row in found["runs"]).items())
    table = Table(box=None, pad_edge=False, title=f"matrix {found['matrix']}: {summary}", title_justify="left")
    for i, column in enumerate(("run", "state", "stage", "step", "loss", "beta", "left")):
        table.add_column(column, justify="right" if i > 2 else "left", overflow="fold")
    colours = {"done": "green", "failed": "red", "running": "yellow"}
    for row in found["runs"]:
        colour = colours.get(row["state"], "dim")
        table.add_row(
            row["run_id"],
            f"[{colour}]{row['state']}[/]",
            row["stage"],
            f"{row['step']}/{row['total_steps']}" if row["total_steps"] else "-",
            "-" if row["loss"] is None else f"{row['loss']:.4f}",
            "-" if row["dynamic_beta"] is None else f"{row['dynamic_beta']:.4f}",
            "-" if row["eta_seconds"] is None else duration(row["eta_seconds"]),
        )
    return table


def clean(options: argparse.Namespace) -> int:
    """List what is not needed, and remove it if told to."""
    frozen = frozen_matrix(options.output)
    with output_lock(options.output):
        found = leftovers(options.output, frozen)
        for leftover in found if options.yes else ():
            remove_path(leftover.path)
        if options.json:
            items = [
                {"path": str(one.path.relative_to(options.output)), "bytes": one.size, "why": one.why} for one in found
            ]
            print_json({"items": items, "bytes": sum(one.size for one in found), "removed": options.yes})
            return 0
        for leftover in found:
            print(f"{_bytes(leftover.size):>9}  {leftover.path.relative_to(options.output)}  ({leftover.why})")
        total = f"{len(found)} item{'' if len(found) == 1 else 's'}, {_bytes(sum(one.size for one in found))}"
        said = f"removed {total}" if options.yes else f"{total}; nothing removed; --yes removes them"
        print(said if found else "nothing to remove")
    return 0


def _bytes(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
