"""The smallest result here: a number with its interval, or null with the reason."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
Cell = dict[str, Any]

#: Variance factors of Fisher's z: Fieller (1957) for Kendall; Spearman's depends on the value (Bonett and Wright 2000).
_KENDALL = 0.437
_NORMAL = float(stats.norm.ppf(0.975))


def cell(value: float | None, low: float | None = None, high: float | None = None, reason: str | None = None) -> Cell:
    """`reason` says why value or interval is null; a number that is not finite becomes null. Six digits are kept."""
    numbers = [None if v is None or not math.isfinite(v) else float(f"{v:.6g}") for v in (value, low, high)]
    if None not in numbers:
        reason = None
    elif reason is None:
        reason = "not defined for these data" if numbers[0] is None else "no interval is given for this statistic"
    return {"value": numbers[0], "low": numbers[1], "high": numbers[2], "reason": reason}


def fisher_cell(value: float, effective: float, kind: str, held: int = 0) -> Cell:
    """A correlation with its 95 % Fisher z interval from `effective` independent points, `held` of them spent on controls."""
    factor = _KENDALL if kind == "kendall" else 1 + value**2 / 2 if kind == "spearman" else 1.0
    freedom = effective - held - (4 if kind == "kendall" else 3)
    if freedom <= 1:
        return cell(value, reason=f"worth {effective:.1f} independent points: too few for an interval")
    half = _NORMAL * math.sqrt(factor / freedom)
    z = math.atanh(min(max(value, -1 + 1e-12), 1 - 1e-12))
    return cell(value, min(math.tanh(z - half), value), max(math.tanh(z + half), value))
