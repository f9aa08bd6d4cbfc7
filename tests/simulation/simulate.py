"""Error rates of the verdicts, and of common naive analyses, on matrices whose truth is known.

python -m tests.simulation.simulate --matrices 500
"""

import argparse
import math
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reports.compare.comparison import tested
from reports.page.text import plain_table
from reports.statistics.association import within_runs
from reports.statistics.crossed import hierarchical_difference
from reports.statistics.family import HELPS
from reports.statistics.moderated import prior
from reports.statistics.multiplicity import corrected
from reports.verdict.claims import ASSERTIONS, Claim
from reports.verdict.inference import verdict
from reports.verdict.judged import judge
from reports.writing import write_json
from tests.simulation.worlds import (
    EFFECT,
    GAINS,
    WORLDS,
    Simulated,
    World,
    from_arrays,
    pooled_correlation,
    simulate,
)

#: Half the simulated effect: what the claims say is worth having.
MIN_EFFECT = EFFECT / 2
BOUND = 0.05
BOOTSTRAP_DRAWS = 500
DEFAULT_OUTPUT = Path("tests/benchmarks/simulation.json")


def _claims() -> list[Claim]:
    own = [Claim(a, "method", "baseline", "sim/score", asserts=a, min_effect=MIN_EFFECT) for a in ASSERTIONS]
    return [*own, Claim("rival", "rival", "baseline", "sim/score", min_effect=MIN_EFFECT)]


CLAIMS = _claims()


def _bootstrap_says(matrix: Simulated) -> bool:
    result = hierarchical_difference(matrix.scores["method"], matrix.scores["baseline"], BOOTSTRAP_DRAWS)
    return result.low is not None and result.low > 0


def report_says(scores: Mapping[str, Any]) -> dict[str, str]:
    """The words of the report's own verdicts on both methods against the baseline, after Holm."""
    levels = np.array([cells.mean(axis=1) for cells in scores.values()])
    names, prompts = list(scores), scores["baseline"].shape[1]
    found = {
        m: tested(
            scores[m] - scores["baseline"], prompts,
            prior(levels, names.index(m), names.index("baseline"), prompts),
        )
        for m in ("method", "rival")
    }  # fmt: skip
    adjusted = corrected([c.crossed_test for c in found.values()], "Holm")
    return {name: verdict(comparison, True, p) for (name, comparison), p in zip(found.items(), adjusted, strict=True)}


def analyse(matrix: Simulated, world: World) -> dict[str, bool]:
    """What each analysis says of one matrix; every entry is a yes or no."""
    scores = matrix.scores
    own = from_arrays("method", "baseline", {k: v for k, v in scores.items() if k != "rival"})
    rival = from_arrays("rival", "baseline", {"method": scores["rival"], "baseline": scores["baseline"]})
    judged = judge([(c, rival if c.method == "rival" else own) for c in CLAIMS])
    true = {c.name: c.method == "method" and world.true(c.asserts) for c in CLAIMS}
    said: dict[str, bool] = {f"supported:{j.claim.name}": j.verdict in HELPS for j in judged}
    said["false_supported"] = any(j.verdict in HELPS and not true[j.claim.name] for j in judged)
    said["false_against"] = any(j.verdict in ("worse", "equivalent") and true[j.claim.name] for j in judged)
    said["called_perplexity"] = judged[0].attribution == "perplexity"
    said["called_variation"] = judged[0].attribution == "variation"
    codes = report_says(scores)
    effects = {"method": world.gain, "rival": 0.0}
    right = {m: {"better"} if effects[m] > 0 else set() for m in codes}
    said["report:better"] = codes["method"] == "better"
    said["report:worse"] = codes["method"] == "worse"
    said["report:false"] = any(code in ("better", "worse") and code not in right[m] for m, code in codes.items())
    said["report:false_better"] = any(code == "better" and code not in right[m] for m, code in codes.items())
    for name, says in GAINS.items():
        said[f"naive:{name}"] = says(scores["method"], scores["baseline"])
    said["naive:bootstrap"] = _bootstrap_says(matrix)
    inside = within_runs(matrix.beta, matrix.delta, matrix.steps)
    found = 0 if inside.low is None or inside.high is None else int(inside.low > 0) - int(inside.high < 0)
    said["association:right"] = found == world.association
    said["association:wrong"] = found not in (0, world.association)
    for name, other, truth in (("delta", matrix.delta, world.association), ("loss", matrix.loss, -world.association)):
        said[f"pooled:{name}:wrong"] = pooled_correlation(matrix.beta, other) not in (0, truth)
    return said


def run_world(world: World, matrices: int, seeds: int, prompts: int) -> dict[str, Any]:
    """Rates over the matrices of one world."""
    said = [analyse(simulate(world, index, seeds, prompts), world) for index in range(matrices)]
    rates = {name: float(np.mean([one[name] for one in said])) for name in said[0]}
    return {
        "world": world.name,
        "text": world.text,
        "truth": {a: world.true(a) for a in ASSERTIONS} | {"association": world.association},
        "rates": rates,
    }


