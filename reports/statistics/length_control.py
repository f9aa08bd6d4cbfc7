"""AlpacaEval 2's length-controlled win rate (Dubois et al., 2404.04475): what the win rate would be at equal lengths.

logit q = theta + phi * tanh(dlen / sd(dlen)) + psi * gamma_x, fitted to the preferences (graded ones included) for one
model against one baseline; the reported figure is the mean of q over prompts with the length term set to zero. gamma_x
is the difficulty of a prompt, shared by all models. Weights are fitted as published: L1 penalty on all three, no free
intercept, penalty strength chosen among ten by five-fold cross-validated log loss. Not included is the published pull
of phi and psi towards two versions of the baseline told to be brief or wordy: their judgments exist for that baseline only.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize
from scipy.special import expit

from reports.statistics.results import Estimate, undefined
from reports.statistics.winrate import checked

Array = NDArray[np.float64]
#: Weights of the log loss against an L1 norm of 1, as in scikit-learn's LogisticRegressionCV(Cs=10).
STRENGTHS = np.logspace(-4, 4, 10)
FOLDS = 5
#: All signs the three weights can have, zero included.
PATTERNS = tuple(np.array(signs, dtype=float) for signs in itertools.product((-1, 0, 1), repeat=3))


@dataclass(frozen=True, slots=True)
class LengthControlled:
    """Length-controlled win rate in 0..1 with a bootstrap interval, the plain one, and the fitted weights.

    `spread_error` is the standard error AlpacaEval publishes: sd of the predicted preferences over sqrt(n). It holds the
    weights fixed, so it is far smaller than `rate.stderr`, which refits them on resampled prompts.
    """

    rate: Estimate
    plain: float | None
    theta: float
    phi: float
    psi: float
    spread_error: float | None
    strength: float | None

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        weights = {"theta": self.theta, "phi": self.phi, "psi": self.psi}
        other = {"spread_error": self.spread_error, "strength": self.strength}
        return {**self.rate.as_dict(), "plain": self.plain, "weights": weights, **other}


def length_term(lengths: ArrayLike, baseline_lengths: ArrayLike) -> Array:
    """tanh(dlen / sd(dlen)) with dlen = length - baseline length, shape (n,); zeros when dlen does not vary."""
    difference = np.asarray(lengths, dtype=float) - np.asarray(baseline_lengths, dtype=float)
    if difference.size < 2 or np.ptp(difference) == 0:
        return np.zeros_like(difference)
    return np.tanh(difference / difference.std(ddof=1))


def predicted(theta: float, psi: float, difficulty: ArrayLike) -> Array:
    """Preferences at equal length, shape (n,): expit(theta + psi * gamma_x)."""
    return np.asarray(expit(theta + psi * np.asarray(difficulty, dtype=float)), dtype=float)


def length_controlled(
    preferences: ArrayLike,
    lengths: ArrayLike,
    baseline_lengths: ArrayLike,
    difficulty: ArrayLike,
    replicates: int = 300,
    confidence: float = 0.95,
    seed: int = 0,
) -> LengthControlled:
    """Fit the three weights and report the win rate without the length term.

    Args:
        preferences: for the model over the baseline, in 0..1, shape (n,), one per prompt; NaN is left out of the fit.
        lengths: of the answers of model and baseline, in characters or any one unit, shape (n,) each.
        difficulty: gamma_x, shape (n,), see `difficulties`. Zeros leave that term out, but the fit is then misled: on
            AlpacaEval 2's own judgments its ranking is further from the published one than that of plain win rates.
        replicates: bootstrap resamples of prompts for the interval (penalty strength and difficulties held); 0 for none.
    """
    p = checked(preferences)
    term = length_term(lengths, baseline_lengths)
    gamma = np.asarray(difficulty, dtype=float)
    if not (term.shape == gamma.shape == p.shape):
        raise ValueError(f"length_controlled: {p.size} preferences, {term.size} lengths, {gamma.size} difficulties")
    name = "length-controlled win rate (GLM)"
    known = ~np.isnan(p)
    y = p[known]
    if y.size < 2 * FOLDS:
        few = undefined(name, y.size, f"fewer than {2 * FOLDS} comparisons with a verdict")
        return LengthControlled(few, float(y.mean()) if y.size else None, 0.0, 0.0, 0.0, None, None)
    x = np.column_stack([np.ones(p.size), term, gamma])
    strength = _cross_validated(x[known], y)
    weights = _fit(x[known], y, np.ones(y.size), strength)
    at_equal_length = predicted(weights[0], weights[2], gamma)
    value = float(at_equal_length.mean())
    notes = [] if np.ptp(term) else ["the length difference does not vary, so there is nothing to control for"]
    low = high = error = None
    if replicates:
        rng = np.random.default_rng(seed)
        draws = np.empty(replicates)
        for i in range(replicates):
            count = np.bincount(rng.integers(0, y.size, y.size), minlength=y.size).astype(float)
            w = _fit(x[known], y, count, strength, start=weights)
            draws[i] = count @ predicted(w[0], w[2], gamma[known]) / y.size
        low, high = (float(v) for v in np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2]))
        error = float(draws.std(ddof=1))
        name += f", bootstrap over prompts ({replicates} draws)"
    else:
        notes.append("no interval was asked for")
    rate = Estimate(value, low, high, name, y.size, None, error, confidence, "; ".join(notes) or None)
    theta, phi, psi = (float(w) for w in weights)
    spread = float(at_equal_length.std(ddof=1) / np.sqrt(p.size))
    return LengthControlled(rate, float(y.mean()), theta, phi, psi, spread, strength)


def length_controlled_cells(
    preferences: ArrayLike, lengths: ArrayLike, baseline_lengths: ArrayLike, difficulty: ArrayLike
) -> Array:
    """One value per prompt, shape (n,), whose mean is the length-controlled win rate and whose spread is its own.

    The prediction at equal length plus the prompt's influence on the fitted weights (one Newton step of the GLM, Huber
    1967). As item values of a run they make the length-controlled win rate a metric like any other: paired by prompt, with
    seeds as units. Arguments as of `length_controlled`; a prompt without a verdict has no influence.
    """
    fit = length_controlled(preferences, lengths, baseline_lengths, difficulty, replicates=0)
    if fit.rate.estimate is None:
        raise ValueError(f"length_controlled_cells: {fit.rate.note}")
    y, gamma = checked(preferences), np.asarray(difficulty, dtype=float)
    known = ~np.isnan(y)
    x = np.column_stack([np.ones(y.size), length_term(lengths, baseline_lengths), gamma])
    q = expit(x @ np.array([fit.theta, fit.phi, fit.psi]))
    equal = predicted(fit.theta, fit.psi, gamma)
    slope = (equal * (1 - equal)) @ np.column_stack([np.ones(y.size), np.zeros(y.size), gamma]) / y.size
    curvature = (x[known].T * (q * (1 - q))[known]) @ x[known] / known.sum()
    influence = np.where(known, np.nan_to_num(y - q), 0.0) * (x @ np.linalg.pinv(curvature) @ slope)
    return np.asarray(equal + influence - influence.mean())


def difficulties(preferences: ArrayLike, terms: ArrayLike, ridge: float = 1.0) -> Array:
    """gamma_x, shape (prompts,), from all models against one baseline: the joint fit with psi = 1 for every model.

    Args:
        preferences: for each model over the baseline, shape (models, prompts), NaN where there is none.
        terms: `length_term` of each model, same shape.
        ridge: penalty ridge/2 * gamma^2; with few models it keeps a prompt's difficulty near zero.
    """
    p, t = np.asarray(preferences, dtype=float), np.asarray(terms, dtype=float)
    if p.ndim != 2 or p.shape != t.shape:
        raise ValueError(f"difficulties: shapes {p.shape} and {t.shape}; give two (models, prompts) arrays")
    models, prompts = p.shape
    known = ~np.isnan(p)
    y = np.where(known, p, 0.0)

    def loss(v: Array) -> tuple[float, Array]:
        theta, phi, gamma = v[:models], v[models : 2 * models], v[2 * models :]
        z = theta[:, None] + phi[:, None] * t + gamma
        slope = np.where(known, expit(z) - y, 0.0)
        value = float(np.where(known, np.logaddexp(0, z) - y * z, 0.0).sum() + 0.5 * ridge * gamma @ gamma)
        gradient = np.concatenate([slope.sum(1), (slope * t).sum(1), slope.sum(0) + ridge * gamma])
        return value, gradient

    fit = optimize.minimize(loss, np.zeros(2 * models + prompts), jac=True, method="L-BFGS-B", options={"maxiter": 500})
    gamma = np.asarray(fit.x[2 * models :], dtype=float)
    return gamma - gamma.mean()


def _log_loss(z: Array, y: Array) -> Array:
    return np.asarray(np.logaddexp(0, z) - y * z)


def _cross_validated(x: Array, y: Array) -> float:
    fold = np.arange(y.size) % FOLDS
    losses = np.zeros(STRENGTHS.size)
    for k in range(FOLDS):
        train, held = fold != k, fold == k
        start = np.zeros(x.shape[1])
        for i, strength in enumerate(STRENGTHS):
            start = _fit(x[train], y[train], np.ones(int(train.sum())), float(strength), start)
            losses[i] += _log_loss(x[held] @ start, y[held]).mean()
    return float(STRENGTHS[losses.argmin()])


def _fit(x: Array, y: Array, counts: Array, strength: float, start: Array | None = None) -> Array:
    """Minimise |w|_1 + strength * sum_i counts_i * logloss_i by proximal Newton steps; x is (n, 3), w is (3,)."""
    w = np.zeros(x.shape[1]) if start is None else start.copy()

    def objective(v: Array) -> float:
        return float(np.abs(v).sum() + strength * counts @ _log_loss(x @ v, y))

    value = objective(w)
    for _ in range(100):
        q = expit(x @ w)
        gradient = strength * x.T @ (counts * (q - y))
        hessian = strength * (x.T * (counts * q * (1 - q))) @ x + 1e-10 * np.eye(w.size)
        step = _lasso_step(hessian, gradient, w)
        slope = gradient @ step + np.abs(w + step).sum() - np.abs(w).sum()
        if slope > -1e-10 * max(1.0, value):
            break
        size = 1.0
        while size > 1e-8 and objective(w + size * step) > value + 1e-4 * size * slope:
            size /= 2
        w = w + size * step
        value = objective(w)
    return w


def _lasso_step(hessian: Array, gradient: Array, w: Array) -> Array:
    """The d that minimises gradient.d + d.hessian.d/2 + |w + d|_1.

    Exact: given the signs of the solution it is a linear system, and three weights have few sign patterns. The pattern
    of `w` comes first, since it is nearly always the right one.
    """
    target = hessian @ w - gradient
    best, least = w, np.inf
    for signs in (np.sign(w), *PATTERNS):
        active = signs != 0
        v = np.zeros_like(w)
        v[active] = np.linalg.solve(hessian[np.ix_(active, active)], target[active] - signs[active])
        slack = target - hessian @ v
        value = float(np.abs(v).sum() + 0.5 * v @ hessian @ v - target @ v)
        if (v * signs >= 0).all() and (np.abs(slack[~active]) <= 1 + 1e-9).all():
            return v - w
        if value < least:  # rounding can leave no pattern exactly right
            best, least = v, value
    return best - w
