"""Association of beta with another quantity: four coefficients, three ways (raw, detrended, partial), honest intervals.

Rows come in order of time and neighbours are alike, so every interval uses the effective number of points of the very
two series that were correlated (ranks for Spearman and Kendall, residuals where something is held constant).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special, stats
from scipy.fft import irfft, next_fast_len, rfft

from reports.beta.cells import Cell, Floats, cell, fisher_cell
from reports.statistics.association import autocorrelation, chatterjee_xi, varies

#: Kendall's tau and xi are computed on at most so many rows, a seeded sample.
KENDALL_ROWS = 2_000
#: Lags beyond this add nothing to the effective sample size but noise and time.
MOST_LAGS = 1_000
CONSTANT = "one of the two does not vary"
FEW = "fewer than four rows with both numbers"
_NOTHING_LEFT = "nothing varies once this is held constant"


@dataclass(frozen=True, slots=True)
class Unit:
    """A series centred and scaled to length 1, shape (n,), with its autocorrelation at lags 1..; None if constant."""

    values: Floats
    memory: Floats


def unit(series: Floats, least: float = 0.0) -> Unit | None:
    """None where the energy around the mean is not above `least`."""
    x = series - series.mean()
    energy = float(x @ x)
    if energy <= max(least, 1e-300):
        return None
    x = x / np.sqrt(energy)
    lags = min(x.size // 2, MOST_LAGS)
    spectrum = rfft(x, next_fast_len(x.size + lags + 1, real=True))
    power = spectrum.real**2 + spectrum.imag**2
    return Unit(x, irfft(power, next_fast_len(x.size + lags + 1, real=True))[1 : lags + 1])


def ranks(values: Floats) -> Floats:
    """scipy's rankdata, several times faster where nothing is tied."""
    order = np.argsort(values)
    inside = values[order]
    if inside.size > 1 and bool((inside[1:] == inside[:-1]).any()):
        tied: Floats = stats.rankdata(values)
        return tied
    out = np.empty(values.size)
    out[order] = np.arange(1.0, values.size + 1)
    return out


def effective(a: Unit, b: Unit) -> float:
    """Effective n (Bretherton 1999), as statistics.autocorrelation.effective_sample_size, from what is already there."""
    n = a.values.size
    product = a.memory * b.memory
    stop = np.flatnonzero(product <= 0)
    last = int(stop[0]) if stop.size else product.size
    k = np.arange(1, last + 1)
    inverse = 1 / n + 2 / n * float(((n - k) / n) @ product[:last])
    return float(np.clip(1 / inverse, 2.0, n))


def _coefficient(a: Unit, b: Unit, kind: str, held: int = 0) -> tuple[Cell, float]:
    size = effective(a, b)
    return fisher_cell(float(np.clip(a.values @ b.values, -1, 1)), size, kind, held), size


def _four(x: Floats, y: Floats, units: tuple[Unit, Unit, Unit, Unit]) -> dict[str, Any]:
    """Pearson, Spearman, Kendall, xi of x and y; units are those of x, y, rank x, rank y."""
    pearson, _ = _coefficient(units[0], units[1], "pearson")
    spearman, size = _coefficient(units[2], units[3], "spearman")
    n, some = x.size, slice(None)
    if n > KENDALL_ROWS:
        some = np.sort(np.random.default_rng(0).choice(n, KENDALL_ROWS, replace=False))  # type: ignore[assignment]
    a, b = x[some], y[some]
    tau = float(stats.kendalltau(a, b).statistic)
    # a sample of m rows adds 1/m - 1/n to the variance that the n rows have
    worth = 1 / (1 / a.size + 1 / size - 1 / n)
    kendall = fisher_cell(tau, worth, "kendall") if np.isfinite(tau) else cell(None, reason=CONSTANT)
    xi = chatterjee_xi(a, b).estimate
    return {
        "pearson": pearson,
        "spearman": spearman,
        "kendall": kendall,
        "xi": cell(xi),
        "n_eff": size,
        "kendall_rows": int(a.size),
    }


def _nothing(reason: str) -> dict[str, Any]:
    empty = {name: cell(None, reason=reason) for name in ("pearson", "spearman", "kendall", "xi")}
    return {**empty, "n_eff": None, "kendall_rows": 0}


def _basis(columns: Sequence[Floats]) -> Floats:
    """Orthonormal columns, shape (n, k), that span the constant and the columns; collinear ones are dropped."""
    table = np.column_stack([np.ones(columns[0].size), *((c - c.mean()) / (np.ptp(c) or 1.0) for c in columns)])
    left, size, _ = np.linalg.svd(table, full_matrices=False)
    basis: Floats = left[:, size > 1e-9 * size[0]]
    return basis


