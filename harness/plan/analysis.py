"""The analysis plan of a matrix, as a text by key: what is frozen before the first step and can be registered elsewhere."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from evals.job import LM_EVAL, BenchmarkEntry
from harness.config import MatrixConfig
from harness.plan.plan import Plan
from reports.verdict.claims import freeze, parse_claims
from reports.verdict.plan import BASELINE, PRIMARY, shown
from trainers.common import Json, file_hash

#: How runs that fail, prompts that are not answered and many tests are dealt with: what the report does, in words.
RULES = {
    "failed runs": "judged as observed and with failed runs at the worst score of the matrix; the weaker verdict stands",
    "collapsed runs": "kept with their scores, and named",
    "exclusions": "prompts that a compared run did not answer; seeds that one side of a comparison lacks",
    "corrections": "claims by closed ladders and Holm, first comparisons by Holm, all others by Benjamini-Hochberg",
}


def analysis_plan(plan: Plan) -> dict[str, str]:
    """The plan by key, without claims and seeds, which are frozen beside it."""
    config = plan.config
    found = {
        "model": f"weights sha256 {plan.model_hash[:16]}",
        **_data(plan),
        "training": _told({**config.training, "lora": config.lora}),
        **{f"methods.{method.name}": _method(plan, method.name) for method in config.methods},
        **{f"benchmarks.{one.name}": _benchmark(one, config) for one in plan.benchmarks},
        **{f"judges.{judge.name}": _told(judge.model_dump()) for judge in config.evaluation.judges},
        "checkpoints": _told(
            config.evaluation.model_dump(include={"checkpoints", "checkpoint_seeds", "checkpoint_benchmarks"})
        ),
        PRIMARY: shown(config.report.primary),
        BASELINE: shown(config.report.baseline),
        "sensitivity": _told(config.sensitivity.model_dump() if config.sensitivity else {}),
    }
    rows = "dropped" if config.data.without_preference == "drop" else "an error"
    return found | {**RULES, "exclusions": f"{RULES['exclusions']}; rows without a preference: {rows}"}


def frozen_plan(plan: Plan) -> Json:
    """The content of claims.json: claims, seeds, looks and all of the plan, with one hash."""
    claims = parse_claims([claim.model_dump() for claim in plan.config.claims])
    return freeze(claims, plan.config.seeds, plan.config.looks, analysis_plan(plan))


def registered(name: str, frozen: Json) -> str:
    """The plan as a text to paste into a preregistration: every line is covered by the hash at its top."""
    lines = {
        "seeds": ", ".join(map(str, frozen["seeds"])),
        "looks": ", ".join(map(str, frozen["looks"])) or "one, at all seeds",
        **{
            f"claims.{row['name']}": f"{row['method']} against {row['against']} on {row['metric']} "
            f"({row['at']}{_window(row)}) asserts {row['asserts']}, min_effect {row['min_effect']:g}"
            for row in frozen["claims"]
        },
        **frozen["plan"],
    }
    body = [
        textwrap.fill(f"{key}: {text}", 80, subsequent_indent="    ", break_on_hyphens=False)
        for key, text in lines.items()
    ]
    return "\n".join([f"analysis plan of matrix {name}", f"sha256 {frozen['sha256']}", "", *body])


def _window(claim: Json) -> str:
    return " over {:g} to {:g} nats".format(*claim["window"]) if claim.get("window") else ""


def _data(plan: Plan) -> dict[str, str]:
    """How the pairs are drawn, and each draw by hash."""
    data, planted = plan.config.data, plan.config.sensitivity
    how = f"{len(plan.pairs)} pairs, seed {data.seed}"
    flips = data.flip or (planted.flip if planted is not None else None)
    shares = flips if isinstance(flips, list) else [flips] if flips else []
    how += f", labels flipped {', '.join(f'{share:g}' for share in shares)}" if shares else ""
    how += f", in blocks of {data.gap_blocks} by score gap" if data.gap_blocks is not None else ""
    if data.resample is None:
        return {"data": f"{how}, sha256 {next(iter(plan.sets))[:16]}"}
    drawn = "each seed" if data.subsets is None else f"{data.subsets} groups of seeds"
    first = {spec.seed: f"sha256 {spec.data_hash[:16]}" for spec in reversed(plan.specs)}
    every = {f"data.{seed}": first[seed] for seed in sorted(first)}
    return {"data": f"{how}, drawn from {plan.pool} for {drawn}", **every}


def _method(plan: Plan, name: str) -> str:
    specs = [spec for spec in plan.specs if spec.method == name]
    settings = list(dict.fromkeys(_told(spec.params) for spec in specs))
    parent = specs[0].parent_run
    own = {key: value for key, value in specs[0].training.items() if plan.config.training.get(key) != value}
    oracle = {key: value for key, value in specs[0].draw.identity.items() if key not in ("seed", "flip")}
    of = f" of {parent.method}" if parent is not None else ""
    return f"{Path(specs[0].rule).name}{of} ({'; or '.join(settings)}){_more(own)}{_more(oracle)}"


def _more(values: Json) -> str:
    return f", {_told(values)}" if values else ""


def _benchmark(benchmark: BenchmarkEntry, config: MatrixConfig) -> str:
    """Kind, settings, and the prompts by hash; not the engine, which may be another machine's."""
    every = [one.model_dump() for one in (*config.evaluation.benchmarks, *config.evaluation.lm_eval)]
    stated = next(one for one in every if benchmark.name in (one.get("name"), one.get("task")))
    # as resolved: a kind has defaults of its own
    known = {**stated, **benchmark.model_dump(exclude_unset=True), "kind": Path(benchmark.kind).name}
    left_out = ("name", "task", "prompts", "noise", "include_path")
    settings = {key: known[key] for key in {**stated, "kind": ""} if key not in left_out}
    rows = f", prompts sha256 {file_hash(benchmark.prompts)[:16]}" if benchmark.kind != LM_EVAL else ""
    return f"{_told(settings)}{rows}"


def _told(values: Json) -> str:
    return ", ".join(f"{key} {_value(value)}" for key, value in sorted(values.items()) if value is not None) or "none"


def _value(value: object) -> str:
    if isinstance(value, dict):
        return f"({_told(value)})"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(_value(one) for one in value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)
