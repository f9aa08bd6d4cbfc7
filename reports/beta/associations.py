"""Association of beta with another quantity: four coefficients, three ways (raw, detrended, partial), honest intervals.

Rows come in order of time and neighbours are alike, so every interval uses the effective number of points of the very
two series that were correlated (ranks for Spearman and Kendall, residuals where something is held constant).
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.fft import irfft, next_fast_len, rfft

from reports.beta.cells import NORMAL, Floats, cell, fisher_cell
from reports.schema.beta import Association, Cell, FourCorrelations, LagSeries, Partial, TwoCorrelations
from reports.statistics.association import autocorrelation, varies

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


def effective(a: Unit, b: Unit) -> float:
    """Points that independent ones would be worth for the correlation (Bretherton 1999): the sum of the products of the
    autocorrelations up to the first that is not positive."""
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


def _nothing(reason: str) -> FourCorrelations:
    none = cell(None, reason=reason)
    return FourCorrelations(pearson=none, spearman=none, kendall=none, xi=none, n_eff=None)


def _neither(reason: str) -> TwoCorrelations:
    return TwoCorrelations(pearson=cell(None, reason=reason), spearman=cell(None, reason=reason))


class _Series:
    """A series, shape (n,), with its unit and that of its ranks; a unit is None where nothing varies."""

    def __init__(self, values: Floats, least: float = 0.0) -> None:
        self.values, self.unit, self.ranks = values, unit(values, least), unit(stats.rankdata(values))


def _four(x: _Series, y: _Series) -> FourCorrelations:
    """Pearson, Spearman, Kendall, xi of x and y."""
    if x.unit is None or y.unit is None or x.ranks is None or y.ranks is None:
        return _nothing(CONSTANT)
    spearman, size = _coefficient(x.ranks, y.ranks, "spearman")
    a, b, n = x.values, y.values, x.values.size
    if n > KENDALL_ROWS:
        some = np.sort(np.random.default_rng(0).choice(n, KENDALL_ROWS, replace=False))
        a, b = a[some], b[some]
    tau = float(stats.kendalltau(a, b).statistic)
    mixed = np.random.default_rng(0).permutation(a.size)  # so that ties in a fall in random order
    # a sample of m rows adds 1/m - 1/n to the variance that the n rows have
    worth = 1 / (1 / a.size + 1 / size - 1 / n)
    return FourCorrelations(
        pearson=_coefficient(x.unit, y.unit, "pearson")[0],
        spearman=spearman,
        kendall=fisher_cell(tau, worth, "kendall") if np.isfinite(tau) else cell(None, reason=CONSTANT),
        xi=cell(float(stats.chatterjeexi(a[mixed], b[mixed]).statistic)),
        n_eff=size,
    )


def _basis(columns: Sequence[Floats]) -> Floats:
    """Orthonormal columns, shape (n, k), that span the constant and the columns; collinear ones are dropped."""
    table = np.column_stack([np.ones(columns[0].size), *((c - c.mean()) / (np.ptp(c) or 1.0) for c in columns)])
    left, size, _ = np.linalg.svd(table, full_matrices=False)
    return np.asarray(left[:, size > 1e-9 * size[0]])


def _residual(x: Floats, basis: Floats) -> Floats:
    return np.asarray(x - basis @ (basis.T @ x))


def _left(series: Floats, basis: Floats, share: float = 1e-7) -> Unit | None:
    """What is left of a series; None where less than this share of its energy is."""
    return unit(_residual(series, basis), share * float(np.sum((series - series.mean()) ** 2)))


#: What a partial coefficient is computed from, by its kind.
_SCALES: dict[str, Callable[[Floats], Floats]] = {"pearson": np.asarray, "spearman": stats.rankdata}


#: beta with some columns held constant: the rows where these are known, and by kind of coefficient the basis that they span and
#: what is left of beta.
_Held = tuple[NDArray[np.bool_], dict[str, tuple[Floats, Unit | None]]]


def _hold(beta: Floats, held: Sequence[Floats]) -> _Held | None:
    """None where the columns are not recorded or do not vary."""
    known: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(held)) if held else np.zeros(beta.size, dtype=bool)
    used = [column[known] for column in held if known.sum() > 3 and varies(column[known])]
    spans = {kind: _basis([scale(column) for column in used]) for kind, scale in _SCALES.items() if used}
    bases = {kind: (basis, _left(_SCALES[kind](beta[known]), basis)) for kind, basis in spans.items()}
    return (known, bases) if used else None


class _Prepared:
    """beta over some rows: as it is, less a straight line in the step (of this basis), and with each set held constant."""

    def __init__(self, beta: Floats, steps: Floats, given: Mapping[str, Sequence[Floats]]) -> None:
        self.line = _basis([steps]) if varies(steps) else np.full((beta.size, 1), beta.size**-0.5)
        self.raw = _Series(beta, 1e-12 * float(beta @ beta))
        self.detrended = _Series(_residual(beta, self.line), 1e-9 * float(np.sum((beta - beta.mean()) ** 2)))
        self.held = {name: _hold(beta, columns) for name, columns in given.items()}


class Against:
    """beta against many quantities of the same rows: what belongs to beta is computed once.

    `given` names the sets held constant for the partial coefficients; each is a mapping of column names to arrays.
    """

    def __init__(self, beta: Floats, steps: Floats, given: Mapping[str, Mapping[str, Floats]]) -> None:
        self.beta, self.steps, self.given = beta, steps, given

    @functools.cached_property
    def _whole(self) -> _Prepared:
        return self._over(np.ones(self.beta.size, dtype=bool))

    def _over(self, keep: NDArray[np.bool_]) -> _Prepared:
        given = {name: [column[keep] for column in columns.values()] for name, columns in self.given.items()}
        return _Prepared(self.beta[keep], self.steps[keep], given)

    def row(self, name: str, other: Floats, contains_beta: bool) -> Association:
        """One row of the table: `other` has shape (n,); rows where it is not finite are left out."""
        keep = np.isfinite(self.beta) & np.isfinite(other)
        y = other[keep]
        reason = FEW if y.size < 4 else CONSTANT if not varies(y) or not varies(self.beta[keep]) else None
        if reason is not None:
            raw = detrended = _nothing(reason)
            partial = dict.fromkeys(self.given, _neither(reason))
        else:
            done = self._whole if keep.all() else self._over(keep)
            raw = _four(done.raw, _Series(y))
            detrended = _four(done.detrended, _Series(_residual(y, done.line), 1e-12 * float(y @ y)))
            partial = {key: self._partial(key, name, y, held) for key, held in done.held.items()}
        return Association(
            against=name,
            contains_beta=contains_beta,
            n=y.size,
            reason=reason,
            raw=raw,
            detrended=detrended,
            partial=Partial(**partial),
        )

    def _partial(self, key: str, name: str, y: Floats, held: _Held | None) -> TwoCorrelations:
        if name in self.given[key]:
            return _neither(f"{name} is itself held constant")
        if held is None:
            return _neither("what is to be held constant was not recorded or does not vary")
        found, (known, bases) = {}, held
        for kind, (basis, beta) in bases.items():
            other = _left(_SCALES[kind](y[known]), basis)
            found[kind] = (
                _coefficient(beta, other, kind, basis.shape[1] - 1)[0]
                if beta is not None and other is not None
                else cell(None, reason=_NOTHING_LEFT)
            )
        return TwoCorrelations(**found)


# Which comes first: cross-correlation of beta at a step with another quantity k logged steps later.


MOST = 20
FEWEST_STEPS = 16


def lag_correlation(
    beta: Floats, other: Floats, most: int = MOST, against: str = "other", contains_beta: bool = False
) -> LagSeries:
    """Correlation of differenced beta(t) with differenced other(t + k), series of shape (n,), k from -most to most.

    Differences take out trends, which correlate with everything. The standard error of each value is
    sqrt((1 + 2 sum_k r_xx(k) r_yy(k)) / (n - |k|)) (Bartlett 1946, for independent series), the sum up to n/4, and never
    below a quarter of the naive variance. `band` is 95 % for one lag. A
    positive k says that beta moved first. Null with a reason where fewer than 16 steps have both numbers.
    """
    keep = np.isfinite(beta) & np.isfinite(other)
    x, y = np.diff(beta[keep]), np.diff(other[keep])
    found = LagSeries(
        against=against, contains_beta=contains_beta, n=int(keep.sum()), lags=[], values=[], band=[], reason=None
    )
    if found.n < FEWEST_STEPS:
        return found.model_copy(update={"reason": f"fewer than {FEWEST_STEPS} logged steps with both numbers"})
    if not varies(beta[keep]) or not varies(other[keep]) or np.ptp(x) == 0 or np.ptp(y) == 0:
        return found.model_copy(update={"reason": "one of the two does not vary from step to step"})
    n = x.size
    most = min(most, n // 4)
    lags = np.arange(-most, most + 1)
    x, y = x - x.mean(), y - y.mean()
    values = np.correlate(y, x, mode="full")[n - 1 - most : n + most] / np.sqrt((x @ x) * (y @ y))
    memory = autocorrelation(x, n // 4) * autocorrelation(y, n // 4)
    error = np.sqrt(max(1 + 2 * float(memory.sum()), 0.25) / (n - np.abs(lags)))
    rounded = {"lags": lags, "values": np.round(values, 6), "band": np.round(NORMAL * error, 6)}
    return found.model_copy(update={name: series.tolist() for name, series in rounded.items()})