def _residual(x: Floats, basis: Floats) -> Floats:
    left: Floats = x - basis @ (basis.T @ x)
    return left


class Against:
    """beta against many quantities of the same rows: what belongs to beta is computed once.

    `given` names the sets held constant for the partial coefficients; each is a mapping of column names to arrays.
    """

    def __init__(self, beta: Floats, steps: Floats, given: Mapping[str, Mapping[str, Floats]]) -> None:
        self.beta, self.steps, self.given = beta, steps, given
        self._whole: dict[str, Any] = {}

    def _prepared(self, keep: Any) -> dict[str, Any]:
        """Units of beta and of its ranks, raw, detrended and partial, over the rows kept."""
        if self._whole and keep.all():
            return self._whole
        beta, steps = self.beta[keep], self.steps[keep]
        floor = 1e-12 * float(beta @ beta)
        line = _basis([steps]) if varies(steps) else np.full((beta.size, 1), beta.size**-0.5)
        flat = _residual(beta, line)
        order = ranks(beta)
        found: dict[str, Any] = {
            "line": line,
            "raw": (beta, unit(beta, floor), unit(order)),
            "detrended": (flat, unit(flat, 1e-9 * float(np.sum((beta - beta.mean()) ** 2))), None),
            "partial": {},
        }
        found["detrended"] = (*found["detrended"][:2], unit(ranks(flat)))
        for name, columns in self.given.items():
            held = [c[keep] for c in columns.values()]
            known = np.isfinite(np.column_stack(held)).all(axis=1) if held else np.zeros(beta.size, dtype=bool)
            used = [h[known] for h in held if known.sum() > 3 and varies(h[known])]
            if not used:
                found["partial"][name] = None
                continue
            pair = []
            for series, controls in (
                (beta[known], used),
                (ranks(beta[known]), [ranks(u) for u in used]),
            ):
                basis = _basis(controls)
                left = unit(_residual(series, basis), 1e-7 * float(np.sum((series - series.mean()) ** 2)))
                pair.append((basis, left))
            found["partial"][name] = (known, pair)
        if keep.all():
            self._whole = found
        return found

    def row(self, name: str, other: Floats, contains_beta: bool) -> dict[str, Any]:
        """One row of the table: `other` has shape (n,); rows where it is not finite are left out."""
        keep = np.isfinite(self.beta) & np.isfinite(other)
        n = int(keep.sum())
        row: dict[str, Any] = {"against": name, "contains_beta": contains_beta, "n": n, "reason": None}
        y = other[keep]
        reason = FEW if n < 4 else CONSTANT if not varies(y) or not varies(self.beta[keep]) else None
        if reason is not None:
            none = {k: {c: cell(None, reason=reason) for c in ("pearson", "spearman")} for k in self.given}
            return row | {
                "raw": _nothing(reason),
                "detrended": _nothing(reason),
                "partial": none,
                "reason": reason,
            }
        done = self._prepared(keep)
        flat = _residual(y, done["line"])
        for level, values in (("raw", y), ("detrended", flat)):
            x, first, rank = done[level]
            units = (
                first,
                unit(values, 1e-12 * float(y @ y) * (level == "detrended")),
                rank,
                unit(ranks(values)),
            )
            row[level] = _nothing(CONSTANT) if any(u is None for u in units) else _four(x, values, units)  # type: ignore[arg-type]
        row["partial"] = {k: self._partial(k, name, y, done["partial"][k]) for k in self.given}
        return row

    def _partial(self, key: str, name: str, y: Floats, done: Any) -> dict[str, Cell]:
        reason = None
        if name in self.given[key]:
            reason = f"{name} is itself held constant"
        elif done is None:
            reason = "what is to be held constant was not recorded or does not vary"
        if reason is not None:
            return {kind: cell(None, reason=reason) for kind in ("pearson", "spearman")}
        known, pair = done
        out = {}
        for kind, (basis, left) in zip(("pearson", "spearman"), pair, strict=True):
            series = y[known] if kind == "pearson" else ranks(y[known])
            right = unit(_residual(series, basis), 1e-7 * float(np.sum((series - series.mean()) ** 2)))
            if left is None or right is None:
                out[kind] = cell(None, reason=_NOTHING_LEFT)
            else:
                out[kind] = _coefficient(left, right, kind, basis.shape[1] - 1)[0]
        return out


# Which comes first: cross-correlation of beta at a step with another quantity k logged steps later.


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
