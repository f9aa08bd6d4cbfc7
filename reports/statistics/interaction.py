"""Does a paired difference change with a property of the prompt? Slope over prompts, with seeds and prompts as samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .crossed import CrossedMean, crossed_mean
from .results import Estimate
from .standard_errors import mean_interval

FEWEST_PROMPTS = 10


def slope_influence(differences: ArrayLike, covariate: ArrayLike) -> NDArray[np.float64]:
    """Cells whose mean is the slope of the differences, shape (S, P), on the covariate, shape (P,), in its own unit.

    slope_s + x_p e_sp / (1 - h_p) / mean(x^2), x centred, e the residuals of each seed's own line and h the leverage of the
    prompt: row means are the slopes of the seeds, and the two-way spread is the cluster-robust variance with seeds and
    prompts as clusters (Cameron, Gelbach and Miller 2011), whatever the heteroscedasticity; without the leverage a few
    extreme prompts would make it too small (HC3, MacKinnon and White 1985).
    """
    d, x = np.asarray(differences, dtype=float), np.asarray(covariate, dtype=float)
    if d.ndim != 2 or x.shape != (d.shape[1],) or not np.isfinite(d).all() or not np.isfinite(x).all():
        raise ValueError(
            f"slope_influence: shapes {d.shape} and {x.shape}; give finite (seeds, prompts) and (prompts,)"
        )
    x = x - x.mean()
    square = float(x @ x)
    if not square > 0:
        raise ValueError("slope_influence: the covariate does not vary")
    centred = d - d.mean(axis=1, keepdims=True)
    slopes = (centred @ x / square)[:, None]
    leverage = 1 / x.size + x**2 / square
    parts = x * (centred - slopes * x) / np.maximum(1 - leverage, 1e-12) * (x.size / square)
    cells: NDArray[np.float64] = slopes + parts - parts.mean(axis=1, keepdims=True)
    return cells


def interaction(differences: ArrayLike, covariate: ArrayLike) -> tuple[CrossedMean, Estimate]:
    """The slope with its spread, and its interval; of one seed the interval is over its prompts only.

    Below `FEWEST_PROMPTS` prompts, or with a covariate that does not vary, nothing is estimated and the note says why.
    """
    d, x = np.asarray(differences, dtype=float), np.asarray(covariate, dtype=float)
    if d.size == 0 or x.size < FEWEST_PROMPTS or np.ptp(x) == 0:
        why = "the covariate does not vary" if x.size >= FEWEST_PROMPTS else f"fewer than {FEWEST_PROMPTS} prompts"
        nothing = CrossedMean(None, None, None, d.shape[0], d.shape[1], why)
        return nothing, nothing.interval()
    cells = slope_influence(d, x)
    mean = crossed_mean(cells)
    if mean.degrees is not None:
        # The slope rests on the prompts far from the mean: so many of equal weight (Bell and McCaffrey 2002, in spirit).
        apart = (x - x.mean()) ** 2
        mean = replace(mean, degrees=min(mean.degrees, float(apart.sum() ** 2 / (apart @ apart))))
    if mean.seeds == 1 and np.ptp(cells) > 0:
        only = mean_interval(cells[0])
        return mean, replace(only, seeds=1, note="one seed: over its prompts only, it says nothing of another seed")
    return mean, mean.interval()
