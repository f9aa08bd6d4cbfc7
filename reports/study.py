"""A study of several matrices: collects what its claims rest on, and writes the page that answers its question.

`study.yaml` in the study's folder names the worlds (a folder each, beside it) and the claims: weighted sums of paired
differences, each of a method to another in one world. `python -m reports.study collect OUTPUT FOLDER/WORLD` copies a
finished output without its weights; `python -m reports.study page FOLDER` writes README.md, study.json and the figure.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import yaml
from matplotlib.axes import Axes
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from scipy import special

from reports.panels.base import HUES, QUIET, ZERO, Look, label_rows, looks, mark, save, style
from reports.runs.checkpoints import snapshots
from reports.runs.records import REFERENCE_ID, MatrixData, ReportError, Scores, finite, load_matrix, read_json
from reports.schema import Summary, read_summary
from reports.schema.base import Cell
from reports.schema.verdict import PlantedControl
from reports.statistics.crossed import crossed_mean
from reports.statistics.family import Claimed, judge_family
from reports.statistics.frontier import Frontier, matched
from reports.statistics.intervals import group_columns
from reports.statistics.multiplicity import ALPHA
from reports.statistics.multiplicity import Look as Planned
from trainers.common.files import write_bytes, write_json

Floats = NDArray[np.float64]
#: Files of an output that a study keeps, beside the scores of every answer.
KEPT = ("matrix.yaml", "claims.json", "report.html", "summary.json", "training_metrics.csv", "plan.txt")
#: Figures that it keeps: what beta did.
FIGURES = ("result", "beta_perplexity", "beta_loss", "beta_associations", "beta_fan")
SCORES = "scores.csv.gz"


class _Told(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Term(_Told):
    """One paired difference of a claim: `method` less `against` in one world, times `weight`."""

    world: str
    method: str
    against: str
    weight: float = 1.0


class StudyClaim(_Told):
    """`says` in words what a positive value means; `predicted`: the verdict that was expected beforehand."""

    name: str
    says: str
    terms: list[Term] = Field(min_length=1)
    min_effect: float = Field(ge=0)
    predicted: str


class World(_Told):
    """One matrix of the study; `says` what is special about its data. `control`: whether it has the instrument."""

    says: str
    baseline: str
    exploratory: list[str] = []


class Study(_Told):
    """study.yaml: the question, its worlds and claims, the window of KL (nats), and what the answer does not say."""

    question: str
    metric: str
    cost: str
    window: tuple[float, float]
    looks: list[int]
    worlds: dict[str, World]
    claims: list[StudyClaim]
    limits: list[str]
    repeat: list[str]
    machine: str


# --- collecting an output


def collect(output: Path, folder: Path) -> None:
    """Copy what a world's claims rest on: configuration, plan, report, figures, and the scores of every answer.

    Raises:
        ReportError: the output has no report, or no run was scored.
    """
    if not (output / "summary.json").is_file():
        raise ReportError(f"{output}: no summary.json; run `python -m harness report {output}` first")
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for source in (*(output / name for name in KEPT), *(output / "figures" / f"{name}.svg" for name in FIGURES)):
        if source.is_file():
            shutil.copyfile(source, folder / source.relative_to(output))
    stated = read_json(output / "matrix.json")
    rows = score_rows(load_matrix(output, stated["runs"], stated["config"]))
    rows.to_csv(folder / SCORES, index=False, float_format="%.6g", compression={"method": "gzip", "mtime": 0})


def score_rows(matrix: MatrixData) -> pd.DataFrame:
    """One row an answer: method, seed, step (reference: 0), benchmark, id and group of the prompt, and every metric."""
    points: list[tuple[str, int | None, int | None, Mapping[str, Scores]]] = []
    if matrix.reference:
        points.append((REFERENCE_ID, None, 0, matrix.reference.scores))
    done = [run for run in matrix.runs if run.state == "done"]
    points += [(run.method, run.seed, one.step, one.scores) for run in done for one in snapshots(run)]
    rows = []
    for method, seed, step, scores in points:
        for table in scores.values():
            about = {"method": method, "seed": seed, "step": step, "benchmark": table.benchmark}
            rows += [{**about, "id": i.id, "group": i.group or i.id, **i.values} for i in table.items]
    if not rows:
        raise ReportError(f"{matrix.output_dir}: no run was scored")
    return pd.DataFrame(rows).astype({"seed": "Int64", "step": "Int64"})


# --- judging its claims


def frontier(scores: pd.DataFrame, method: str, seed: int, metric: str, cost: str) -> Frontier:
    """One run from its answers: rewards (points, groups of prompts) and KL in nats, the reference first, at KL 0."""
    own = scores[(scores["method"] == method) & (scores["seed"] == seed)]
    start = scores[scores["method"] == REFERENCE_ID].assign(**{cost: 0.0})
    points = [start, *(rows for _, rows in own.groupby("step"))]
    ids = points[-1]["id"].tolist()
    tables = [rows.set_index("id").loc[ids] for rows in points]
    groups = tables[0]["group"].tolist()
    reward, kl = (group_columns([t[column] for t in tables], groups) for column in (metric, cost))
    return Frontier(reward, kl, root=True)


def cells(scores: pd.DataFrame, first: str, second: str, study: Study) -> tuple[list[int], Floats]:
    """Shared seeds, and first - second by (seed, group of prompts) over the study's window of KL.

    Raises:
        ReportError: a pair of runs shares no KL within the window.
    """
    benchmark, metric = study.metric.split("/")
    rows = scores[scores["benchmark"] == benchmark]
    seeds = [set(rows.loc[rows["method"] == name, "seed"].dropna()) for name in (first, second)]
    shared = sorted(int(seed) for seed in seeds[0] & seeds[1])
    found = []
    for seed in shared:
        mine, theirs = (frontier(rows, name, seed, metric, study.cost) for name in (first, second))
        one = matched(mine, theirs, study.window)
        if one is None:
            raise ReportError(f"{first} and {second}, seed {seed}: no KL within {study.window} is reached by both")
        found.append(one.over_range)
    return shared, np.array(found)


class Judged(BaseModel):
    """A claim with what was found: the difference in the metric's unit with its 95 % interval, and the verdict.

    Null where a world that it needs has not been run.
    """

    name: str
    difference: float | None = None
    standard_error: float | None = None
    degrees: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    seeds: int = 0
    prompts: int = 0
    seed_differences: list[float] = []
    adjusted_p: float | None = Field(
        default=None, description="Of the verdict: Holm over the claims, charged for every look."
    )
    verdict: str = "not run"


def _sum(claim: StudyClaim, scores: dict[str, pd.DataFrame], study: Study) -> Floats | None:
    """The claim's weighted sum of differences, shape (seeds, groups of prompts), over the seeds that all terms have."""
    if not all(term.world in scores for term in claim.terms):
        return None
    terms = [(term.weight, *cells(scores[term.world], term.method, term.against, study)) for term in claim.terms]
    shared = sorted(set.intersection(*(set(seeds) for _, seeds, _ in terms)))
    if not shared:
        return None
    return np.asarray(sum(w * values[[seeds.index(s) for s in shared]] for w, seeds, values in terms))


