"""Win rates by model and pairs of models, from the verdicts of one judge."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from scipy import special

from reports.compare.length_metric import length_controlled_items
from reports.judgments.judgment import Judgment
from reports.schema.base import Estimate
from reports.schema.judges import WinRate
from reports.schema.judgments import ModelPair, ModelRate, Separability
from reports.statistics import results
from reports.statistics.intervals import difference_interval, mean_interval
from reports.statistics.winrate import win_rate

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
        found.append(
            ModelRate(model=model, win_rate=WinRate.from_result(rate), length_controlled=controlled.get(model))
        )
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
    return {model: Estimate.from_result(mean_interval(list(own.values()))) for model, own in cells.items()}


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
    opponents: dict[str, set[str]] = defaultdict(set)
    for model, opponent in known:
        opponents[model].add(opponent)
    means = {key: {prompt: float(np.mean(v)) for prompt, v in rows.items()} for key, rows in known.items()}
    found = []
    for a, b in combinations(models, 2):
        direct, shared = means.get((a, b)), sorted(opponents[a] & opponents[b])
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
        found.append(ModelPair(first=a, second=b, difference=Estimate.from_result(estimate), p_value=p, how=how))
    return found


def _p(found: results.Estimate, degrees: int) -> float | None:
    if found.estimate is None or not found.stderr:
        return None
    return float(2 * special.stdtr(degrees, -abs(found.estimate) / found.stderr))


def separability(models: Sequence[ModelRate]) -> Separability:
    """How many pairs of models have intervals of the win rate that do not overlap (Arena-Hard, 2406.11939)."""
    ends = [
        (m.win_rate.low, m.win_rate.high) for m in models if m.win_rate.low is not None and m.win_rate.high is not None
    ]
    every = list(combinations(ends, 2))
    apart = sum(a[0] > b[1] or b[0] > a[1] for a, b in every)
    reason = None if every else "fewer than two models with an interval"
    return Separability(value=apart / len(every) if every else None, separated=apart, pairs=len(every), reason=reason)
