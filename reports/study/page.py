"""The page of a study: README.md, details.md, summary.json and the figure, from the worlds that were collected."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from reports.panels.base import HUES, QUIET, ZERO, Look, label_rows, looks, mark, save, style
from reports.runs.records import REFERENCE_ID
from reports.schema import Summary, read_summary
from reports.schema.base import Cell
from reports.schema.verdict import PlantedControl, Sensitivity
from reports.study.claims import Bound, Judged, Study, WorldScores, bounds, judge, read_study
from reports.study.collect import FIGURES, SCORES
from trainers.common.files import write_bytes, write_json


def _interval(value: float | None, low: float | None, high: float | None, digits: int = 3) -> str:
    if value is None:
        return ""
    ends = "" if low is None or high is None else f" ({low:+.{digits}f} to {high:+.{digits}f})"
    return f"{value:+.{digits}f}{ends}"


def _number(cell: Cell, digits: int) -> str:
    return "" if cell.value is None else f"{cell.value:.{digits}f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
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
                row.append(_interval(linked.value, linked.low, linked.high, 2))
            else:
                row.append(f"{_interval(found.within.value, None, None, 2)} (b)")
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


def _ends(study: Study, world: str, found: WorldScores) -> list[tuple[str, ...]]:
    """Means over seeds and prompts at the end of training: reward, KL, the other outcomes, and the reward of other benchmarks."""
    benchmark, metric = study.metric.split("/")
    last = found.rows.groupby(["method", "seed"], dropna=False)["step"].transform("max")
    final = found.rows[found.rows["step"] == last].assign(
        where=lambda rows: rows["benchmark"].where(rows["benchmark"] == benchmark, "other")
    )
    columns = [metric, study.cost, *ENDS]
    means = final.pivot_table(index="method", columns="where", values=columns, sort=False)
    order = [*((column, benchmark) for column in columns), (metric, "other")]
    table = means.reindex(index=[REFERENCE_ID, *_methods(found.rows)], columns=pd.MultiIndex.from_tuples(order))
    return [
        (_short(study, world), str(name), *("" if np.isnan(x) else f"{x:.3f}" for x in row))
        for name, row in zip(table.index, table.to_numpy(), strict=True)
    ]


def _answer(study: Study, judged: Sequence[Judged]) -> str:
    """Each claim's question and its verdict."""
    told = [
        f"{claim.name}: {claim.says} **{one.verdict.capitalize()}**"
        + (f", {_interval(one.difference, one.ci_low, one.ci_high)}, {one.seeds} seeds." if one.seeds else ".")
        for claim, one in zip(study.claims, judged, strict=True)
    ]
    return "\n".join(f"- {text}" for text in told)


def _instrument(found: Sequence[Sensitivity]) -> str | None:
    """Why no difference may be read as its absence; None where the planted effects were seen, and none where none was."""
    if not found:
        what = "No control has been run."
    elif not all(one.positive.detected for one in found):
        what = "The strong control was run, and the effect that was planted was not detected."
    elif any(one.negative.detected for one in found):
        what = "The negative control was better, although nothing was planted there."
    else:
        return None
    return f"**{what} Nothing below may be read as the absence of an effect.**"


def _gates(study: Study, summaries: Mapping[str, Summary], found: Sequence[Sensitivity]) -> list[str]:
    """What was expected of every world and of the controls, and whether it came out."""
    told = []
    for name, summary in summaries.items():
        for row in summary.over_reference:
            if row.label == study.worlds[name].baseline and row.n_seeds and study.expected_gain is not None:
                met = row.difference is not None and row.difference >= study.expected_gain
                told.append(
                    f"{row.label} over the reference in {_short(study, name)}, at the end of training: "
                    f"{_interval(row.difference, row.ci_low, row.ci_high)}; at least {study.expected_gain:g} was expected"
                    f"{'' if met else ', so it is less than planned for'}."
                )
    if _margin_too_wide(study, found):
        told.append(
            "The margin is more than half of what the strong control surely showed, so no claim is called equivalent."
        )
    return told


def _margin_too_wide(study: Study, found: Sequence[Sensitivity]) -> bool:
    """Whether a margin exceeds half of the lower end of a detected strong control's interval."""
    widest = max(claim.min_effect for claim in study.claims)
    seen = [one.positive for one in found if one.positive.detected]
    return any(one.ci_low is not None and one.ci_low / 2 < widest for one in seen)


def _short(study: Study, world: str) -> str:
    return study.worlds[world].says.partition(":")[0]