def judge(study: Study, scores: dict[str, pd.DataFrame]) -> list[Judged]:
    """The verdict on each claim of the study, corrected over all of them; a claim that was not run keeps its place.

    Raises:
        ReportError: see `cells`.
    """
    sums = [_sum(claim, scores, study) for claim in study.claims]
    means = [None if values is None else crossed_mean(values) for values in sums]
    seeds = min((mean.seeds for mean in means if mean is not None), default=0)
    look = Planned(seeds, tuple(study.looks)) if seeds in study.looks else None
    family = [Claimed(c.name, (mean,), c.min_effect) for c, mean in zip(study.claims, means, strict=True)]
    judged = []
    for claim, values, mean, ruling in zip(study.claims, sums, means, judge_family(family, look=look), strict=True):
        if values is None or mean is None:
            judged.append(Judged(name=claim.name))
            continue
        shown, word = mean.interval(), ruling.word
        p = min(ruling.p["better"], ruling.p["worse"]) if word == "undecided" else ruling.p[word]
        judged.append(
            Judged(
                name=claim.name,
                difference=finite(mean.value),
                standard_error=finite(mean.stderr),
                degrees=finite(mean.degrees),
                ci_low=shown.low,
                ci_high=shown.high,
                seeds=mean.seeds,
                prompts=mean.prompts,
                seed_differences=[float(v) for v in values.mean(axis=1)],
                adjusted_p=float(p) if ruling.testable else None,
                verdict=word,
            )
        )
    return judged


class Bound(BaseModel):
    """An exploratory rule against the baseline of its world; `upper`: end of the simultaneous one-sided 95 % bound."""

    world: str
    method: str
    seeds: int
    difference: float
    low: float | None
    high: float | None
    upper: float


