"""power: what a number of seeds and prompts can find, before anything is trained or from a finished pilot."""

import argparse
import textwrap
from dataclasses import asdict
from pathlib import Path

from harness.commands.analysis import STATED
from harness.commands.options import print_json
from harness.config import refuse
from harness.progress import duration
from harness.state.store import frozen_matrix
from reports.page.text import plain_table
from reports.runs.arms import arms
from reports.runs.records import MatrixData, ReportError, load_matrix
from reports.statistics.design import (
    ALPHA,
    LEAST_SEEDS,
    MOST_PROMPTS,
    SimulatedDesign,
    Spread,
    components,
    simulated_needed,
)
from reports.verdict.pilot import Design, PilotError, cheapest, pilot_squares, stops
from trainers.common import Json, UserError

#: Simulated matrices a design, and scores in all of them: what a minute of one core allows.
FEWEST_DRAWS, MOST_DRAWS, CELLS = 200, 2000, 250_000_000


def read_pilot(folder: Path, said: str) -> MatrixData:
    """The finished matrix of an output directory; `said` is what named it.

    Raises:
        UserError: there is none.
    """
    try:
        frozen = frozen_matrix(folder)
    except UserError:
        raise UserError(f"{said} {folder} holds no matrix; give the --output of a finished one") from None
    try:
        return load_matrix(folder, frozen.runs, frozen.config)
    except ReportError as error:
        raise UserError(f"{said} {folder}: {error}") from None


def _measured(options: argparse.Namespace) -> tuple[Spread, Spread, str]:
    refuse(
        (
            options.range is not None,
            f"--range {options.range or 0:g} scales assumed deviations, and --pilot measures them; remove it",
        ),
        *(
            (
                getattr(options, f"sd_{name}") is not None,
                f"--sd-{name} and --pilot are both given; the pilot measures it, give one of them",
            )
            for name in STATED
        ),
    )
    matrix = read_pilot(options.pilot, "--pilot")
    try:
        metric, squares = pilot_squares(matrix, options.metric, options.against)
    except (PilotError, ReportError) as error:
        raise UserError(f"--pilot {options.pilot}: {error}") from None
    measured, cautious = components(list(squares.values()))
    if not measured.varies:
        raise UserError(
            f"--pilot {options.pilot}: its methods have the same {metric} on every prompt; choose a --metric that varies"
        )
    one = next(iter(squares.values()))
    # Names stay out of this line: any number of methods must fit in 80 columns.
    pairs = f"{len(squares)} comparison{'' if len(squares) == 1 else 's'}"
    options.cheapest = _cheapest(matrix, metric, options)
    return measured, cautious, f"measured on {metric}: {pairs}, {one.seeds} seeds x {one.prompts} prompts"


def _cheapest(matrix: MatrixData, metric: str, options: argparse.Namespace) -> tuple[Design | None, str]:
    """The cheapest design by what the pilot's runs took, and in words."""
    count = len(arms(matrix.runs))
    try:
        found = cheapest(stops(matrix, metric, options.against), options.effect, count, options.claims)
    except PilotError as error:
        return None, f"cheapest design: {error}"
    if found is None:
        return None, f"cheapest design: no number of seeds and prompts tried finds {options.effect:g}"
    steps = "" if found.step is None else f", stopped after step {found.step}"
    samples = f" x {found.samples} sample{'' if found.samples == 1 else 's'}"
    return found, (
        f"cheapest design for {options.effect:g}: {found.seeds} seeds x {found.prompts} prompts{samples}{steps}: about "
        f"{duration(found.seconds)} for the pilot's {count} arms, at the speed of its runs"
    )


def _stated(options: argparse.Namespace) -> tuple[Spread, str]:
    given = {name: getattr(options, f"sd_{name}") for name in STATED}
    assumed = {name: (options.range or 1.0) * STATED[name] for name, value in given.items() if value is None}
    values = {**given, **assumed}
    refuse(
        *(
            (
                getattr(options, name) is not None,
                f"--{name} {getattr(options, name)} belongs to a pilot; add --pilot DIR or remove it",
            )
            for name in ("metric", "against")
        ),
        (
            not any(values.values()),
            "--sd-seed, --sd-prompt, --sd-residual: the standard deviations are all 0; give one above 0",
        ),
    )
    source = f"assumed ({', '.join(assumed)}), not measured; better: --pilot DIR" if assumed else "as given"
    return Spread(**values), source