def campaign(matrices: int, seeds: int = 5, prompts: int = 200, worlds: Sequence[World] = WORLDS) -> dict[str, Any]:
    """All worlds."""
    start = time.perf_counter()
    results = [run_world(world, matrices, seeds, prompts) for world in worlds]
    return {
        "schema_version": 1,
        "matrices_per_world": matrices,
        "seeds": seeds,
        "prompts": prompts,
        "effect": EFFECT,
        "min_effect": MIN_EFFECT,
        "claims_per_matrix": len(CLAIMS),
        "standard_error_of_a_rate_of_0.05": math.sqrt(0.05 * 0.95 / matrices),
        "seconds": round(time.perf_counter() - start, 1),
        "command": f"python -m tests.simulation.simulate --matrices {matrices} --seeds {seeds} --prompts {prompts}",
        "worlds": results,
    }


def broken(result: Mapping[str, Any], errors: float = 0.0) -> list[str]:
    """Bounds that do not hold, one line each. A small sample may exceed them by so many standard errors of its own."""
    n, lines = result["matrices_per_world"], []

    def allowed(bound: float, rate: float, standard_errors: float) -> float:
        return bound + standard_errors * math.sqrt(rate * (1 - rate) / n)

    for world in result["worlds"]:
        name, rates, truth = world["world"], world["rates"], world["truth"]
        # The association is a two-sided test at its level: its true rate is 5 %, so half of all samples are above.
        checks = [("false supported", "false_supported", errors), ("wrong association", "association:wrong", 3.0)]
        checks.append(("the report calls a method better", "report:false_better", errors))
        # Better or worse, either method: two-sided at its level too.
        checks.append(("the report's verdicts false", "report:false", 3.0))
        checks += [(f"called a {a} effect", f"called_{a}", errors) for a in ("variation", "perplexity") if not truth[a]]
        for what, key, standard_errors in checks:
            bound = allowed(BOUND, BOUND, standard_errors)
            if rates[key] > bound:
                lines.append(f"{name}: {what} in {rates[key]:.3f}, bound {bound:.3f}")
    return lines


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f}"


def _rows(worlds: Iterable[Mapping[str, Any]], keys: Sequence[str]) -> list[list[str]]:
    return [[w["world"], *(_percent(w["rates"][k]) for k in keys)] for w in worlds]


def tables(result: Mapping[str, Any]) -> str:
    """The error rates as text, in percent of the matrices, at most 80 columns wide."""
    worlds = result["worlds"]
    naive = [f"naive:{n}" for n in ("seeds_only", "bootstrap", "pooled_prompts", "single_seed", "best_seed")]
    naive_titles = ["t seeds", "boot", "pooled", "1 seed", "best seed"]
    null = [w for w in worlds if not w["truth"]["gain"]]
    unlinked = [w for w in worlds if not w["truth"]["perplexity"]]
    parts = [
        f"{result['matrices_per_world']} matrices a world, {result['seeds']} seeds x {result['prompts']} prompts, % of matrices",
        "",
        'No effect at all, yet called a gain ("any": any of 4 declared claims)',
        plain_table(
            ["world", "claims", "any", *naive_titles],
            _rows(null, ["supported:gain", "false_supported", *naive]),
        ),
        "",
        "The report's verdicts on two methods (Holm), and those on the first of them",
        plain_table(
            ["world", "false better", "false either way", "better", "worse"],
            _rows(worlds, ["report:false_better", "report:false", "report:better", "report:worse"]),
        ),
        "",
        "No perplexity effect, yet called one (without controls, any gain is)",
        plain_table(["world", "claims", *naive_titles], _rows(unlinked, ["called_perplexity", *naive])),
        "",
        "beta against delta or loss: a sign announced that is not there",
        plain_table(
            ["world", "within runs", "pooled delta", "pooled loss"],
            _rows(worlds, ["association:wrong", "pooled:delta:wrong", "pooled:loss:wrong"]),
        ),
    ]
    return "\n".join(parts)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaign, write it, print its tables; 1 when a bound does not hold."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation.simulate", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--matrices", type=int, default=500, help="per world (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--prompts", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, help="default: %(default)s")
    options = parser.parse_args(argv)
    for name, least in (("matrices", 1), ("seeds", 2), ("prompts", 2)):
        if getattr(options, name) < least:
            parser.error(f"--{name} is {getattr(options, name)}; give at least {least}")
    result = campaign(options.matrices, options.seeds, options.prompts)
    failures = broken(result)
    result["bounds_broken"] = failures
    write_json(options.output, result)
    print(tables(result))
    print(f"\n{result['seconds']} s; written to {options.output}")
    for line in failures:
        print(f"bound broken: {line}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
