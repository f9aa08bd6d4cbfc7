"""Methods at their best setting: cross-fitted comparisons, expected best under equal budgets, and the map of settings.

`summary["tuning"]` holds what this module returns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reports.compare.comparison import crossed_test
from reports.compare.grids import ScoreGrid, aligned, arm_grids, grouped
from reports.runs.arms import Arm
from reports.runs.records import MatrixData
from reports.statistics.best_settings import best_difference, expected_best, tuned
from reports.statistics.crossed import crossed_mean
from reports.statistics.design import ALPHA, LEAST_SEEDS
from reports.statistics.multiplicity import benjamini_hochberg, holm, letters
from reports.statistics.paired import seed_interval

Floats = NDArray[np.float64]
_TURNED = {"value": "value", "low": "high", "high": "low"}
NOTHING: dict[str, Any] = {"comparisons": [], "expected_best": [], "map": [], "reason": "one run: nothing was tuned"}


def _families(all_arms: Sequence[Arm], grids: Mapping[str, ScoreGrid]) -> dict[str, list[Arm]]:
    families: dict[str, list[Arm]] = {}
    for arm in all_arms:
        if arm.label in grids:
            families.setdefault(arm.method, []).append(arm)
    return families


def _sides(
    first: Sequence[ScoreGrid], second: Sequence[ScoreGrid], sign: float
) -> tuple[tuple[int | None, ...], tuple[str, ...], Floats, Floats]:
    """Seeds and items that all settings share, and the scores of both sides, (settings, seeds, groups), larger being better."""
    seeds, ids, values = aligned([*first, *second])
    cells = sign * (grouped(first[0], ids, values) if ids else values)
    return seeds, ids, cells[: len(first)], cells[len(first) :]


def _can_be_tuned(mine: Floats, theirs: Floats) -> bool:
    return bool(mine.size) and (mine.shape[2] > 1 or len(mine) == len(theirs) == 1)


def cross_fitted(first: Sequence[ScoreGrid], second: Sequence[ScoreGrid], sign: float) -> float | None:
    """Best of the first minus best of the second, each scored where it was not chosen; above zero the first is better.

    None where they share too little to choose on one part and to score on another.
    """
    if not first or not second:
        return None
    _, _, mine, theirs = _sides(first, second, sign)
    if not _can_be_tuned(mine, theirs):
        return None
    return float((tuned(mine).scores - tuned(theirs).scores).mean())


def _compare(first: Sequence[ScoreGrid], second: Sequence[ScoreGrid], sign: float) -> dict[str, Any]:
    """Both sides at their best: the estimate at settings chosen elsewhere than where they are compared."""
    seeds, ids, mine, theirs = _sides(first, second, sign)
    row: dict[str, Any] = {"seeds": list(seeds), "n": len(ids), "chosen": [], "against_chosen": [], "how": None}
    per_seed: list[float] = []
    estimate = None
    if _can_be_tuned(mine, theirs):
        one, two = tuned(mine), tuned(theirs)
        gap = sign * (one.scores - two.scores)
        per_seed, estimate = [float(v) for v in gap.mean(axis=1)], float(gap.mean()) * sign
        row |= {"chosen": _shares(first, one.share), "against_chosen": _shares(second, two.share)}
        row["how"] = one.how if len(first) > 1 else two.how
    found = best_difference(mine, theirs, estimate)
    difference = found.difference.as_dict()
    if sign < 0:  # back to the metric's own direction
        difference |= {k: None if (v := difference[o]) is None else -v for k, o in _TURNED.items()}
    reason = None if found.detectable is not None else found.difference.note or "not defined for these data"
    return row | {
        "seed_differences": per_seed,
        "difference": difference,
        "test": found.test.as_dict(),
        "minimum_detectable_effect": {"value": found.detectable, "reason": reason},
    }


def _shares(grids: Sequence[ScoreGrid], share: Floats) -> list[dict[str, Any]]:
    found = [{"label": g.label, "share": float(s)} for g, s in zip(grids, share, strict=True) if s > 0]
    return sorted(found, key=lambda row: -row["share"])


def _comparisons(
    families: Mapping[str, list[Arm]],
    grids: Mapping[str, ScoreGrid],
    baseline: str | None,
    controls: Sequence[str],
    sign: float,
) -> list[dict[str, Any]]:
    rows = []
    for method, family in families.items():
        if method == baseline:
            continue
        others = [] if baseline is None else [baseline]
        others += [] if method in controls else [c for c in families if c in controls]
        for other in others:
            if other not in families:
                continue
            mine, theirs = ([grids[a.label] for a in side] for side in (family, families[other]))
            head = {"method": method, "against": other, "settings": len(mine), "against_settings": len(theirs)}
            rows.append(head | _compare(mine, theirs, sign))
    return rows


def _curve(method: str, family: Sequence[Arm], grids: Mapping[str, ScoreGrid], sign: float) -> dict[str, Any]:
    """Expected best of n settings: of the means over seeds, and of single seeds where all settings have them."""
    own = [grids[a.label] for a in family]
    means = np.array([g.values.mean() for g in own])
    best = sign * expected_best(sign * means)
    seeds = [s for s in own[0].seeds if all(s in g.seeds for g in own[1:])]
    per_seed = np.array([[g.values[g.seeds.index(s)].mean() for g in own] for s in seeds]).reshape(len(seeds), -1)
    curves = sign * expected_best(sign * per_seed) if seeds else np.empty((0, len(own)))
    items = min(len(g.ids) for g in own)
    return {
        "method": method,
        "settings": len(own),
        "n": items,
        "note": "the best of noisy means is too good by its luck; compare methods at equal n",
        "points": [
            {
                "n_settings": n + 1,
                "value": float(best[n]),
                "interval": seed_interval(curves[:, n], items).as_dict(),
                "per_seed": [
                    {"seed": s, "value": float(v)} for s, v in zip(seeds, curves[:, n], strict=True)
                ],
            }
            for n in range(len(own))
        ],
    }  # fmt: skip


def _map(method: str, family: Sequence[Arm], grids: Mapping[str, ScoreGrid]) -> list[dict[str, Any]]:
    names = list(dict.fromkeys(name for a in family for name in a.settings))
    moved = [n for n in names if len({repr(a.settings.get(n)) for a in family}) > 1]
    rows = []
    for arm in family:
        grid = grids[arm.label]
        means = grid.values.mean(axis=1)
        rows.append(
            {
                "method": method,
                "label": arm.label,
                "settings": {n: arm.settings.get(n) for n in moved},
                "mean": seed_interval(means, len(grid.ids)).as_dict(),
                "per_seed": [{"seed": s, "value": float(v)} for s, v in zip(grid.seeds, means, strict=True)],
            }
        )
    return rows


def tuning_summary(
    matrix: MatrixData,
    all_arms: Sequence[Arm],
    metrics: Sequence[Mapping[str, Any]],
    baseline: str | None,
    controls: Sequence[str],
) -> dict[str, Any]:
    """Every metric: methods at cross-fitted best settings, expected-best curves, and the mean at each setting.

    Args:
        metrics: entries with benchmark, metric, higher_is_better and primary.
        baseline: the baseline's method name. controls: method names of the controls.

    A comparison is the method's best setting against the other's best: the estimate is cross-fitted (no setting is
    scored where it was chosen), interval and p pay for the choice. p-values are adjusted together (Benjamini-Hochberg)
    over all comparisons here. A difference is in the metric's own direction.
    """
    comparisons: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    settings: list[dict[str, Any]] = []
    for entry in metrics:
        benchmark, metric = entry["benchmark"], entry["metric"]
        sign = 1.0 if entry["higher_is_better"] else -1.0
        head = {"benchmark": benchmark, "metric": metric, "primary": entry["primary"]}
        grids = arm_grids(all_arms, benchmark, metric)
        families = _families(all_arms, grids)
        comparisons += [head | row for row in _comparisons(families, grids, baseline, controls, sign)]
        for method, family in families.items():
            curves.append(head | _curve(method, family, grids, sign))
            settings += [head | row for row in _map(method, family, grids)]
    adjusted = benjamini_hochberg([c["test"]["p_value"] for c in comparisons])
    known = sum(p is not None for p in adjusted)
    for row, p in zip(comparisons, adjusted, strict=True):
        row["adjusted_p"] = {
            "value": p,
            "method": "Benjamini-Hochberg",
            "family_size": known,
            "reason": None if p is not None else row["test"]["reason"],
        }
    reason = None if comparisons else "no baseline with scores beside a method with scores"
    return {"comparisons": comparisons, "expected_best": curves, "map": settings, "reason": reason}


def tie_groups(all_arms: Sequence[Arm], benchmark: str, metric: str, higher: bool) -> dict[str, Any]:
    """Compact letter display over the arms: those sharing a letter are not distinguishable (Holm over all pairs, p <= .05).

    A pair with fewer than five shared seeds is never distinguishable.
    """
    grids = arm_grids(all_arms, benchmark, metric)
    means = {label: float(g.values.mean()) for label, g in grids.items()}
    order = sorted(means, key=lambda label: -means[label] if higher else means[label])
    pairs = [(a, b) for i, a in enumerate(order) for b in order[i + 1 :]]
    p_values: list[float | None] = []
    for a, b in pairs:
        seeds, ids, values = aligned([grids[a], grids[b]])
        if len(seeds) < LEAST_SEEDS or not ids:
            p_values.append(None)
            continue
        p_values.append(crossed_test(crossed_mean(grouped(grids[a], ids, values[0] - values[1]))).p_value)
    adjusted = holm(p_values)
    apart = [pair for pair, p in zip(pairs, adjusted, strict=True) if p is not None and p <= ALPHA]
    marks = letters(order, apart)
    tested = sum(p is not None for p in p_values)
    reason = None
    if not pairs:
        reason = "fewer than two methods were scored"
    elif tested < len(pairs):
        reason = f"{len(pairs) - tested} of {len(pairs)} pairs share fewer than {LEAST_SEEDS} seeds and are not distinguishable"
    return {
        "groups": [{"label": label, "mean": means[label], "letters": marks[label]} for label in order],
        "method": "compact letter display, crossed seeds x prompts, Holm over pairs",
        "pairs": len(pairs),
        "tested": tested,
        "reason": reason,
    }