def _report(spread: Spread, options: argparse.Namespace) -> Json:
    """All by simulation of the function that judges a report. Rivals: one claim of a gain for each further claim."""
    rivals, three = options.claims - 1, max(0, options.claims - 3)
    arms = 4 + three + 2 + rivals  # of both designs together
    cells = []
    for seeds in options.seeds:
        for prompts in options.prompts:
            size = len(options.seeds) * len(options.prompts) * arms * seeds * min(prompts, MOST_PROMPTS)
            draws = min(MOST_DRAWS, max(FEWEST_DRAWS, CELLS // size))
            alone = SimulatedDesign(spread, [seeds], prompts, rivals=rivals, draws=draws)
            controls = SimulatedDesign(spread, [seeds], prompts, asserts=3, rivals=three, draws=draws)
            cells.append(
                {
                    "seeds": seeds,
                    "prompts": prompts,
                    "power": alone.found(options.effect)[0],
                    "power_three": controls.found(options.effect)[0],
                    "detectable": alone.detectable(),
                    "judged": seeds >= LEAST_SEEDS,
                }
            )
    looked = []
    for prompts in options.prompts if options.looks else ():
        design = SimulatedDesign(spread, sorted(set(options.looks)), prompts, rivals=rivals)
        found, average = design.found(options.effect)  # a matrix stops at the look that finds the effect
        looked.append({"looks": [*design.looks], "prompts": prompts, "power": found, "seeds_on_average": average})
    ask: Json = {"rivals": rivals, "draws": max(FEWEST_DRAWS, 2 * MOST_DRAWS // (4 + rivals))}
    return {
        "sd": asdict(spread),
        "designs": cells,
        "looks": looked,
        "seeds_needed": {str(p): simulated_needed(spread, options.effect, prompts=p, **ask) for p in options.prompts},
        "prompts_needed": {
            str(s): simulated_needed(spread, options.effect, seeds=s, limit=1_000_000, **ask) for s in options.seeds
        },
    }


def _show(report: Json, options: argparse.Namespace) -> None:
    by = {(c["seeds"], c["prompts"]): c for c in report["designs"]}
    # Six columns of prompts fit beside the seeds; more come in further blocks.
    blocks = [options.prompts[i : i + 6] for i in range(0, len(options.prompts), 6)]

    def grid(key: str, form: str) -> None:
        for block in blocks:
            cells = {
                s: ["-" if (v := by[s, p][key]) is None else format(v, form) for p in block] for s in options.seeds
            }
            rows = [[f"{s} seeds{'' if s >= LEAST_SEEDS else '*'}", *of_seeds] for s, of_seeds in cells.items()]
            print(plain_table(["prompts", *map(str, block)], rows))

    print(f"chance to find a difference of {options.effect:g}")
    grid("power", ".0%")
    print("\nchance to find it against baseline, matched_mean and permuted at once")
    grid("power_three", ".0%")
    print("\nsmallest difference found with chance 80 %")
    grid("detectable", ".3g")
    if report["looks"]:
        looks = ", ".join(map(str, report["looks"][0]["looks"]))
        print(f"\nwith looks at {looks} seeds, alpha spent by Pocock's function")
        rows = [[str(r["prompts"]), f"{r['power']:.0%}", f"{r['seeds_on_average']:.1f}"] for r in report["looks"]]
        print(plain_table(["prompts", "found", "seeds on average"], rows))
    if any(s < LEAST_SEEDS for s in options.seeds):
        print(f"* below {LEAST_SEEDS} seeds no claim is judged, whatever the numbers")
    print(f"\nneeded to find {options.effect:g} with chance 80 %")
    rows = [
        [f"at {given} {one}", f"{n} {other}" if n else f"no number of {other}"]
        for one, other in (("prompts", "seeds"), ("seeds", "prompts"))
        for given, n in report[f"{other}_needed"].items()
    ]
    print(plain_table(rows[0], rows[1:]))


def _deviations(spread: Spread) -> str:
    return f"  seed {spread.seed:.3g}, prompt {spread.prompt:.3g}, residual {spread.residual:.3g}"


def run(options: argparse.Namespace) -> int:
    """Print the tables, or one JSON object; nothing is written."""
    options.seeds, options.prompts = sorted(set(options.seeds)), sorted(set(options.prompts))
    cautious, options.cheapest = None, (None, "")
    if options.pilot is not None:
        spread, cautious, source = _measured(options)
    else:
        spread, source = _stated(options)
    report = _report(cautious or spread, options)
    if options.json:
        given = {
            "effect": options.effect,
            "claims": options.claims,
            "alpha": ALPHA,
            "source": source,
            "sd_measured": None if cautious is None else asdict(spread),
            "cheapest": asdict(design) if (design := options.cheapest[0]) is not None else None,
        }
        print_json(given | report)
        return 0
    print(textwrap.fill(f"standard deviations {source}", 80))
    print(_deviations(spread))
    if cautious is not None:
        print("used: the 80 % upper bounds, since a small pilot may underestimate")
        print(_deviations(cautious))
    print(
        f"two-sided alpha {ALPHA:.3g} over {options.claims} claim{'' if options.claims == 1 else 's'}, paired by seed, prompt\n"
    )
    _show(report, options)
    if options.cheapest[1]:
        print("\n" + textwrap.fill(options.cheapest[1], 80))
    return 0