def _curves(axes: Axes, study: Study, found: WorldScores, world: str) -> None:
    """Mean reward over seeds against sqrt(KL), from the reference through the checkpoints of each method."""
    benchmark, metric = study.metric.split("/")
    rows = found.rows[found.rows["benchmark"] == benchmark].assign(**{study.cost: lambda t: t[study.cost].fillna(0.0)})
    means = rows.groupby(["method", "step"], sort=False)[[metric, study.cost]].mean()
    methods = _methods(rows)
    seeds = {name: len(found.seeds(name)) for name in methods}
    start = rows.loc[rows["method"] == REFERENCE_ID, metric].mean()
    for name, look in looks(methods, study.worlds[world].baseline).items():
        own = means.xs(name)
        x = np.sqrt([0.0, *own[study.cost].clip(lower=0.0)])
        axes.plot(x, [start, *own[metric]], color=look.color, linestyle=look.dash, marker=look.marker,
                  markersize=4,
                  label=name if seeds[name] == max(seeds.values()) else f"{name} ({seeds[name]} seeds)")  # fmt: skip
    if study.window is not None:
        axes.axvspan(*np.sqrt(study.window), color="#dfe3e8", linewidth=0, zorder=0)
    title = textwrap.fill(study.worlds[world].says, 30, break_on_hyphens=False)
    axes.set(title=title, xlabel="square root of KL (nats)")
    axes.legend(frameon=False, fontsize=7)


