"""Adjusted p-values: Holm for declared comparisons, Benjamini-Hochberg for exploratory ones. None stays None."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def _adjust(p_values: Sequence[float | None], step_down: bool) -> list[float | None]:
    known = [i for i, p in enumerate(p_values) if p is not None]
    p = np.array([p_values[i] for i in known], dtype=float)
    if ((p < 0) | (p > 1) | ~np.isfinite(p)).any():
        raise ValueError("adjusting p-values: every p must lie in 0..1")
    order, m = np.argsort(p, kind="stable"), p.size
    adjusted = np.empty(m)
    if step_down:
        adjusted[order] = np.maximum.accumulate(p[order] * (m - np.arange(m)))
    else:
        adjusted[order[::-1]] = np.minimum.accumulate(p[order][::-1] * m / np.arange(m, 0, -1))
    out: list[float | None] = [None] * len(p_values)
    for i, value in zip(known, np.minimum(adjusted, 1.0), strict=True):
        out[i] = float(value)
    return out


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjusted p-values (family-wise error), in the order given."""
    return _adjust(p_values, step_down=True)


def benjamini_hochberg(p_values: Sequence[float | None]) -> list[float | None]:
    """Benjamini-Hochberg adjusted p-values (false discovery rate), in the order given."""
    return _adjust(p_values, step_down=False)
