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
from reports.schema.verdict import PlantedControl, Sensitivity
from reports.study.claims import Judged, Study, WorldScores, bounds, judge, read_study
from reports.study.collect import SCORES
from reports.study.details import details, interval, methods, short, table_of, words
from trainers.common.files import write_bytes, write_json


def _answer(study: Study, judged: Sequence[Judged]) -> str:
    """Each claim's question and its verdict."""
    told = [
        f"{claim.name}: {claim.says} **{one.verdict.capitalize()}**"
        + (f", {interval(one.difference, one.ci_low, one.ci_high)}, {one.seeds} seeds." if one.seeds else ".")
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
                    f"{row.label} over the reference in {short(study, name)}, at the end of training: "
                    f"{interval(row.difference, row.ci_low, row.ci_high)}; at least {study.expected_gain:g} was expected"
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


def _curves(axes: Axes, study: Study, found: WorldScores, world: str) -> None:
    """Mean reward over seeds against sqrt(KL), from the reference through the checkpoints of each method."""
    benchmark, metric = study.metric.split("/")
    rows = found.rows[found.rows["benchmark"] == benchmark].assign(**{study.cost: lambda t: t[study.cost].fillna(0.0)})
    means = rows.groupby(["method", "step"], sort=False)[[metric, study.cost]].mean()
    shown = methods(rows)
    seeds = {name: len(found.seeds(name)) for name in shown}
    start = rows.loc[rows["method"] == REFERENCE_ID, metric].mean()
    for name, look in looks(shown, study.worlds[world].baseline).items():
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
        # three panels a line: a page shrinks a wider figure until nobody can read it
        columns, lines = min(3, 1 + len(worlds)), -(-(1 + len(worlds)) // 3)
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
            "seeds": {n: {m: sorted(w.seeds(m)) for m in methods(w.rows)} for n, w in worlds.items()},
            "sensitivity": {n: s.sensitivity.model_dump() for n, s in summaries.items() if s.sensitivity is not None},
            "claims": [one.model_dump() for one in judged],
            "bounds": [one.model_dump() for one in others],
        },
    )
    where = "at the largest KL that both runs reach"
    if study.window is not None:
        where = f"on average over {study.window[0]:g} to {study.window[1]:g} nats of KL"
    claims = [
        (c.name, interval(j.difference, j.ci_low, j.ci_high), f"{c.min_effect:g}", j.failed,
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
        table_of(columns, claims),
        f"Differences are in {study.metric}, {where}; {words(study, names)}. Verdicts are corrected over the "
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
    write_bytes(folder / "details.md", details(study, worlds, summaries, others).encode())


def _failed(summary: Summary) -> set[tuple[str, int]]:
    return {(run.method, run.seed) for run in summary.runs if run.state == "failed" and run.seed is not None}
