"""clean: list, and with --yes remove, what the current matrix of an output directory does not need."""

import argparse

from harness.commands.options import print_json
from harness.state import frozen_matrix, output_lock
from harness.state.clean import leftovers, remove_path


def run(options: argparse.Namespace) -> int:
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
