"""Win rates and agreement between judges."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reports.schema import Estimate, Position, WinRate
from reports.statistics.crossed import crossed_mean
from reports.statistics.intervals import (
    estimated,
    group_columns,
    mean_interval,
    t_interval,
    undefined,
    wilson,
    wilson_bounds,
)

# Win rates from preferences in [0, 1], ties at one half, and how far the order of the answers decided them.


#: Below this many prompts the normal interval of a share is too narrow (Bowyer 2503.01747) and Wilson's is given.
FEW = 100


def checked(preferences: ArrayLike) -> NDArray[np.float64]:
    """Preferences as floats, shape (n,); NaN is a failed comparison. ValueError for values outside [0, 1]."""
    p = np.asarray(preferences, dtype=float)
    if p.ndim != 1 or ((p < 0) | (p > 1)).any():
        raise ValueError(f"preferences: shape {p.shape}; give one value in 0..1 per comparison, 0.5 for a tie")
    return p


def _within_bounds(found: Estimate) -> Estimate:
    """The interval cut to what a share can be."""
    low, high = (None if v is None else min(max(v, 0.0), 1.0) for v in (found.low, found.high))
    return found.model_copy(update={"low": low, "high": high})


def win_rate(preferences: ArrayLike, groups: Sequence[object] | None = None, confidence: float = 0.95) -> WinRate:
    """Win rate with its interval over prompts; preferences of shape (n,), NaN where the judge gave no verdict.

    The standard error is sd/sqrt(n), as AlpacaEval has it, or clustered where `groups` (one per preference) repeat.
    With fewer than 100 independent prompts, or when all preferences agree, the interval is Wilson's, which is
    conservative for graded preferences and ties (their variance is below p(1-p)). Comparisons without a verdict are counted
    in `failed` and are in no other figure.
    """
    p = checked(preferences)
    known = ~np.isnan(p)
    kept = p[known]
    wins, losses, draws = int((kept > 0.5).sum()), int((kept < 0.5).sum()), int((kept == 0.5).sum())
    lost = int((~known).sum())
    counts: dict[str, Any] = {"wins": wins, "losses": losses, "draws": draws, "failed": lost}
    if kept.size == 0:
        return WinRate(**dict(undefined("win rate", 0, "no comparison has a verdict")), **counts, discrete=None)
    own = None if groups is None else [group for group, keep in zip(groups, known, strict=True) if keep]
    rate, units = _within_bounds(mean_interval(kept, own, confidence)), kept.size if own is None else len(set(own))
    low, high, method = rate.low, rate.high, f"mean preference, {rate.method}"
    if units < FEW or np.ptp(kept) == 0:
        low, high = wilson_bounds(float(kept.mean()), units, confidence)
        method = f"mean preference, Wilson interval over {units} prompts"
    note = f"{lost} of {p.size} comparisons have no verdict and are left out" if lost else None
    found = estimated(rate.value, low, high, method, kept.size, None, rate.stderr, confidence, note)
    return WinRate(**dict(found), **counts, discrete=(wins + draws / 2) / kept.size)


def win_rate_over_seeds(
    preferences: ArrayLike, groups: Sequence[object] | None = None, confidence: float = 0.95
) -> Estimate:
    """A method's win rate from preferences of shape (seeds, prompts), NaN where a judge gave no verdict.

    Seeds and prompts are both samples (statistics.crossed): it says how the method would fare with other seeds, where
    `win_rate` speaks of the policies there are. Prompts without a verdict under every seed take no part; `groups`, one a
    prompt, holds what belongs together.
    """
    p = np.asarray(preferences, dtype=float)
    checked(p.ravel())
    known = ~np.isnan(p).any(axis=0)
    kept = p[:, known]
    if groups is not None:
        kept = group_columns(kept, [group for group, there in zip(groups, known, strict=True) if there])
    found, lost = _within_bounds(crossed_mean(kept).interval(confidence)), int((~known).sum())
    note = f"{lost} of {known.size} prompts have no verdict under some seed" if lost else found.note
    return found.model_copy(update={"note": note})


def position_effect(forward: ArrayLike, backward: ArrayLike, confidence: float = 0.95) -> Position | None:
    """Consistency and bias from the two orders, shape (n,) each, NaN where an order has no verdict.

    Both arrays are preferences for the same policy: `forward` with its answer first, `backward` with it second. Consistency is
    the share of comparisons with the same verdict in both orders. None for a judge that sees one answer at a time: it has no
    order to be inconsistent in.
    """
    f, b = checked(forward), checked(backward)
    if np.isnan(f).all() and np.isnan(b).all():
        return None
    both = ~(np.isnan(f) | np.isnan(b))
    f, b = f[both], b[both]
    if f.size == 0:
        nothing = "no comparison has a verdict in both orders"
        bare = [undefined(name, 0, nothing) for name in ("Wilson", "t interval over items")]
        return Position(consistency=bare[0], first_preference=bare[1])
    same = int((np.sign(f - 0.5) == np.sign(b - 0.5)).sum())
    first = mean_interval((f + 1 - b) / 2, confidence=confidence)
    return Position(consistency=wilson(same, f.size, confidence), first_preference=first)


# Agreement of judges with people and with one another: kappa, and accuracy, precision, recall, F1 per class.


def confusion(truth: ArrayLike, predicted: ArrayLike) -> NDArray[np.int64]:
    """Counts of shape (classes, classes), rows true, columns predicted, classes in sorted order over both arrays."""
    labels, index = np.unique(np.stack([truth, predicted]), return_inverse=True)
    table = np.zeros((labels.size, labels.size), dtype=np.int64)
    np.add.at(table, tuple(index.reshape(2, -1)), 1)
    return table


def classification(truth: ArrayLike, predicted: ArrayLike) -> dict[str, float]:
    """How well `predicted` labels, shape (n,), give the `truth`: accuracy and the unweighted means over all classes in either of
    precision, recall and f1.

    A class that was never predicted has precision 0, one that never occurs recall 0 (scikit-learn's zero_division=0).
    """
    table = confusion(truth, predicted).astype(float)
    hits, true, guessed = table.diagonal(), table.sum(axis=1), table.sum(axis=0)
    precision, recall = hits / np.maximum(guessed, 1), hits / np.maximum(true, 1)
    f1 = 2 * hits / (true + guessed)  # a class is in one array at least, so this is never 0/0
    means = {"precision": precision.mean(), "recall": recall.mean(), "f1": f1.mean()}
    return {name: float(v) for name, v in {"accuracy": hits.sum() / table.sum(), **means}.items()}


def cohen_kappa(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Cohen's kappa of two raters' labels, shape (n,) each, with the interval of Fleiss, Cohen and Everitt (1969).

    Undefined when both raters give every item the same label: agreement by chance is then certain.
    """
    table = confusion(a, b)
    n = int(table.sum())
    p = table / n
    rows, columns = p.sum(axis=1), p.sum(axis=0)
    observed, chance = float(p.trace()), float(rows @ columns)
    if chance == 1:
        return undefined("Cohen's kappa", n, "both raters give every item the same label")
    kappa = (observed - chance) / (1 - chance)
    # what an item with labels (i, j) adds to kappa, whose spread is that of Fleiss, Cohen and Everitt
    by_chance = columns[:, None] + rows[None, :] - 2 * chance
    influence = (np.eye(len(p)) - observed - (1 - kappa) * by_chance) / (1 - chance)
    variance = float((p * influence**2).sum()) / n
    if variance <= 1e-30:
        note = "no spread to measure: the interval is undefined"
        return estimated(kappa, None, None, "Cohen's kappa", n, note=note)
    name = "Cohen's kappa, asymptotic interval"
    found = t_interval(kappa, math.sqrt(variance), math.inf, name, n, confidence=confidence)
    ends = {"low": max(found.low or 0.0, -1.0), "high": min(found.high or 0.0, 1.0)}
    return found.model_copy(update=ends)


def krippendorff_alpha(labels: ArrayLike, replicates: int = 1000, confidence: float = 0.95, seed: int = 0) -> Estimate:
    """Krippendorff's alpha of nominal labels, shape (items, raters), NaN where a rater gave none; any number of raters.

    1 - observed / expected disagreement (Krippendorff 2011, "Computing Krippendorff's alpha-reliability"), with a percentile
    interval from a bootstrap over items. Items that fewer than two rated take no part.
    """
    table, name = np.asarray(labels, dtype=float), "Krippendorff's alpha (nominal)"
    table = table[(~np.isnan(table)).sum(axis=1) > 1]
    counts = (table[:, :, None] == np.unique(table[~np.isnan(table)])).sum(axis=1)
    items, raters = len(counts), counts.sum(axis=1)
    if not items or counts.shape[1] < 2:
        why = "all labels are the same: agreement by chance is certain" if items else "no item was rated twice"
        return undefined(name, items, why)
    apart = (raters**2 - (counts**2).sum(axis=1)) / (raters - 1)
    draws = np.random.default_rng(seed).multinomial(items, np.full(items, 1 / items), size=replicates)
    weight = np.concatenate([np.ones((1, items)), draws])
    totals = weight @ counts
    whole = totals.sum(axis=1)
    expected = (whole**2 - (totals**2).sum(axis=1)) / (whole - 1)
    alpha = 1 - np.divide(weight @ apart, expected, out=np.zeros(len(weight)), where=expected > 0)
    low, high = np.quantile(alpha[1:], [(1 - confidence) / 2, (1 + confidence) / 2])
    error = float(alpha[1:].std(ddof=1))
    return estimated(float(alpha[0]), low, high, f"{name}, bootstrap over items", items, None, error, confidence)
