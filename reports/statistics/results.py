"""What every statistic returns: the number, how it was computed, from how many, and why it may not be trusted."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any


def _clean(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimate with its interval, in the unit of the data.

    `n` counts items (prompts, rows), `seeds` the training seeds where they are the unit. `estimate` is None when
    undefined, and then `note` says why.
    """

    estimate: float | None
    low: float | None
    high: float | None
    method: str
    n: int
    seeds: int | None = None
    stderr: float | None = None
    confidence: float = 0.95
    note: str | None = None

    def turned(self) -> Estimate:
        """The estimate of the opposite difference."""
        value, low, high = (None if v is None else -v for v in (self.estimate, self.high, self.low))
        return replace(self, estimate=value, low=low, high=high)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready: non-finite numbers become null, and a null estimate or interval has a `reason`."""
        value, low, high = _clean(self.estimate), _clean(self.low), _clean(self.high)
        undefined = value is None or low is None or high is None
        return {
            "value": value,
            "low": low,
            "high": high,
            "stderr": _clean(self.stderr),
            "confidence": self.confidence,
            "method": self.method,
            "n": self.n,
            "seeds": self.seeds,
            "note": self.note,
            "reason": (self.note or "not defined for these data") if undefined else None,
        }


@dataclass(frozen=True, slots=True)
class Test:
    """A two-sided test. `smallest_p` is the minimum possible p of the design, None where that is not a limit."""

    __test__ = False  # not a pytest class

    p_value: float | None
    method: str
    n: int
    seeds: int | None = None
    smallest_p: float | None = None
    note: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready; a null p has a `reason`."""
        p = _clean(self.p_value)
        return {
            "p_value": p,
            "method": self.method,
            "n": self.n,
            "seeds": self.seeds,
            "smallest_p": _clean(self.smallest_p),
            "note": self.note,
            "reason": (self.note or "not defined for these data") if p is None else None,
        }


def undefined(method: str, n: int, note: str, seeds: int | None = None) -> Estimate:
    """An estimate that does not exist, with the reason."""
    return Estimate(None, None, None, method, n, seeds, note=note)
