"""compare-scores: two models or more on the same items, from tables of scores (needs no torch)."""

import argparse

from rich.console import Console
from rich.markup import escape

from harness.commands.options import print_json
from reports.foreign.compare_scores import score_tables
from reports.schema.judges import ScoreComparison


def run(options: argparse.Namespace) -> int:
    """Read, compare and print."""
    found = score_tables(options.files, options.id, options.score, options.cluster, options.baseline)
    if options.json:
        print_json(found.plain())
        return 0
    out = Console(highlight=False, soft_wrap=True)
    for one in found.comparisons:
        for line in _lines(one):
            out.print(escape(line))
    return 0


def _lines(one: ScoreComparison) -> list[str]:
    means = ["-" if v is None else f"{v:.4g}" for v in (one.first_mean, one.second_mean)]
    lines = [f"{one.metric}: {one.first} {means[0]}, {one.second} {means[1]}"]
    d = one.difference
    if d.value is not None:
        interval = (
            f" (95 % {d.low:+.4g} to {d.high:+.4g})" if d.low is not None and d.high is not None else f" ({d.note})"
        )
        clusters = "" if one.clusters is None else f" in {one.clusters} clusters"
        lines.append(f"  difference {d.value:+.4g}{interval}; {d.method}, n={d.n}{clusters}")
    p = one.test.p_value
    lines.append(f"  not tested: {one.test.reason or d.reason}" if p is None else f"  p {p:.3g}: {one.test.method}")
    if p is not None:
        lines.append(f"  {one.first} higher on {one.wins} items, lower on {one.losses}, equal on {one.ties}")
    if p is not None and (one.only_first or one.only_second):
        lines.append(
            f"  left out, in one table only: {one.only_first} of {one.first}, {one.only_second} of {one.second}"
        )
    return lines
