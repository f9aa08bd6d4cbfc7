"""The best of several settings, scored where it was not chosen: on other prompts and, with several seeds, other seeds.

Choosing the best setting on the very scores it is then compared with adds luck to it, the more the more settings there are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FOLDS = 5


@dataclass(frozen=True, slots=True)
class Tuned:
    """Scores of the chosen settings, shape (seeds, prompts), and how often each setting was chosen, shape (settings,)."""

    scores: NDArray[np.float64]
    share: NDArray[np.float64]
    how: str


def tuned(scores: ArrayLike, folds: int = FOLDS) -> Tuned:
    """Cross-fitted scores of the best setting, from scores of shape (settings, seeds, prompts), larger being better.

    The setting whose scores stand in the cell (seed, prompt) is the best on the prompts of the other folds under the other
    seeds; with one seed, on the prompts of the other folds. The cell was not used in the choice, so the mean is unbiased
    for a setting chosen on so much data. Prompts are dealt to folds in turn, in the order given.

    Raises:
        ValueError: the shape is not of this kind, values are not finite, or there is one prompt only.
    """
    x = np.asarray(scores, dtype=float)
    if x.ndim != 3 or min(x.shape) == 0 or not np.isfinite(x).all():
        raise ValueError(f"tuned: shape {x.shape}; give finite scores of (settings, seeds, prompts)")
    settings, seeds, prompts = x.shape
    if settings == 1:
        return Tuned(x[0], np.ones(1), "one setting: nothing was chosen")
    if prompts < 2:
        raise ValueError("tuned: one prompt cannot be split into those to choose on and those to compare on")
    parts = min(folds, prompts)
    fold = np.arange(prompts) % parts
    in_fold = np.stack([x[:, :, fold == j].sum(axis=2) for j in range(parts)], axis=2)
    outside = in_fold.sum(axis=2, keepdims=True) - in_fold
    if seeds > 1:
        outside = outside.sum(axis=1, keepdims=True) - outside
    chosen = outside.argmax(axis=0)  # (seeds, folds)
    cells = chosen[:, fold]
    picked = np.take_along_axis(x, cells[None], axis=0)[0]
    share = np.bincount(cells.ravel(), minlength=settings) / cells.size
    where = "other seeds and other prompts" if seeds > 1 else "other prompts"
    return Tuned(picked, share, f"each setting chosen on {where} than those compared ({parts} folds)")
