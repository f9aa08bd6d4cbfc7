"""Which comes first: cross-correlation of beta at a step with another quantity k logged steps later."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from ..statistics.association import varies
from ..statistics.autocorrelation import autocorrelation
from .cells import Floats

MOST = 20
FEWEST_STEPS = 16


def lag_correlation(beta: Floats, other: Floats, most: int = MOST) -> dict[str, Any]:
    """Correlation of differenced beta(t) with differenced other(t + k), series of shape (n,), k from -most to most.

    Differences take out trends, which correlate with everything. The standard error of each value is
    sqrt((1 + 2 sum_k r_xx(k) r_yy(k)) / (n - |k|)) (Bartlett 1946, for independent series), the sum up to n/4, and never
    below a quarter of the naive variance. `band` is 95 % for one lag, `band_all` for all lags together (Bonferroni). A
    positive k says that beta moved first. Null with a reason where fewer than 16 steps have both numbers.
    """
    keep = np.isfinite(beta) & np.isfinite(other)
    x, y = np.diff(beta[keep]), np.diff(other[keep])
    nothing: dict[str, Any] = {
        "n": int(keep.sum()), "lags": [], "values": [], "band": [], "band_all": [], "largest": None,
    }  # fmt: skip
    if keep.sum() < FEWEST_STEPS:
        return nothing | {"reason": f"fewer than {FEWEST_STEPS} logged steps with both numbers"}
    if not varies(beta[keep]) or not varies(other[keep]) or np.ptp(x) == 0 or np.ptp(y) == 0:
        return nothing | {"reason": "one of the two does not vary from step to step"}
    n = x.size
    most = min(most, n // 4)
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    lags = np.arange(-most, most + 1)
    values = np.correlate(y, x, mode="full")[n - 1 - most : n + most] / scale
    memory = autocorrelation(x, n // 4) * autocorrelation(y, n // 4)
    factor = max(1 + 2 * float(memory.sum()), 0.25)
    error = np.sqrt(factor / (n - np.abs(lags)))
    one, every = (float(special.ndtri(1 - 0.025 / m)) for m in (1, lags.size))
    top = int(np.argmax(np.abs(values) / error))
    return {
        "n": int(keep.sum()),
        "lags": lags.tolist(),
        "values": np.round(values, 6).tolist(),
        "band": np.round(one * error, 6).tolist(),
        "band_all": np.round(every * error, 6).tolist(),
        "largest": {
            "lag": int(lags[top]),
            "value": float(values[top]),
            "outside": bool(abs(values[top]) > every * error[top]),
        },
        "reason": None,
    }
