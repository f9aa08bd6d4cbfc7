"""Win rates and agreement between judges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from reports.statistics.crossed import crossed_mean
from reports.statistics.intervals import group_columns, mean_interval, wilson, wilson_bounds
from reports.statistics.results import Estimate, undefined

# Win rates from preferences in [0, 1], ties at one half, and how far the order of the answers decided them.


#: Below this many prompts the normal interval of a share is too narrow (Bowyer 2503.01747) and Wilson's is given.
FEW = 100


@dataclass(frozen=True, slots=True)
class WinRate:
    """Share of comparisons won, ties counted one half, and the counts behind it.

    `failed` comparisons (no verdict) are in no other figure.
    """

    rate: Estimate
    wins: int
    losses: int
    draws: int
    failed: int

    @property
    def discrete(self) -> float | None:
        """Win rate of the rounded verdicts: a graded preference above one half counts as a whole win."""
        n = self.wins + self.losses + self.draws
        return (self.wins + self.draws / 2) / n if n else None

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        counts = {"wins": self.wins, "losses": self.losses, "draws": self.draws, "failed": self.failed}
        return {**self.rate.as_dict(), **counts, "discrete": self.discrete}


@dataclass(frozen=True, slots=True)
class PositionEffect:
    """Whether a judge's verdict survives swapping the two answers.

    `consistency`: share of comparisons with the same verdict in both orders. `first_preference`: mean preference for
    whatever stood first, one half without position bias.
    """

    consistency: Estimate
    first_preference: Estimate

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"consistency": self.consistency.as_dict(), "first_preference": self.first_preference.as_dict()}


def checked(preferences: ArrayLike) -> NDArray[np.float64]:
    """Preferences as floats, shape (n,); NaN is a failed comparison. ValueError for values outside [0, 1]."""
    p = np.asarray(preferences, dtype=float)
    if p.ndim != 1:
        raise ValueError(f"preferences: shape {p.shape}; give one value per comparison")
    known = p[~np.isnan(p)]
    if ((known < 0) | (known > 1)).any():
        raise ValueError(f"preferences: {known[(known < 0) | (known > 1)][0]} is outside 0..1; a tie is 0.5")
    return p


def verdicts(preferences: ArrayLike) -> NDArray[np.int64]:
    """1 (first is better), 0 (tie) or -1 of preferences without NaN, shape (n,)."""
    p = checked(preferences)
    if np.isnan(p).any():
        raise ValueError("verdicts: leave failed comparisons (NaN) out first")
    return np.sign(p - 0.5).astype(np.int64)


def win_rate(preferences: ArrayLike, groups: Sequence[object] | None = None, confidence: float = 0.95) -> WinRate:
    """Win rate with its interval over prompts; preferences of shape (n,), NaN where the judge gave no verdict.

    The standard error is sd/sqrt(n), as AlpacaEval has it, or clustered where `groups` (one per preference) repeat.
    With fewer than 100 independent prompts, or when all preferences agree, the interval is Wilson's, which is
    conservative for graded preferences and ties (their variance is below p(1-p)).
    """
    p = checked(preferences)
    if groups is not None and len(groups) != p.size:
        raise ValueError(f"win_rate: {p.size} preferences but {len(groups)} groups; give one group per preference")
    known = ~np.isnan(p)
    kept = p[known]
    counts = int((kept > 0.5).sum()), int((kept < 0.5).sum()), int((kept == 0.5).sum()), int((~known).sum())
    if kept.size == 0:
        return WinRate(undefined("win rate", 0, "no comparison has a verdict"), *counts)
    kept_groups = None if groups is None else [group for group, keep in zip(groups, known, strict=True) if keep]
    interval = mean_interval(kept, kept_groups, confidence)
    units = kept.size if kept_groups is None else len(set(kept_groups))
    if units < FEW or np.ptp(kept) == 0:
        low, high = wilson_bounds(float(kept.mean()), units, confidence)
        method = f"mean preference, Wilson interval over {units} prompts"
    else:
        low, high = max(interval.low or 0.0, 0.0), min(1.0 if interval.high is None else interval.high, 1.0)
        method = f"mean preference, {interval.method}"
    note = f"{counts[3]} of {p.size} comparisons have no verdict and are left out" if counts[3] else None
    rate = Estimate(
        interval.estimate, low, high, method, kept.size, stderr=interval.stderr, confidence=confidence, note=note
    )
    return WinRate(rate, *counts)


def win_rate_over_seeds(
    preferences: ArrayLike, groups: Sequence[object] | None = None, confidence: float = 0.95
) -> Estimate:
    """A method's win rate from preferences of shape (seeds, prompts), NaN where a judge gave no verdict.

    Seeds and prompts are both samples (statistics.crossed): it says how the method would fare with other seeds, where
    `win_rate` speaks of the policies there are. Prompts without a verdict under every seed take no part; `groups`, one a
    prompt, holds what belongs together.
    """
    p = np.asarray(preferences, dtype=float)
    if p.ndim != 2:
        raise ValueError(f"win_rate_over_seeds: shape {p.shape}; give one row per seed, one column per prompt")
    checked(p.ravel())
    known = ~np.isnan(p).any(axis=0)
    kept = p[:, known]
    if groups is not None:
        kept = group_columns(kept, [group for group, there in zip(groups, known, strict=True) if there])
    found = crossed_mean(kept).interval(confidence)
    if found.low is None or found.high is None:
        return found
    lost = int((~known).sum())
    note = f"{lost} of {known.size} prompts have no verdict under some seed" if lost else found.note
    return replace(found, low=max(found.low, 0.0), high=min(found.high, 1.0), note=note)


def position_effect(forward: ArrayLike, backward: ArrayLike, confidence: float = 0.95) -> PositionEffect:
    """Consistency and bias from the two orders, shape (n,) each, NaN where an order has no verdict.

    Both arrays are preferences for the same policy: `forward` with its answer first, `backward` with it second.
    """
    f, b = checked(forward), checked(backward)
    if f.shape != b.shape:
        raise ValueError(f"position_effect: shapes {f.shape} and {b.shape}; give both orders of the same comparisons")
    both = ~(np.isnan(f) | np.isnan(b))
    f, b = f[both], b[both]
    if f.size == 0:
        nothing = "no comparison has a verdict in both orders"
        return PositionEffect(undefined("Wilson", 0, nothing), undefined("t interval over items", 0, nothing))
    same = int((verdicts(f) == verdicts(b)).sum())
    return PositionEffect(wilson(same, f.size, confidence), mean_interval((f + 1 - b) / 2, confidence=confidence))


# Agreement of judges with people and with one another: kappa, and accuracy, precision, recall, F1 per class.


@dataclass(frozen=True, slots=True)
class Classification:
    """Accuracy and the unweighted means over classes of precision, recall and F1.

    A class that was never predicted has precision 0, one that never occurs recall 0 (scikit-learn's zero_division=0).
    """

    accuracy: float
    precision: float
    recall: float
    f1: float
    n: int
    classes: int

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def confusion(truth: ArrayLike, predicted: ArrayLike) -> NDArray[np.int64]:
    """Counts of shape (classes, classes), rows true, columns predicted, classes in sorted order over both arrays."""
    a, b = np.asarray(truth), np.asarray(predicted)
    if a.shape != b.shape or a.ndim != 1 or a.size == 0:
        raise ValueError(f"agreement: shapes {a.shape} and {b.shape}; give one label of each rater per item")
    labels = np.unique(np.concatenate([a, b]))
    cells = np.searchsorted(labels, a) * labels.size + np.searchsorted(labels, b)
    return np.bincount(cells, minlength=labels.size**2).reshape(labels.size, labels.size).astype(np.int64)


def classification(truth: ArrayLike, predicted: ArrayLike) -> Classification:
    """How well `predicted` labels, shape (n,), give the `truth`; macro averages over all classes in either."""
    table = confusion(truth, predicted).astype(float)
    hits, true, guessed = table.diagonal(), table.sum(axis=1), table.sum(axis=0)
    precision = np.divide(hits, guessed, out=np.zeros_like(hits), where=guessed > 0)
    recall = np.divide(hits, true, out=np.zeros_like(hits), where=true > 0)
    f1 = 2 * hits / (true + guessed)  # a class is in one array at least, so this is never 0/0
    n = table.sum()
    return Classification(
        float(hits.sum() / n), float(precision.mean()), float(recall.mean()), float(f1.mean()), int(n), hits.size
    )


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
    marginals = rows[None, :] + columns[:, None]  # entry (i, j): share of j in a plus share of i in b
    agreeing = p.diagonal() @ (1 - marginals.diagonal() * (1 - kappa)) ** 2
    off = p * marginals**2
    differing = (1 - kappa) ** 2 * (off.sum() - off.trace())
    variance = (agreeing + differing - (kappa - chance * (1 - kappa)) ** 2) / ((1 - chance) ** 2 * n)
    error = float(np.sqrt(max(variance, 0.0)))
    if error == 0:
        return Estimate(kappa, None, None, "Cohen's kappa", n, note="no spread to measure: the interval is undefined")
    half = float(stats.norm.ppf(0.5 + confidence / 2)) * error
    low, high = max(kappa - half, -1.0), min(kappa + half, 1.0)
    return Estimate(kappa, low, high, "Cohen's kappa, asymptotic interval", n, stderr=error, confidence=confidence)


def majority(labels: ArrayLike) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The label most raters give, from labels of shape (items, raters), and whether more than half agree on it.

    Where no label has a majority the first of the most frequent is given, and the second array is False.
    """
    table = np.asarray(labels)
    if table.ndim != 2:
        raise ValueError(f"majority: shape {table.shape}; give labels of shape (items, raters)")
    kinds = np.unique(table)
    counts = (table[:, :, None] == kinds).sum(axis=1)
    return kinds[counts.argmax(axis=1)], counts.max(axis=1) * 2 > table.shape[1]


def krippendorff_alpha(labels: ArrayLike, replicates: int = 1000, confidence: float = 0.95, seed: int = 0) -> Estimate:
    """Krippendorff's alpha of nominal labels, shape (items, raters), NaN where a rater gave none; any number of raters.

    1 - observed / expected disagreement (Krippendorff 2011, "Computing Krippendorff's alpha-reliability"), with a percentile
    interval from a bootstrap over items. Items that fewer than two rated take no part.
    """
    table = np.asarray(labels, dtype=float)
    if table.ndim != 2:
        raise ValueError(f"krippendorff_alpha: shape {table.shape}; give labels of shape (items, raters)")
    name = "Krippendorff's alpha (nominal)"
    table = table[(~np.isnan(table)).sum(axis=1) > 1]
    counts = (table[:, :, None] == np.unique(table[~np.isnan(table)])).sum(axis=1)
    items, raters = len(counts), counts.sum(axis=1)
    if not items or counts.shape[1] < 2:
        why = "all labels are the same: agreement by chance is certain" if items else "no item was rated twice"
        return undefined(name, items, why)
    apart = (raters**2 - (counts**2).sum(axis=1)) / (raters - 1)
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(items, np.full(items, 1 / items), size=replicates)
    weight = np.concatenate([np.ones((1, items)), draws])
    totals = weight @ counts
    whole = totals.sum(axis=1)
    expected = (whole**2 - (totals**2).sum(axis=1)) / (whole - 1)
    alpha = 1 - np.divide(weight @ apart, expected, out=np.zeros(len(weight)), where=expected > 0)
    low, high = (float(v) for v in np.quantile(alpha[1:], [(1 - confidence) / 2, (1 + confidence) / 2]))
    error = float(alpha[1:].std(ddof=1))
    return Estimate(float(alpha[0]), low, high, f"{name}, bootstrap over items", items, None, error, confidence)
