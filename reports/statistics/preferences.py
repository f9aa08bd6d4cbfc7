"""Models of preferences: Bradley-Terry strengths of all policies, alone and at equal style, and win rates at equal length."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import optimize
from scipy.sparse.csgraph import connected_components
from scipy.special import expit

from reports.schema import Estimate, LengthControlled
from reports.statistics.intervals import Floats, estimated, mean_interval, t_interval, undefined
from reports.statistics.winrate import checked

# Bradley-Terry strengths of all policies from their pairwise preferences, alone and with the style of the answers
# held equal.
#
# Intervals come from a variance that is clustered by prompt.


#: Weak normal prior on a strength, as a precision: too small to be seen, it gives a policy that wins everything a solution.
PRIOR = 1e-4


@dataclass(frozen=True, slots=True)
class Strengths:
    """Strengths (log odds, the anchor's is 0) by policy, and the weight of each feature of style (log odds per standard
    deviation of the difference). `note` says where strengths are without bound."""

    strengths: dict[str, Estimate]
    weights: dict[str, Estimate]
    note: str | None


def bradley_terry(
    first: Sequence[str],
    second: Sequence[str],
    preferences: ArrayLike,
    prompts: Sequence[object],
    anchor: str,
    features: Mapping[str, ArrayLike] | None = None,
    confidence: float = 0.95,
) -> Strengths:
    """Strengths of all policies from n comparisons: logit P(first) = s_first - s_second + w . z.

    With features it is at equal style, as LMSYS's arena fits it (style control, 2024).

    Args:
        first, second: the policies compared, one of each per comparison.
        preferences: for `first`, in 0..1, one half for a tie, shape (n,); NaN is left out.
        prompts: what was asked, one per comparison; what is said about one prompt is not independent.
        anchor: the policy whose strength is zero.
        features: by name the difference in style of each comparison, (a - b) / (a + b) of a count, shape (n,); they are
            standardised here, and one that does not vary is left out.

    The variance is Huber's (1967), clustered by prompt.

    Raises:
        ValueError: an anchor without a verdict, or policies that no chain of comparisons connects.
    """
    p = checked(preferences)
    known = ~np.isnan(p)
    y, compared = p[known], np.stack([first, second])[:, known]
    names, places = (part.tolist() for part in np.unique(compared, return_inverse=True))
    if anchor not in names:
        raise ValueError(f"bradley_terry: no comparison with a verdict involves the anchor {anchor!r}")
    i, j = np.reshape(places, compared.shape)
    wins = np.zeros((len(names), len(names)))
    np.add.at(wins, (np.r_[i, j], np.r_[j, i]), np.r_[y, 1 - y])
    parts, member = connected_components(wins + wins.T, directed=False)
    if parts > 1:
        other = names[int(np.flatnonzero(member != member[names.index(anchor)])[0])]
        raise ValueError(f"bradley_terry: no chain of comparisons connects {other!r} with {anchor!r}")
    note = None
    if connected_components(wins > 0, directed=True, connection="strong")[0] > 1:
        note = "some policies never lost (or never won) against the others: their strengths are without bound"
    free = [k for k, name in enumerate(names) if name != anchor]
    style = {name: np.asarray(values, dtype=float)[known] for name, values in (features or {}).items()}
    style = {name: (z - z.mean()) / z.std() for name, z in style.items() if np.ptp(z) > 0}
    sides = np.eye(len(names))
    x = np.column_stack([(sides[i] - sides[j])[:, free], *style.values()])
    w = np.zeros(x.shape[1])
    for _ in range(100):
        q = expit(x @ w)
        curvature = (x.T * (q * (1 - q))) @ x + PRIOR * np.eye(w.size)
        step = np.linalg.solve(curvature, x.T @ (y - q) - PRIOR * w)
        # A full Newton step can overshoot when one policy wins nearly everything.
        w += step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-300))
        if np.abs(step).max() < 1e-10:
            break
    cluster = pd.factorize(np.array([str(one) for one in prompts])[known])[0]
    clusters = int(cluster.max()) + 1
    sums = np.zeros((clusters, w.size))
    np.add.at(sums, cluster, x * (y - expit(x @ w))[:, None])
    bread = np.linalg.inv(curvature)
    errors = np.sqrt(np.diag(bread @ (sums.T @ sums) @ bread) * clusters / max(clusters - 1, 1))
    name = f"Bradley-Terry{' with style' if style else ''}, variance clustered by {clusters} prompts"
    games = np.bincount(np.r_[i, j], minlength=len(names)).tolist()
    counts = [*(games[k] for k in free), *([y.size] * len(style))]
    found = [
        t_interval(value, error, math.inf, name, n, None, confidence, note)
        for value, error, n in zip(w.tolist(), errors.tolist(), counts, strict=True)
    ]
    fixed = "the anchor: fixed, so it has no interval"
    strengths = {anchor: estimated(0.0, None, None, name, games[names.index(anchor)], note=fixed)}
    strengths |= {names[k]: one for k, one in zip(free, found, strict=False)}
    return Strengths(strengths, dict(zip(style, found[len(free) :], strict=True)), note)


# AlpacaEval 2's length-controlled win rate (Dubois et al., 2404.04475): what the win rate would be at equal lengths.
#
# logit q = theta + phi * tanh(dlen / sd(dlen)) + psi * gamma_x, fitted to the preferences (graded ones included) for
# one model against one baseline; the reported figure is the mean of q over prompts with the length term set to zero.
# gamma_x is the difficulty of a prompt, shared by all models. Weights are fitted as published: L1 penalty on all
# three, no free intercept, penalty strength chosen among ten by five-fold cross-validated log loss. Not included is
# the published pull of phi and psi towards two versions of the baseline told to be brief or wordy: their judgments
# exist for that baseline only.


NAME = "length-controlled win rate (GLM)"
#: Weights of the log loss against an L1 norm of 1, as in scikit-learn's LogisticRegressionCV(Cs=10).
STRENGTHS = np.logspace(-4, 4, 10)
FOLDS = 5


def length_term(lengths: ArrayLike, baseline_lengths: ArrayLike) -> Floats:
    """tanh(dlen / sd(dlen)) with dlen = length - baseline length, shape (n,); zeros when dlen does not vary."""
    difference = np.asarray(lengths, dtype=float) - np.asarray(baseline_lengths, dtype=float)
    if difference.size < 2 or np.ptp(difference) == 0:
        return np.zeros_like(difference)
    return np.tanh(difference / difference.std(ddof=1))


def predicted(theta: float, psi: float, difficulty: ArrayLike) -> Floats:
    """Preferences at equal length, shape (n,): expit(theta + psi * gamma_x)."""
    return np.asarray(expit(theta + psi * np.asarray(difficulty, dtype=float)), dtype=float)


def _held_out_loss(x: Floats, y: Floats, strength: float) -> float:
    fold = np.arange(y.size) % FOLDS
    weights = [_fit(x[fold != k], y[fold != k], strength) for k in range(FOLDS)]
    return float(sum(_log_loss(x[fold == k] @ w, y[fold == k]).mean() for k, w in enumerate(weights)))


def _fitted(y: Floats, term: Floats, gamma: Floats) -> tuple[Floats, float, Floats]:
    """The weights (theta, phi, psi), the penalty strength that was chosen, and the values that carry rate and error."""
    known = ~np.isnan(y)
    x = np.column_stack([np.ones(y.size), term, gamma])
    strength = float(min(STRENGTHS, key=lambda c: _held_out_loss(x[known], y[known], c)))
    w = _fit(x[known], y[known], strength)
    q, equal = expit(x @ w), predicted(w[0], w[2], gamma)
    slope = (equal * (1 - equal)) @ np.column_stack([np.ones(y.size), np.zeros(y.size), gamma]) / y.size
    curvature = (x[known].T * (q * (1 - q))[known]) @ x[known] / known.sum()
    influence = np.where(known, np.nan_to_num(y - q), 0.0) * (x @ np.linalg.pinv(curvature) @ slope)
    return w, strength, np.asarray(equal + influence - influence.mean())


def length_controlled(
    preferences: ArrayLike,
    lengths: ArrayLike,
    baseline_lengths: ArrayLike,
    difficulty: ArrayLike,
    groups: Sequence[object] | None = None,
) -> LengthControlled:
    """Fit the three weights and report the win rate without the length term, with its interval over prompts.

    Args:
        preferences: for the model over the baseline, in 0..1, shape (n,), one per prompt; NaN is left out of the fit.
        lengths: of the answers of model and baseline, in characters or any one unit, shape (n,) each.
        difficulty: gamma_x, shape (n,), see `difficulties`. Zeros leave that term out, but the fit is then misled: on
            AlpacaEval 2's own judgments its ranking is further from the published one than that of plain win rates.
        groups: of prompts that belong together.
    """
    y, term = checked(preferences), length_term(lengths, baseline_lengths)
    count = int((~np.isnan(y)).sum())
    plain = float(np.nanmean(y)) if count else None
    if count < 2 * FOLDS:
        few = undefined(NAME, count, f"fewer than {2 * FOLDS} comparisons with a verdict")
        return LengthControlled(**dict(few), plain=plain)
    fit, strength, cells = _fitted(y, term, np.asarray(difficulty, dtype=float))
    rate = mean_interval(cells, groups)
    note = None if np.ptp(term) else "the length difference does not vary, so there is nothing to control for"
    said = {"method": f"{NAME}, {rate.method} with their influence on the fit", "note": note, "n": count}
    weights = dict(zip(("theta", "phi", "psi"), fit.tolist(), strict=True))
    return LengthControlled(**dict(rate) | said, plain=plain, weights=weights, strength=strength)


def length_controlled_cells(
    preferences: ArrayLike, lengths: ArrayLike, baseline_lengths: ArrayLike, difficulty: ArrayLike
) -> Floats:
    """One value per prompt, shape (n,), whose mean is the length-controlled win rate and whose spread is its own.

    The prediction at equal length plus the prompt's influence on the fitted weights (one Newton step of the GLM, Huber
    1967). As item values of a run they make the length-controlled win rate a metric like any other: paired by prompt, with
    seeds as units. Arguments as of `length_controlled`, ten verdicts or more; a prompt without one has no influence.
    """
    return _fitted(checked(preferences), length_term(lengths, baseline_lengths), np.asarray(difficulty, float))[2]


def difficulties(preferences: ArrayLike, terms: ArrayLike, ridge: float = 1.0) -> Floats:
    """gamma_x, shape (prompts,), from all models against one baseline: the joint fit with psi = 1 for every model.

    Args:
        preferences: for each model over the baseline, shape (models, prompts), NaN where there is none.
        terms: `length_term` of each model, same shape.
        ridge: penalty ridge/2 * gamma^2; with few models it keeps a prompt's difficulty near zero.
    """
    p, t = np.asarray(preferences, dtype=float), np.asarray(terms, dtype=float)
    models, prompts = p.shape
    known = ~np.isnan(p)
    y = np.where(known, p, 0.0)

    def loss(v: Floats) -> tuple[float, Floats]:
        theta, phi, gamma = v[:models], v[models : 2 * models], v[2 * models :]
        z = theta[:, None] + phi[:, None] * t + gamma
        slope = np.where(known, expit(z) - y, 0.0)
        value = float(np.where(known, _log_loss(z, y), 0.0).sum() + 0.5 * ridge * gamma @ gamma)
        gradient = np.concatenate([slope.sum(1), (slope * t).sum(1), slope.sum(0) + ridge * gamma])
        return value, gradient

    fit = optimize.minimize(loss, np.zeros(2 * models + prompts), jac=True, method="L-BFGS-B", options={"maxiter": 500})
    gamma = np.asarray(fit.x[2 * models :], dtype=float)
    return gamma - gamma.mean()


def _log_loss(z: Floats, y: Floats) -> Floats:
    return np.asarray(np.logaddexp(0, z) - y * z)


def _fit(x: Floats, y: Floats, strength: float) -> Floats:
    """The w, shape (k,), that minimises |w|_1 + strength * sum of the log loss; x is (n, k).

    Each weight is the difference of two that are at least 0, so that the L1 norm is their sum, which is smooth.
    """
    count, scale = x.shape[1], 1 + strength * y.size

    def objective(parts: Floats) -> tuple[float, Floats]:
        z = x @ (parts[:count] - parts[count:])
        gradient = strength * x.T @ (expit(z) - y)
        value = parts.sum() + strength * _log_loss(z, y).sum()
        return float(value) / scale, np.concatenate([1 + gradient, 1 - gradient]) / scale

    options = {"ftol": 1e-15, "gtol": 1e-11, "maxiter": 500}
    start, bounds = np.zeros(2 * count), [(0.0, None)] * (2 * count)
    found = optimize.minimize(objective, start, jac=True, bounds=bounds, method="L-BFGS-B", options=options).x
    return np.asarray(found[:count] - found[count:], dtype=float)