def bounds(study: Study, scores: dict[str, pd.DataFrame]) -> list[Bound]:
    """Every exploratory rule that was run, with upper bounds that hold together (Bonferroni over all that were planned)."""
    asked = [(world, method) for world, about in study.worlds.items() for method in about.exploratory]
    rows = []
    for world, method in asked:
        if world not in scores or method not in set(scores[world]["method"]):
            continue
        seeds, values = cells(scores[world], method, study.worlds[world].baseline, study)
        mean, shown = crossed_mean(values), crossed_mean(values).interval()
        if not np.isnan(mean.stderr):
            upper = mean.value + float(special.stdtrit(mean.degrees, 1 - ALPHA / len(asked))) * mean.stderr
            rows.append(Bound(world=world, method=method, seeds=len(seeds), difference=mean.value, low=shown.low,
                              high=shown.high, upper=upper))  # fmt: skip
    return rows


# --- the page


def _interval(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "not run"
    return f"{value:+.3f}" if low is None or high is None else f"{value:+.3f} ({low:+.3f} to {high:+.3f})"


def _number(cell: Cell, digits: int) -> str:
    return "" if cell.value is None else f"{cell.value:.{digits}f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = (head, ["---"] * len(head), *rows)
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


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


def read_study(folder: Path) -> Study:
    """study.yaml of a study's folder.

    Raises:
        ReportError: it is missing, or a key or value is wrong.
    """
    path = folder / "study.yaml"
    try:
        return Study.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise ReportError(f"{path}: {error}") from error


def page(folder: Path) -> None:
    """Write README.md, study.json and the figure from the worlds that were collected.

    Raises:
        ReportError: study.yaml is missing or malformed, or see `cells`.
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
    gains = [
        (study.worlds[name].says, row.label, _interval(row.difference, row.ci_low, row.ci_high), row.n_seeds)
        for name, summary in summaries.items()
        for row in summary.over_reference
        if row.n_seeds
    ]
    profiles = [
        (study.worlds[name].says, p.label, _number(p.mean_beta, 3), _number(p.spread, 2), _number(p.with_log_perplexity, 2),
         _number(p.with_delta, 2))
        for name, summary in summaries.items()
        if summary.beta is not None
        for p in summary.beta.matrix.profiles
        if p.runs and p.mean_beta.value is not None
    ]  # fmt: skip
    _draw(study, scores, controls, judged, folder / "figures")
    write_json(
        folder / "study.json", {"claims": [j.model_dump() for j in judged], "bounds": [b.model_dump() for b in others]}
    )
    largest = max(others, key=lambda one: one.upper, default=None)
    parts = [
        f"# {study.question}",
        _answer(study, judged, seen),
        "![Controls and claims, and reward against KL](figures/study.svg)",
        "## Can this study see an effect?",
        *(control.sentence for control in controls),
        "## The claims",
        _table(("claim", "above zero means", "difference (95 % interval)", "m", "adjusted p", "verdict", "predicted"), claims),
        f"Differences are in {study.metric}, on average over {study.window[0]:g} to {study.window[1]:g} nats of KL.",
        *([] if largest is None else [
            "## Every other rule",
            f"No claim was made about them. None is better than the fixed beta of its world by more than "
            f"{max(largest.upper, 0.0):.3f}, with 95 % confidence over all of them ({largest.method}, {largest.seeds} seeds).",
            _table(("world", "rule", "difference (95 % interval)", "seeds"),
                   [(study.worlds[b.world].says, b.method, _interval(b.difference, b.low, b.high), b.seeds) for b in others]),
        ]),
        "## What DPO gained, and what beta did",
        _table(("world", "method", "reward over the reference (95 % interval)", "seeds"), gains),
        _table(("world", "method", "mean beta", "SD of log beta", "with log perplexity", "with delta"), profiles),
        "## What it does not say",
        "\n".join(f"- {text}" for text in study.limits),
        "## How to repeat it",
        "\n".join(["```bash", *study.repeat, "```"]),
        study.machine,
    ]  # fmt: skip
    write_bytes(folder / "README.md", ("\n\n".join(parts) + "\n").encode())


def main(arguments: Sequence[str]) -> int:
    """`collect OUTPUT FOLDER` or `page FOLDER`; 2 for bad input."""
    try:
        match list(arguments):
            case ["collect", output, folder]:
                collect(Path(output), Path(folder))
            case ["page", folder]:
                page(Path(folder))
            case _:
                raise ReportError("usage: python -m reports.study collect OUTPUT FOLDER/WORLD | page FOLDER")
    except ReportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
