"""clean: list, and with --yes remove, what the current matrix of an output directory does not need."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli import DEFAULT_OUTPUT
from harness.commands.options import print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, default=Path(DEFAULT_OUTPUT), help="default: %(default)s")
    parser.add_argument("--yes", action="store_true", help="remove what is listed")
    parser.add_argument("--json", action="store_true", help="one JSON object for scripts")


def run(options: argparse.Namespace) -> int:
    from harness.state.clean import leftovers, remove_path
    from harness.state.lock import output_lock
    from harness.state.survey import frozen_matrix

    frozen = frozen_matrix(options.output)
    with output_lock(options.output):
        found = leftovers(options.output, frozen)
        if options.json:
            for leftover in found if options.yes else ():
                remove_path(leftover.path)
            items = [
                {"path": str(one.path.relative_to(options.output)), "bytes": one.size, "why": one.why} for one in found
            ]
            print_json({"items": items, "bytes": sum(one.size for one in found), "removed": options.yes})
            return 0
        for leftover in found:
            print(f"{_bytes(leftover.size):>9}  {leftover.path.relative_to(options.output)}  ({leftover.why})")
        total = f"{len(found)} item{'' if len(found) == 1 else 's'}, {_bytes(sum(one.size for one in found))}"
        if not found:
            print("nothing to remove")
        elif options.yes:
            for leftover in found:
                remove_path(leftover.path)
            print(f"removed {total}")
        else:
            print(f"{total}; nothing removed; --yes removes them")
    return 0


def _bytes(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
