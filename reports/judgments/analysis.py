"""Everything that `judgments` says of a set of verdicts: each judge's tables, and the agreement of judges and people."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reports.compare.winrates import judge_agreement
from reports.judgments.formats import read_judgments
from reports.judgments.judgment import Judgment, Style
from reports.judgments.pairs import baseline_of, cluster, pairs, rates, separability
from reports.runs.records import ReportError
from reports.schema.base import Estimate
from reports.schema.judges import Agreement, Position
from reports.schema.judgments import AgainstPeople, JudgeTable, Judgments, Strengths
from reports.statistics.bradley_terry import styled_strengths
from reports.statistics.winrate import classification, cohen_kappa, krippendorff_alpha, majority, position_effect
from trainers.common.words import nearest

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
    shown = not (np.isnan(forward).all() and np.isnan(backward).all())
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
        position=Position.from_result(position_effect(forward, backward)) if shown else None,
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
        plain, features = styled_strengths(*columns, anchor), _features(rows)
        styled = styled_strengths(*columns, anchor, features) if features else None
    except ValueError as error:
        return Strengths(anchor=None, plain={}, style_controlled={}, style={}, reason=str(error))

    def records(found: Mapping[str, object]) -> dict[str, Estimate]:
        return {name: Estimate.from_result(one) for name, one in found.items()}  # type: ignore[arg-type]

    return Strengths(
        anchor=anchor,
        plain=records(plain.strengths),
        style_controlled=records(styled.strengths) if styled else {},
        style=records(styled.weights) if styled else {},
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
    return Estimate.from_result(krippendorff_alpha(table.reshape(len(keys), len(judges))))


def _against_people(
    rows: Sequence[Judgment], mine: Mapping[Compared, float | None], people: Sequence[Mapping[Compared, float | None]]
) -> AgainstPeople | None:
    """None where no person judged a comparison that the judge judged."""
    truth: dict[Compared, float] = {}
    for key in mine:
        labels = [label for person in people if (label := person.get(key)) is not None]
        if labels:
            middle, agreed = majority([labels])
            if agreed[0]:
                truth[key] = float(middle[0])
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
        n=found.n,
        no_verdict=sum(mine[key] is None for key in truth),
        accuracy=found.accuracy,
        precision=found.precision,
        recall=found.recall,
        f1=found.f1,
        each_order=float(np.mean(orders)) if orders else None,
        kappa=Estimate.from_result(kappa),
    )
