"""The page of a study: README.md, study.json and the figure, from the worlds that were collected."""

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
from reports.schema.verdict import PlantedControl
from reports.study.claims import Judged, Study, bounds, judge, read_study
from reports.study.collect import SCORES
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
    "runs is to be had, and its interval is too narrow. The loss itself contains beta; so it is taken at the fixed one."
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
                row.append(f"{_interval(found.within.value, found.within.low, found.within.high, 2)} (b)")
        rows.append(tuple(row))
    return rows


def _ran(summary: Summary) -> tuple[str, ...]:
    """How many runs finished and failed, and what they took."""
    seconds = summary.provenance.seconds
    train = [stages["train"] for stages in seconds.values() if stages.get("train")]
    total = sum(value for stages in seconds.values() for value in stages.values() if value)
    done, failed = summary.counts.done, summary.counts.failed
    return str(done), str(failed), f"{np.median(train) / 60:.1f}" if train else "", f"{total / 3600:.1f}"


def _controls(summaries: Mapping[str, Summary]) -> list[PlantedControl]:
    found = [s.sensitivity for s in summaries.values() if s.sensitivity is not None]
    return [one for s in found for one in (s.positive, s.weak, s.negative) if one is not None]


def _answer(study: Study, judged: Sequence[Judged], seen: bool) -> str:
    """The first lines: each claim in a sentence, after whether anything can be seen at all."""
    first = "The instrument detected the effect that was planted." if seen else (
        "**No control has shown yet that an effect would be seen: nothing below may be read as the absence of one.**"
    )  # fmt: skip
    told = [
        f"{claim.name}, {claim.says}: **{one.verdict}**"
        + (f", {_interval(one.difference, one.ci_low, one.ci_high)}, {one.seeds} seeds." if one.seeds else ".")
        for claim, one in zip(study.claims, judged, strict=True)
    ]
    return "\n".join([first, "", *(f"- {text}" for text in told)])


def _curves(axes: Axes, study: Study, scores: pd.DataFrame, world: str) -> None:
    """Mean reward over seeds against sqrt(KL), from the reference through the checkpoints of each method."""
    benchmark, metric = study.metric.split("/")
    rows = scores[scores["benchmark"] == benchmark].assign(**{study.cost: lambda t: t[study.cost].fillna(0.0)})
    means = rows.groupby(["method", "step"], sort=False)[[metric, study.cost]].mean()
    methods = [name for name in dict.fromkeys(rows["method"]) if name != REFERENCE_ID]
    start = rows.loc[rows["method"] == REFERENCE_ID, metric].mean()
    for name, look in looks(methods, study.worlds[world].baseline).items():
        own = means.xs(name)
        x = np.sqrt([0.0, *own[study.cost].clip(lower=0.0)])
        axes.plot(x, [start, *own[metric]], color=look.color, linestyle=look.dash, marker=look.marker,
                  markersize=4, label=name)  # fmt: skip
    if study.window is not None:
        axes.axvspan(*np.sqrt(study.window), color="#dfe3e8", linewidth=0, zorder=0)
    axes.set(title=study.worlds[world].says, xlabel="square root of KL to the reference (nats)")
    axes.legend(frameon=False, fontsize=7)


def _draw(
    study: Study,
    scores: Mapping[str, pd.DataFrame],
    controls: Sequence[PlantedControl],
    judged: Sequence[Judged],
    folder: Path,
) -> None:
    """The controls and claims with their intervals; and, for each world, reward against KL."""
    instrument = [(f"{one.role} control", one.difference, one.ci_low, one.ci_high) for one in controls]
    rows = [*instrument, *((one.name, one.difference, one.ci_low, one.ci_high) for one in judged)]
    with style():
        figure, grid = plt.subplots(1, 1 + len(scores), figsize=(4.2 + 3.1 * len(scores), 3.4), layout="constrained")
        axes, *others = np.atleast_1d(grid)
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
        for place, (world, table) in enumerate(scores.items()):
            _curves(others[place], study, table, world)
            others[place].set(ylabel="" if place else "reward")
        save(figure, folder / "study.svg", folder / "study.pdf")