def _draw(
    study: Study,
    worlds: Mapping[str, WorldScores],
    controls: Sequence[PlantedControl],
    judged: Sequence[Judged],
    folder: Path,
) -> None:
    """The controls and claims with their intervals; and, for each world, reward against KL."""
    instrument = [(f"{one.role} control", one.difference, one.ci_low, one.ci_high) for one in controls]
    rows = [*instrument, *((one.name, one.difference, one.ci_low, one.ci_high) for one in judged)]
    with style():
        columns, lines = (
            min(3, 1 + len(worlds)),
            -(-(1 + len(worlds)) // 3),
        )  # wider, and a page shrinks it until nobody can read it
        figure, grid = plt.subplots(
            lines, columns, figsize=(3.5 * columns, 3.3 * lines), layout="constrained", squeeze=False
        )
        axes, *others = grid.flat
        for spare in others[len(worlds) :]:
            spare.set_axis_off()
        others = others[: len(worlds)]
        axes.axvline(0, color=ZERO, linewidth=1)
        margin = max(claim.min_effect for claim in study.claims)
        axes.axvspan(-margin, margin, color="#dfe3e8", linewidth=0, zorder=0)
        for place, row in enumerate(rows):
            seen = Look(QUIET, "-", "D") if place < len(instrument) else Look(HUES[0], "-", "o")
            mark(
                axes,
                dict(zip(("label", "value", "low", "high"), row, strict=True)),
                ("value", "low", "high"),
                place,
                seen,
            )
        label_rows(axes, [row[0] for row in rows])
        axes.set(title="Controls and claims", xlabel=f"difference in reward (grey: within {margin:g})")
        for place, (world, found) in enumerate(worlds.items()):
            _curves(others[place], study, found, world)
            others[place].set(ylabel="" if (place + 1) % columns > 1 else "reward")
        lows, highs = zip(*(one.get_ylim() for one in others), strict=True) if others else ((0.0,), (1.0,))
        for one in others:  # one scale: worlds are to be compared
            one.set_ylim(min(lows), max(highs))
        save(figure, folder / "study.svg", folder / "study.pdf")


def page(folder: Path) -> None:
    """Write README.md, details.md, summary.json and the figure from the worlds that were collected.

    Raises:
        ReportError: study.yaml is missing or malformed.
    """
    study = read_study(folder)
    names = [name for name in study.worlds if (folder / name / SCORES).is_file()]
    summaries = {name: read_summary(folder / name / "summary.json") for name in names}
    worlds = {
        name: WorldScores(rows=pd.read_csv(folder / name / SCORES), failed=_failed(summary))
        for name, summary in summaries.items()
    }
    controls = [summary.sensitivity for summary in summaries.values() if summary.sensitivity is not None]
    planted = [one for s in controls for one in (s.positive, s.weak, s.negative) if one is not None]
    judged, others, blind = judge(study, worlds), bounds(study, worlds), _instrument(controls)
    gates = _gates(study, summaries, controls)
    if blind or _margin_too_wide(study, controls):  # an instrument that sees little says nothing of what is not there
        judged = [
            one.model_copy(update={"verdict": "undecided"}) if one.verdict == "equivalent" else one for one in judged
        ]
    _draw(study, worlds, planted, judged, folder / "figures")
    write_json(
        folder / "summary.json",
        {
            "question": study.question,
            "seeds": {n: {m: sorted(w.seeds(m)) for m in _methods(w.rows)} for n, w in worlds.items()},
            "sensitivity": {n: s.sensitivity.model_dump() for n, s in summaries.items() if s.sensitivity is not None},
            "claims": [one.model_dump() for one in judged],
            "bounds": [one.model_dump() for one in others],
        },
    )
    where = "at the largest KL that both runs reach"
    if study.window is not None:
        where = f"on average over {study.window[0]:g} to {study.window[1]:g} nats of KL"
    claims = [
        (c.name, _interval(j.difference, j.ci_low, j.ci_high), f"{c.min_effect:g}", j.failed,
         "" if j.detectable is None else f"{j.detectable:.3f}", "" if j.adjusted_p is None else f"{j.adjusted_p:.3f}",
         j.verdict, c.predicted)
        for c, j in zip(study.claims, judged, strict=True)
    ]  # fmt: skip
    columns = (
        "claim",
        "difference (95 % interval)",
        "m",
        "failed",
        "found in 80 %",
        "p of the verdict",
        "verdict",
        "predicted",
    )
    largest = max(others, key=lambda one: one.upper, default=None)
    planned = sum(len(world.exploratory) for world in study.worlds.values())
    parts = [
        f"# {study.question}",
        "## Can this study see an effect?",
        *([blind] if blind else []),
        *(control.sentence for control in planted),
        *gates,
        "## The answer",
        _answer(study, judged),
        "![Controls and claims, and reward against KL](figures/study.svg)",
        _table(columns, claims),
        f"Differences are in {study.metric}, {where}; {_words(study, names)}. Verdicts are corrected over the "
        f"{len(study.claims)} claims and charged for {len(study.looks)} looks ({', '.join(map(str, study.looks))} seeds); the "
        "intervals are plain 95 % ones, so an interval may exclude zero where the verdict is still undecided. Found in 80 %: the "
        "true difference that a claim's own spread would show with chance .8. The reports in the folders of the worlds judge "
        "their matrix alone; the verdicts are those of this page.",
        *([] if largest is None or blind else [
            f"**Other rules**, without a claim ({len(others)} of {planned} planned were run): none is better than the fixed "
            f"beta of its world by more than {max(largest.upper, 0.0):.3f}, with 95 % confidence over all that were planned "
            f"({largest.method}, {largest.seeds} seeds).",
        ]),
        "What DPO gained, what beta did and what it went along with, and what was run: [details](details.md).",
        "## What it does not say",
        "\n".join(f"- {text}" for text in study.limits),
        "## How to repeat it",
        "\n".join(["```bash", *study.repeat, "```"]),
        study.machine,
    ]  # fmt: skip
    write_bytes(folder / "README.md", ("\n\n".join(parts) + "\n").encode())
    write_bytes(folder / "details.md", _details(study, worlds, summaries, others).encode())


def _failed(summary: Summary) -> set[tuple[str, int]]:
    return {(run.method, run.seed) for run in summary.runs if run.state == "failed" and run.seed is not None}


def _methods(rows: pd.DataFrame) -> list[str]:
    return [name for name in dict.fromkeys(rows["method"]) if name != REFERENCE_ID]


def _words(study: Study, names: Sequence[str]) -> str:
    return "; ".join(study.worlds[name].says for name in names)


def _details(
    study: Study, worlds: Mapping[str, WorldScores], summaries: Mapping[str, Summary], others: Sequence[Bound]
) -> str:
    """The tables behind the page."""
    gains = [
        (_short(study, name), row.label, _interval(row.difference, row.ci_low, row.ci_high), row.n_seeds)
        for name, summary in summaries.items()
        for row in summary.over_reference
        if row.n_seeds
    ]
    ends = [row for name, world in worlds.items() for row in _ends(study, name, world)]
    betas = [(_short(study, name), *row) for name, summary in summaries.items() for row in _betas(summary)]
    ran = [(_short(study, name), *_ran(summary)) for name, summary in summaries.items()]
    figures = [f"![{name}]({world}/figures/{name}.svg)" for world in summaries for name in FIGURES]
    parts = [
        f"# {study.question} The details",
        f"{_words(study, list(summaries))}.",
        "## What DPO gained: reward at the end of training, whatever the KL",
        _table(("world", "method", "reward over the reference (95 % interval)", "seeds"), gains),
        "## Other outcomes at the end of training, means over seeds and prompts",
        _table(("world", "method", "reward", "KL (nats)", *ENDS.values(), "reward of greedy answers"), ends),
        "## Rules without a claim, against the fixed beta of their world at equal KL",
        _table(("world", "rule", "difference (95 % interval)", "seeds"),
               [(_short(study, b.world), b.method, _interval(b.difference, b.low, b.high), b.seeds) for b in others]),
        "## What beta did",
        _table(("world", "method", "mean beta", "SD of log beta", *(f"with {name}" for name in LINKS.values())), betas),
        LINKED,
        *figures,
        "## What was run",
        _table(("world", "runs", "failed", "minutes to train a run (median)", "hours of all runs, one after another"), ran),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"
