"""All that `judgments` says of a set of verdicts: tables by judge, pairs of models, agreement of judges and people."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import special

from reports.compare.judges import length_controlled_items
from reports.compare.winrates import judge_agreement
from reports.judgments.formats import read_judgments
from reports.judgments.judgment import Judgment, Style
from reports.runs.records import ReportError
from reports.schema.base import Estimate
from reports.schema.judges import (
    AgainstPeople,
    Agreement,
    JudgeTable,
    Judgments,
    ModelPair,
    ModelRate,
    Separability,
    Strengths,
)
from reports.statistics.intervals import difference_interval, mean_interval
from reports.statistics.preferences import bradley_terry
from reports.statistics.winrate import classification, cohen_kappa, krippendorff_alpha, position_effect, win_rate
from trainers.common.words import nearest

# Win rates by model and pairs of models, from the verdicts of one judge.


#: By (model, opponent), and prompt: the model's preferences, with the group of the prompt.
Met = Mapping[tuple[str, str], Mapping[str, list[float]]]


def cluster(one: Judgment) -> str:
    """What is not independent of it: its prompt, or the group of that."""
    return one.group or one.prompt_id


def baseline_of(judgments: Sequence[Judgment]) -> str | None:
    """The model that stands in every comparison, where there are other models than two."""
    common = set.intersection(*({one.first, one.second} for one in judgments))
    return next(iter(common)) if len(common) == 1 else None


def rates(judgments: Sequence[Judgment], baseline: str | None) -> list[ModelRate]:
    """Every model but the baseline, best first."""
    own: dict[str, list[tuple[Judgment, float]]] = defaultdict(list)
    for one in judgments:
        value = np.nan if one.preference is None else one.preference
        own[one.first].append((one, value))
        own[one.second].append((one, 1 - value))
    controlled = _length_controlled(judgments, baseline)
    found = []
    for model in sorted(own.keys() - {baseline}):
        mine = own[model]
        rate = win_rate([value for _, value in mine], [cluster(one) for one, _ in mine])
        found.append(ModelRate(model=model, win_rate=rate, length_controlled=controlled.get(model)))
    return sorted(found, key=lambda one: -(one.win_rate.value or 0.0))


def _length_controlled(judgments: Sequence[Judgment], baseline: str | None) -> dict[str, Estimate]:
    """By model; nothing where a length is unknown, there is no baseline, or too few models tell how hard a prompt is."""
    if baseline is None or any(one.style_first is None or one.style_second is None for one in judgments):
        return {}
    rows = [
        {
            "first": one.first,
            "second": one.second,
            "prompt_id": one.prompt_id,
            "preference": one.preference,
            "length_first": one.style_first[0] if one.style_first else None,
            "length_second": one.style_second[0] if one.style_second else None,
        }
        for one in judgments
    ]
    cells = length_controlled_items(rows, baseline)
    return {model: mean_interval(list(own.values())) for model, own in cells.items()}


def met(judgments: Sequence[Judgment]) -> Met:
    """The preferences of every model against every opponent, by prompt."""
    found: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in judgments:
        if one.preference is not None:
            found[one.first, one.second][one.prompt_id].append(one.preference)
            found[one.second, one.first][one.prompt_id].append(1 - one.preference)
    return found


def pairs(judgments: Sequence[Judgment], models: Sequence[str]) -> list[ModelPair]:
    """Every two of the models, paired by prompt: from their own comparisons, else from those with the same opponents."""
    known, groups = met(judgments), {one.prompt_id: cluster(one) for one in judgments}
    means = {key: {prompt: float(np.mean(v)) for prompt, v in rows.items()} for key, rows in known.items()}
    found = []
    for a, b in combinations(models, 2):
        direct, shared = means.get((a, b)), sorted({o for m, o in known if m == a} & {o for m, o in known if m == b})
        gaps: dict[tuple[str, str], float] = {}
        if direct is not None:
            how, gaps = "with each other", {("", prompt): 2 * p - 1 for prompt, p in direct.items()}
        else:
            how = f"against {', '.join(shared)}" if shared else "no common opponent"
            for opponent in shared:
                mine, theirs = means[a, opponent], means[b, opponent]
                gaps |= {(opponent, prompt): mine[prompt] - theirs[prompt] for prompt in mine.keys() & theirs.keys()}
        keys = sorted(gaps)
        values = np.array([gaps[key] for key in keys])
        estimate = difference_interval(values, [groups[prompt] for _, prompt in keys])
        degrees = len({groups[prompt] for _, prompt in keys}) - 1
        p = _p(estimate, degrees)
        found.append(ModelPair(first=a, second=b, difference=estimate, p_value=p, how=how))
    return found


def _p(found: Estimate, degrees: int) -> float | None:
    if found.value is None or not found.stderr:
        return None
    return float(2 * special.stdtr(degrees, -abs(found.value) / found.stderr))


def separability(models: Sequence[ModelRate]) -> Separability:
    """How many pairs of models have intervals of the win rate that do not overlap (Arena-Hard, 2406.11939)."""
    ends = [
        (m.win_rate.low, m.win_rate.high) for m in models if m.win_rate.low is not None and m.win_rate.high is not None
    ]
    every = list(combinations(ends, 2))
    apart = sum(a[0] > b[1] or b[0] > a[1] for a, b in every)
    reason = None if every else "fewer than two models with an interval"
    return Separability(value=apart / len(every) if every else None, separated=apart, pairs=len(every), reason=reason)


# Everything that `judgments` says of a set of verdicts: each judge's tables, and the agreement of judges and people.


#: First model, second model (in alphabetical order) and prompt.
Compared = tuple[str, str, str]


def judgments_summary(paths: Sequence[Path], baseline: str | None = None) -> Judgments:
    """Read the files and sum them up.

    Args:
        baseline: model that the others are compared with; None finds the one that stands in every comparison.

    Raises:
        ReportError: a file that cannot be read, or a baseline that is in none.
    """
    name, found = read_judgments(paths)
    models = sorted({model for one in found for model in (one.first, one.second)})
    if baseline is not None and baseline not in models:
        raise ReportError(f"--baseline {baseline}: no such model; {nearest(baseline, models, ', '.join(models[:12]))}")
    by_judge: dict[str, list[Judgment]] = defaultdict(list)
    for one in found:
        by_judge[one.judge].append(one)
    said = {judge: _verdicts(rows) for judge, rows in by_judge.items()}
    people = [judge for judge, rows in by_judge.items() if rows[0].human]
    return Judgments(
        schema_version=1,
        format=name,
        files=[str(path) for path in paths],
        judges=[_table(judge, rows, baseline, said, people) for judge, rows in by_judge.items()],
        agreement=[_agreement(a, b, said) for a, b in combinations(by_judge, 2)],
        alpha=_alpha(said, list(by_judge)),
        alpha_people=_alpha(said, people),
    )


def _table(
    judge: str,
    rows: Sequence[Judgment],
    asked: str | None,
    said: Mapping[str, Mapping[Compared, float | None]],
    people: Sequence[str],
) -> JudgeTable:
    if asked is not None:
        rows = [one for one in rows if asked in (one.first, one.second)]
    baseline = asked or (baseline_of(rows) if rows else None)
    models = rates(rows, baseline)
    forward, backward = (
        np.array([getattr(one, side) for one in rows], dtype=float) for side in ("forward", "backward")
    )
    return JudgeTable(
        judge=judge,
        human=judge in people,
        comparisons=len(rows),
        prompts=len({one.prompt_id for one in rows}),
        baseline=baseline,
        models=models,
        pairs=pairs(rows, [one.model for one in models]),
        separability=separability(models),
        strengths=_strengths(rows, baseline or models[-1].model),
        position=position_effect(forward, backward),
        against_people=None if judge in people else _against_people(rows, said[judge], [said[name] for name in people]),
    )


def _features(rows: Sequence[Judgment]) -> dict[str, NDArray[np.float64]]:
    """(a - b) / (a + b) of each feature of style, 0 where neither answer has any; nothing where a style is unknown."""
    if any(one.style_first is None or one.style_second is None for one in rows):
        return {}
    a, b = (np.array([getattr(one, side) for one in rows], dtype=float) for side in ("style_first", "style_second"))
    shares = np.divide(a - b, a + b, out=np.zeros_like(a), where=a + b > 0)
    return dict(zip(Style._fields, shares.T, strict=True))


def _strengths(rows: Sequence[Judgment], anchor: str) -> Strengths:
    columns = (
        [one.first for one in rows],
        [one.second for one in rows],
        [np.nan if one.preference is None else one.preference for one in rows],
        [cluster(one) for one in rows],
    )
    try:
        plain, features = bradley_terry(*columns, anchor), _features(rows)
        styled = bradley_terry(*columns, anchor, features) if features else None
    except ValueError as error:
        return Strengths(anchor=None, plain={}, style_controlled={}, style={}, reason=str(error))
    return Strengths(
        anchor=anchor,
        plain=plain.strengths,
        style_controlled=styled.strengths if styled else {},
        style=styled.weights if styled else {},
        reason=plain.note if styled else "the style of an answer is not known",
    )


def _verdicts(rows: Sequence[Judgment]) -> dict[Compared, float | None]:
    """1, 0 or -1 by comparison, for the alphabetically first model, from the mean over samples; None without a verdict."""
    values: dict[Compared, list[float]] = {}
    for one in rows:
        first, second = sorted((one.first, one.second))
        kept = values.setdefault((first, second, one.prompt_id), [])
        if one.preference is not None:
            kept.append(one.preference if one.first == first else 1 - one.preference)
    return {key: float(np.sign(np.mean(kept) - 0.5)) if kept else None for key, kept in values.items()}


def _agreement(a: str, b: str, said: Mapping[str, Mapping[Compared, float | None]]) -> Agreement:
    names = ("first", "second", "prompt_id", "sample", "preference")
    one, two = (
        [dict(zip(names, (*key, 0, None if v is None else (v + 1) / 2), strict=True)) for key, v in said[judge].items()]
        for judge in (a, b)
    )
    return judge_agreement(a, b, one, two)


def _alpha(said: Mapping[str, Mapping[Compared, float | None]], judges: Sequence[str]) -> Estimate:
    keys = sorted({key for judge in judges for key in said[judge]})
    table = np.array([[said[judge].get(key) for judge in judges] for key in keys], dtype=float)
    return krippendorff_alpha(table.reshape(len(keys), len(judges)))


def _against_people(
    rows: Sequence[Judgment], mine: Mapping[Compared, float | None], people: Sequence[Mapping[Compared, float | None]]
) -> AgainstPeople | None:
    """None where no person judged a comparison that the judge judged."""
    truth: dict[Compared, float] = {}
    for key in mine:
        labels = Counter(label for person in people if (label := person.get(key)) is not None)
        for label, count in labels.items():
            if 2 * count > labels.total():
                truth[key] = label
    if not truth:
        return None
    given = [mine[key] or 0.0 for key in truth]
    found, kappa = classification(list(truth.values()), given), cohen_kappa(list(truth.values()), given)
    orders = []
    for one in rows:
        first, second = sorted((one.first, one.second))
        gold = truth.get((first, second, one.prompt_id))
        if gold is not None and one.forward is not None and one.backward is not None:
            turn = 1 if one.first == first else -1
            orders += [turn * np.sign(v - 0.5) == gold for v in (one.forward, one.backward)]
    return AgainstPeople(
        n=len(truth),
        no_verdict=sum(mine[key] is None for key in truth),
        **found._asdict(),
        each_order=float(np.mean(orders)) if orders else None,
        kappa=kappa,
    )
