"""Error rates and power of the statistics, written to tests/simulation/simulation.json as a list of {name, value}.

python -m tests.simulation.rates [--matrices 2000] [--output FILE]

`false.<world>`: share of matrices in which a claim is announced that is not true; `before.<world>`: the same at commit
5451eb5; `either.<world>`: in which anything said of a claim is false, "worse" and "equivalent" included; `power.<what>` and
`looks.<what>`: found where an effect is there; `limit.<world>`: false where no analysis of so few seeds can hold its level.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from reports.page.text import plain_table
from reports.statistics.design import SimulatedDesign
from reports.writing import write_json
from tests.simulation import families, trends
from tests.simulation.families import DOMINATING, EFFECT, FOUND, HIDDEN, ORDINARY, WORLDS, Family

OUTPUT = Path(__file__).with_name("simulation.json")
LOOKS = (6, 10)
MOST_FALSE = 0.055
#: Least power and most seeds that the design is held to.
LEAST = {"power.perplexity_06_family_of_four": 0.55, "looks.power_06": 0.90}
MOST_SEEDS = 7.0


def measure(matrices: int, worlds: Sequence[Family] = WORLDS) -> dict[str, float]:
    """Every rate, by name. A world's matrices are the same whatever else is measured."""
    found: dict[str, float] = {"matrices": float(matrices)}
    ordinary = families.rates(FOUND, matrices)
    found["power.perplexity_06_family_of_four"] = ordinary["found2"]
    found["power.perplexity_06_before"] = ordinary["found_before"]
    found["power.gain_06_family_of_four"] = ordinary["found0"]
    grid = SimulatedDesign(ORDINARY, [5], 200, asserts=3, rivals=1, settings=4, draws=min(matrices, 1000))
    found["power.perplexity_06_of_4_settings"] = grid.found(EFFECT)[0]
    found["power.perplexity_09_of_4_settings"] = grid.found(1.5 * EFFECT)[0]
    null = next(w for w in WORLDS if w.name == "no_effect")
    found["looks.power_06"], found["looks.seeds_06"] = families.looked(FOUND, matrices, LOOKS)
    found["false.two_looks"] = families.looked(null, matrices, LOOKS)[0]
    for world in (FOUND, *worlds, HIDDEN):
        said = ordinary if world is FOUND else families.rates(world, matrices)
        kind = "limit" if world.limit else "false"
        found[f"{kind}.{world.name}"] = said["false"]
        found[f"before.{world.name}"] = said["before"]
        found[f"either.{world.name}"] = said["either"]
    crashed = families.crashed(replace(null, name="crashed_seeds", spread=DOMINATING, seeds=7), matrices)
    found |= {"false.crashed_seeds": crashed["false"], "before.crashed_seeds": crashed["dropped"]}
    found["false.chosen_primary"] = families.chosen_primary(null, matrices)["false"]
    for trend in trends.NULLS:
        found[f"false.trend_{trend.__name__}"] = trends.announced(trend, matrices)
    found["power.trend_linked"] = trends.announced(trends.linked, max(1, matrices // 10))
    return found


def broken(found: dict[str, float], errors: float = 0.0) -> list[str]:
    """Bounds that do not hold, one line each; a small sample may exceed them by so many standard errors of its own."""
    n = found["matrices"]
    lines = []
    for name, value in found.items():
        most = MOST_FALSE + errors * math.sqrt(MOST_FALSE * (1 - MOST_FALSE) / n)
        if name.startswith("false.") and value > most:
            lines.append(f"{name} is {value:.4f}, at most {most:.4f} allowed")
    for name, least in LEAST.items():
        wanted = least - errors * math.sqrt(least * (1 - least) / n)
        if name in found and found[name] < wanted:
            lines.append(f"{name} is {found[name]:.4f}, at least {wanted:.4f} wanted")
    if found.get("looks.seeds_06", 0.0) > MOST_SEEDS:
        lines.append(f"looks.seeds_06 is {found['looks.seeds_06']:.2f}, at most {MOST_SEEDS:g} wanted")
    return lines


def table(found: dict[str, float]) -> str:
    """Error rates and power, at commit 5451eb5 and now, in % of the matrices, as Markdown; a dash where not measured."""
    texts = {w.name: w.text for w in (FOUND, *WORLDS)} | {
        "two_looks": "no method differs, looks at 6 and 10 seeds (one-sided)",
        "crashed_seeds": "no method differs, the worst of the method's runs crash",
        "chosen_primary": "no method differs, the best of four metrics made primary afterwards",
    }
    rows = ["| false claims, where | 5451eb5 | now |", "|---|---|---|"]

    def row(text: str, before: str, now: str) -> None:
        cells = [f"{100 * found[key]:.1f}" if key in found else "-" for key in (before, now)]
        rows.append(f"| {text} | {cells[0]} | {cells[1]} |")

    for key in found:
        kind, _, name = key.partition(".")
        if kind == "false":
            text = f"beta against loss: {name[6:].replace('_', ' ')}" if name.startswith("trend_") else texts[name]
            row(text, f"before.{name}", key)
    rows.append("| **found** | | |")
    row("perplexity effect .06, family of four", "power.perplexity_06_before", "power.perplexity_06_family_of_four")
    row("gain .06, one claim, looks at 6 and 10 seeds", "", "looks.power_06")
    return "\n".join(rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write, print; 1 when a bound does not hold."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation.rates", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--matrices", type=int, default=2000, help="per world (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="default: %(default)s")
    options = parser.parse_args(argv)
    if options.matrices < 1:
        parser.error(f"--matrices is {options.matrices}; give at least 1")
    start = time.perf_counter()
    found = measure(options.matrices)
    write_json(options.output, [{"name": name, "value": value} for name, value in found.items()])
    print(plain_table(["name", "value"], [[name, f"{value:.4g}"] for name, value in found.items()]))
    failures = broken(found)
    for line in failures:
        print(f"bound broken: {line}", file=sys.stderr)
    print(f"{time.perf_counter() - start:.0f} s; written to {options.output}")
    return 1 if failures else 0


def read(path: Path = OUTPUT) -> dict[str, float]:
    """The committed rates, by name."""
    return {row["name"]: row["value"] for row in json.loads(path.read_text(encoding="utf-8"))}


if __name__ == "__main__":
    sys.exit(main())
