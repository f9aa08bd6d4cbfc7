"""The details of a study: the tables behind its page, and the words that both share."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from reports.runs import REFERENCE_ID
from reports.schema import Cell, Summary
from reports.study.claims import Bound, Study, WorldScores
from reports.study.collect import FIGURES


def interval(value: float | None, low: float | None, high: float | None, digits: int = 3) -> str:
    if value is None:
        return ""
    ends = "" if low is None or high is None else f" ({low:+.{digits}f} to {high:+.{digits}f})"
    return f"{value:+.{digits}f}{ends}"


def _number(cell: Cell, digits: int) -> str:
    return "" if cell.value is None else f"{cell.value:.{digits}f}"


def table_of(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = (head, ["---"] * len(head), *rows)
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


#: What beta is set against, example by example, and its name on the page.
LINKS = {
    "log_prompt_perplexity": "log perplexity",
    "delta": "the gain so far (delta)",
    "loss_at_beta0": "loss at the fixed beta",
}
LINKED = (
    "The last three columns are rank correlations over the pairs inside a run, averaged over runs, with 95 % intervals that keep "
    "their level where runs share a trend. With (b): beta is one number for a whole batch, so only the plain correlation inside "
    "runs is to be had, without an interval that could be trusted. The loss itself contains beta: it is taken at the fixed one."
)


def _betas(summary: Summary) -> list[tuple[str, ...]]:
    """Each method's mean and spread of beta, and what it went along with."""
    if summary.beta is None:
        return []
    groups = {group.label: {a.against: a for a in group.examples} for group in summary.beta.matrix.groups}
    rows = []
    for profile in summary.beta.matrix.profiles:
        if not profile.runs or profile.mean_beta.value is None:
            continue
        row = [profile.label, _number(profile.mean_beta, 3), _number(profile.spread, 2)]
        for name in LINKS:
            found = groups.get(profile.label, {}).get(name)
            linked = found.linked if found is not None else None
            if found is None:
                row.append("")
            elif linked is not None and linked.value is not None:
                row.append(interval(linked.value, linked.low, linked.high, 2))
            else:
                row.append(f"{interval(found.within.value, None, None, 2)} (b)")
        rows.append(tuple(row))
    return rows


def _ran(summary: Summary) -> tuple[str, ...]:
    """How many runs finished and failed, and what they took."""
    seconds = summary.provenance.seconds
    train = [stages["train"] for stages in seconds.values() if stages.get("train")]
    total = sum(value for stages in seconds.values() for value in stages.values() if value)
    done, failed = summary.counts.done, summary.counts.failed
    return str(done), str(failed), f"{np.median(train) / 60:.1f}" if train else "", f"{total / 3600:.1f}"


#: Secondary outcomes: columns of the scores, and their names on the page.
ENDS = {
    "response_tokens": "tokens an answer",
    "response_log_perplexity_reference": "its log perplexity under the reference",
}


def _ends(study: Study, world: str, found: WorldScores, others: Sequence[str]) -> list[tuple[str, ...]]:
    """Means over seeds and prompts at the end of training: reward, KL, ENDS, and the metric on each of the other benchmarks."""
    benchmark, metric = study.metric.split("/")
    last = found.rows.groupby(["method", "seed"], dropna=False)["step"].transform("max")
    columns = [metric, study.cost, *ENDS]
    final = found.rows[found.rows["step"] == last]
    means = final.pivot_table(index="method", columns="benchmark", values=columns, sort=False)
    order = [*((column, benchmark) for column in columns), *((metric, other) for other in others)]
    table = means.reindex(index=[REFERENCE_ID, *methods(found.rows)], columns=pd.MultiIndex.from_tuples(order))
    return [
        (short(study, world), str(name), *("" if np.isnan(x) else f"{x:.3f}" for x in row))
        for name, row in zip(table.index, table.to_numpy(), strict=True)
    ]


def short(study: Study, world: str) -> str:
    return study.worlds[world].says.partition(":")[0]


def methods(rows: pd.DataFrame) -> list[str]:
    return [name for name in dict.fromkeys(rows["method"]) if name != REFERENCE_ID]


def words(study: Study, names: Sequence[str]) -> str:
    return "; ".join(study.worlds[name].says for name in names)


def details(
    study: Study, worlds: Mapping[str, WorldScores], summaries: Mapping[str, Summary], others: Sequence[Bound]
) -> str:
    """The tables behind the page."""
    gains = [
        (short(study, name), row.label, interval(row.difference, row.ci_low, row.ci_high), row.n_seeds)
        for name, summary in summaries.items()
        for row in summary.over_reference
        if row.n_seeds
    ]
    benchmark, metric = study.metric.split("/")
    rest = sorted({str(name) for world in worlds.values() for name in world.rows["benchmark"]} - {benchmark})
    ends = [row for name, world in worlds.items() for row in _ends(study, name, world, rest)]
    betas = [(short(study, name), *row) for name, summary in summaries.items() for row in _betas(summary)]
    ran = [(short(study, name), *_ran(summary)) for name, summary in summaries.items()]
    figures = [f"![{name}]({world}/figures/{name}.svg)" for world in summaries for name in FIGURES]
    parts = [
        f"# {study.question} The details",
        f"{words(study, list(summaries))}.",
        "## What DPO gained: reward at the end of training, whatever the KL",
        table_of(("world", "method", "reward over the reference (95 % interval)", "seeds"), gains),
        "## Other outcomes at the end of training, means over seeds and prompts",
        table_of(("world", "method", study.metric, "KL (nats)", *ENDS.values(), *(f"{one}/{metric}" for one in rest)), ends),
        "## Rules without a claim, against the fixed beta of their world at equal KL",
        table_of(("world", "rule", "difference (95 % interval)", "seeds"),
               [(short(study, b.world), b.method, interval(b.difference, b.low, b.high), b.seeds) for b in others]),
        "## What beta did",
        table_of(("world", "method", "mean beta", "SD of log beta", *(f"with {name}" for name in LINKS.values())), betas),
        LINKED,
        *figures,
        "## What was run",
        table_of(("world", "runs", "failed", "minutes to train a run (median)", "hours of all runs, one after another"), ran),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"
