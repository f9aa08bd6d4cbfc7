"""Over what the intervals of a matrix generalise, and how the spread over seeds splits into data and order.

A run's seed always sets the order of its pairs and the initialisation of what is trained. With `data.resample` it also sets
which pairs it sees; where several seeds share a draw (`data.subsets`), their spread within draws is that of order and
initialisation, and the rest is that of the data (one-way random effects; Searle, Casella and McCulloch 1992).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reports.compare.comparison import column_pairs
from reports.runs.arms import Arm
from reports.runs.records import MatrixData, RunData
from reports.schema.sensitivity import Scope, Share


def _data(run: RunData) -> Mapping[str, Any]:
    return (run.identity or {}).get("data") or {}


def scope(matrix: MatrixData, all_arms: Sequence[Arm], baseline: Arm | None, primary: str | None) -> Scope:
    """The sentence for the report, and the split of each method's difference to the baseline on the primary metric."""
    counted = max((len({_data(r).get("content_hash") for r in arm.runs}) for arm in all_arms), default=0)
    drawn = next((_data(run) for run in matrix.runs if _data(run).get("pool")), None)
    always = "order of the training pairs, initialisation and prompts"
    if drawn is None or counted < 2:
        sentence = (
            f"Intervals generalise over {always}. All seeds train on the same pairs, so they say nothing of other data."
        )
    else:
        sentence = (
            f"Intervals generalise over {always}, and over the pairs: each seed trains on {drawn.get('n_pairs')} of "
            f"{drawn['pool']}, {counted} different draws. They say nothing of other sources of data."
        )
    pairs = [a for a in all_arms if baseline is not None and a is not baseline and not a.is_control]
    shares = [
        found for a in pairs if baseline and primary and (found := _share(a, baseline, matrix, primary)) is not None
    ]
    return Scope(sentence=sentence, seed_spread=_words(shares), shares=shares)


def _share(arm: Arm, baseline: Arm, matrix: MatrixData, primary: str) -> Share | None:
    benchmark, metric = primary.split("/", 1)
    draw = {r.seed: _data(r).get("content_hash") for r in baseline.runs}
    groups: dict[Any, list[float]] = {}
    for mine, other in column_pairs(arm, baseline, None, benchmark, metric)[0]:
        shared = sorted(mine.values.keys() & other.values.keys())
        if shared:
            gap = np.mean([mine.values[i] - other.values[i] for i in shared])
            groups.setdefault(draw.get(mine.seed), []).append(float(gap))
    split = nested(list(groups.values()))
    if split is None:
        return None
    whole, data, order = split
    return Share(
        label=arm.label, against=baseline.label, sd_seeds=whole, sd_data=data, sd_order=order, draws=len(groups)
    )


def nested(groups: Sequence[Sequence[float]]) -> tuple[float, float, float] | None:
    """Standard deviations over all seeds, between groups and within them; None without two groups, one of two or more.

    Groups may differ in size; a negative component counts as zero.
    """
    sizes = np.array([len(group) for group in groups], dtype=float)
    total, count = float(sizes.sum()), len(groups)
    if count < 2 or total <= count:
        return None
    means = np.array([np.mean(group) for group in groups])
    centre = float((sizes * means).sum() / total)
    within = sum(float(((np.array(g) - m) ** 2).sum()) for g, m in zip(groups, means, strict=True)) / (total - count)
    between = float((sizes * (means - centre) ** 2).sum()) / (count - 1)
    even = (total - float((sizes**2).sum()) / total) / (count - 1)
    data = max(0.0, (between - within) / even)
    return math.sqrt(data + within), math.sqrt(data), math.sqrt(within)


def _words(shares: Sequence[Share]) -> str | None:
    told = [
        f"{s.label} {s.sd_seeds:.3f} (data {s.sd_data:.3f}, order and initialisation {s.sd_order:.3f}, {s.draws} draws)"
        for s in shares
    ]
    return f"Standard deviation over seeds of the difference to the baseline: {'; '.join(told)}." if told else None