def page(folder: Path) -> None:
    """Write README.md, study.json and the figure from the worlds that were collected.

    Raises:
        ReportError: study.yaml is missing or malformed.
    """
    study = read_study(folder)
    worlds = [name for name in study.worlds if (folder / name / SCORES).is_file()]
    scores = {name: pd.read_csv(folder / name / SCORES) for name in worlds}
    summaries = {name: read_summary(folder / name / "summary.json") for name in worlds}
    judged, others, controls = judge(study, scores), bounds(study, scores), _controls(summaries)
    seen = all(s.sensitivity.nulls_count for s in summaries.values() if s.sensitivity is not None) and bool(controls)
    if not seen:  # an instrument that sees nothing says nothing of what is not there
        judged = [
            one.model_copy(update={"verdict": "undecided"}) if one.verdict == "equivalent" else one for one in judged
        ]
    claims = [
        (c.name, c.says, _interval(j.difference, j.ci_low, j.ci_high), f"{c.min_effect:g}",
         "" if j.adjusted_p is None else f"{j.adjusted_p:.3f}", j.verdict, c.predicted)
        for c, j in zip(study.claims, judged, strict=True)
    ]  # fmt: skip
    short = {name: world.says.partition(":")[0] for name, world in study.worlds.items()}
    gains = [
        (short[name], row.label, _interval(row.difference, row.ci_low, row.ci_high), row.n_seeds)
        for name, summary in summaries.items()
        for row in summary.over_reference
        if row.n_seeds
    ]
    betas = [(short[name], *row) for name, summary in summaries.items() for row in _betas(summary)]
    ran = [(short[name], *_ran(summary)) for name, summary in summaries.items()]
    _draw(study, scores, controls, judged, folder / "figures")
    write_json(
        folder / "study.json", {"claims": [j.model_dump() for j in judged], "bounds": [b.model_dump() for b in others]}
    )
    largest = max(others, key=lambda one: one.upper, default=None)
    where = "at the largest KL that both runs reach"
    if study.window is not None:
        where = f"on average over {study.window[0]:g} to {study.window[1]:g} nats of KL"
    parts = [
        f"# {study.question}",
        _answer(study, judged, seen),
        "![Controls and claims, and reward against KL](figures/study.svg)",
        "## Can this study see an effect?",
        *(control.sentence for control in controls),
        "## The claims",
        _table(("claim", "above zero means", "difference (95 % interval)", "m", "adjusted p", "verdict", "predicted"), claims),
        f"Differences are in {study.metric}, {where}.",
        *([] if largest is None else [
            "## Every other rule",
            f"No claim was made about them. None is better than the fixed beta of its world by more than "
            f"{max(largest.upper, 0.0):.3f}, with 95 % confidence over all of them ({largest.method}, {largest.seeds} seeds).",
            _table(("world", "rule", "difference (95 % interval)", "seeds"),
                   [(study.worlds[b.world].says, b.method, _interval(b.difference, b.low, b.high), b.seeds) for b in others]),
        ]),
        "## What DPO gained, and what beta did",
        "; ".join(study.worlds[name].says for name in worlds) + ".",
        _table(("world", "method", "reward over the reference (95 % interval)", "seeds"), gains),
        _table(("world", "method", "mean beta", "SD of log beta", *(f"with {name}" for name in LINKS.values())), betas),
        LINKED,
        "## What it does not say",
        "\n".join(f"- {text}" for text in study.limits),
        "## How to repeat it",
        "\n".join(["```bash", *study.repeat, "```"]),
        study.machine,
        _table(("world", "runs in claims and beside them", "failed", "minutes to train a run (median)", "hours in all"), ran),
    ]  # fmt: skip
    write_bytes(folder / "README.md", ("\n\n".join(parts) + "\n").encode())
