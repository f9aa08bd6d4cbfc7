"""Bradley-Terry strengths of all policies from their pairwise preferences, alone and with the style of the answers held equal.

Intervals: a bootstrap by prompt, or a cluster-robust variance by prompt where there are too many policies for that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.csgraph import connected_components
from scipy.special import expit, ndtri

from reports.statistics.results import Estimate
from reports.statistics.winrate import checked

Array = NDArray[np.float64]
#: Weak normal prior on a strength, as a precision: too small to be seen, it keeps a resample in which one policy wins
#: everything from having no solution.
PRIOR = 1e-4


@dataclass(frozen=True, slots=True)
class BradleyTerry:
    """Strengths (log odds) relative to the anchor policy, whose own is zero by definition.

    `strengths[k]` has the interval of the difference to the anchor, so both policies' noise is in it. `win_rates[k]` is
    the implied chance to be preferred to the anchor.
    """

    policies: tuple[str, ...]
    anchor: str
    strengths: tuple[Estimate, ...]
    win_rates: tuple[Estimate, ...]
    note: str | None

    def ranking(self) -> list[str]:
        """Policies from best to worst."""
        order = sorted(range(len(self.policies)), key=lambda k: -(self.strengths[k].estimate or 0.0))
        return [self.policies[k] for k in order]

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        rows = zip(self.policies, self.strengths, self.win_rates, strict=True)
        table = {name: {"strength": s.as_dict(), "win_rate": w.as_dict()} for name, s, w in rows}
        return {"anchor": self.anchor, "policies": table, "ranking": self.ranking(), "note": self.note}


def fit_strengths(wins: ArrayLike) -> Array:
    """Maximum-likelihood strengths, mean zero, shape (..., k), of win counts of shape (..., k, k).

    wins[i, j] is how often i beat j, a tie counting one half for each. Newton's method with a weak prior (`PRIOR`).
    """
    w = np.asarray(wins, dtype=float)
    k = w.shape[-1]
    games = w + np.swapaxes(w, -1, -2)
    s = np.zeros(w.shape[:-1])
    diagonal = np.arange(k)
    for _ in range(100):
        p = expit(s[..., :, None] - s[..., None, :])
        gradient = (w - games * p).sum(-1) - PRIOR * s
        curvature = games * p * (1 - p)
        hessian = -curvature
        hessian[..., diagonal, diagonal] += curvature.sum(-1) + PRIOR
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        # A full Newton step can overshoot when one policy wins nearly everything.
        step *= np.minimum(1.0, 2.0 / np.maximum(np.abs(step).max(-1, keepdims=True), 1e-300))
        s = s + step
        if np.abs(step).max() < 1e-10:
            break
    return np.asarray(s - s.mean(-1, keepdims=True))


def bradley_terry(
    first: Sequence[str],
    second: Sequence[str],
    preferences: ArrayLike,
    prompts: Sequence[object],
    anchor: str,
    replicates: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> BradleyTerry:
    """Strengths of all policies from n comparisons.

    Args:
        first, second: the policies compared, one of each per comparison.
        preferences: for `first`, in 0..1, one half for a tie, shape (n,); NaN is left out.
        prompts: what was asked, one per comparison; prompts are resampled with everything said about them.
        anchor: the policy whose strength is zero.

    Raises:
        ValueError: lengths differ, a policy against itself, an unknown anchor, or policies that no chain of
            comparisons connects.
    """
    p = checked(preferences)
    if not len(first) == len(second) == len(prompts) == p.size:
        raise ValueError("bradley_terry: first, second, preferences and prompts must have one entry per comparison")
    known = ~np.isnan(p)
    names = sorted(
        {name for row, keep in zip(zip(first, second, strict=True), known, strict=True) if keep for name in row}
    )
    if anchor not in names:
        raise ValueError(f"bradley_terry: no comparison with a verdict involves the anchor {anchor!r}")
    index = {name: i for i, name in enumerate(names)}
    i = np.array([index[name] for name, keep in zip(first, known, strict=True) if keep])
    j = np.array([index[name] for name, keep in zip(second, known, strict=True) if keep])
    if (i == j).any():
        raise ValueError(f"bradley_terry: {names[int(i[i == j][0])]!r} is compared with itself")
    labels = {value: g for g, value in enumerate(dict.fromkeys(str(x) for x in prompts))}
    g = np.array([labels[str(x)] for x, keep in zip(prompts, known, strict=True) if keep])
    p, k = p[known], len(names)
    tables = np.zeros((len(labels), k, k))
    np.add.at(tables, (g, i, j), p)
    np.add.at(tables, (g, j, i), 1 - p)
    wins = tables.sum(0)
    note = _note(wins, names, anchor)
    rng = np.random.default_rng(seed)
    seen = np.unique(g)
    weight = rng.multinomial(seen.size, np.full(seen.size, 1 / seen.size), size=replicates).astype(float)
    draws = fit_strengths((weight @ tables[seen].reshape(seen.size, k * k)).reshape(replicates, k, k))
    strengths = _relative(fit_strengths(wins), index[anchor])
    draws = _relative(draws, index[anchor])
    quantiles = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, high = np.quantile(draws, quantiles, axis=0)
    method = f"Bradley-Terry, bootstrap over {seen.size} prompts ({replicates} draws)"
    counts = np.bincount(np.concatenate([i, j]), minlength=k)

    def estimate(value: float, bounds: tuple[float, float], spread: Array, n: int, is_anchor: bool) -> Estimate:
        if is_anchor:
            return Estimate(value, None, None, method, n, note="the anchor: fixed, so it has no interval")
        return Estimate(value, *bounds, method, n, None, float(spread.std(ddof=1)), confidence, note)

    rows = [
        (
            estimate(
                float(strengths[m]), (float(low[m]), float(high[m])), draws[:, m], int(counts[m]), names[m] == anchor
            ),
            estimate(
                float(expit(strengths[m])),
                (float(expit(low[m])), float(expit(high[m]))),
                expit(draws[:, m]),
                int(counts[m]),
                names[m] == anchor,
            ),
        )
        for m in range(k)
    ]
    return BradleyTerry(tuple(names), anchor, tuple(r[0] for r in rows), tuple(r[1] for r in rows), note)


def _note(wins: Array, names: Sequence[str], anchor: str) -> str | None:
    """Why strengths are without bound, None where they are not. ValueError where comparisons do not connect all policies."""
    parts, member = connected_components(wins + wins.T, directed=False)
    if parts > 1:
        other = names[int(np.flatnonzero(member != member[names.index(anchor)])[0])]
        raise ValueError(f"bradley_terry: no chain of comparisons connects {other!r} with {anchor!r}")
    if connected_components(wins > 0, directed=True, connection="strong")[0] > 1:
        return "some policies never lost (or never won) against the others: their strengths are without bound"
    return None


def _relative(strengths: Array, anchor: int) -> Array:
    return np.asarray(strengths - strengths[..., anchor, None])


@dataclass(frozen=True, slots=True)
class Styled:
    """Strengths (log odds, the anchor's is 0) by policy, and the weight of each feature of style (log odds per standard
    deviation of the difference); both with intervals that are clustered by prompt."""

    anchor: str
    strengths: dict[str, Estimate]
    weights: dict[str, Estimate]
    note: str | None


def styled_strengths(
    first: Sequence[str],
    second: Sequence[str],
    preferences: ArrayLike,
    prompts: Sequence[object],
    anchor: str,
    features: Mapping[str, ArrayLike] | None = None,
    confidence: float = 0.95,
) -> Styled:
    """Strengths at equal style: logit P(first) = s_first - s_second + w . z, as LMSYS's arena fits it (style control, 2024).

    Args:
        first, second, preferences, prompts, anchor: as of `bradley_terry`.
        features: by name the difference in style of each comparison, (a - b) / (a + b) of a count, shape (n,); they are
            standardised here, and one that does not vary is left out. None: plain strengths.

    The variance is Huber's (1967), clustered by prompt. Raises ValueError as `bradley_terry` does.
    """
    p = checked(preferences)
    known = ~np.isnan(p)
    y, a, b = p[known], np.asarray(first)[known], np.asarray(second)[known]
    names = sorted({*a.tolist(), *b.tolist()})
    if anchor not in names:
        raise ValueError(f"bradley_terry: no comparison with a verdict involves the anchor {anchor!r}")
    i, j = np.searchsorted(names, a), np.searchsorted(names, b)
    wins = np.zeros((len(names), len(names)))
    np.add.at(wins, (i, j), y)
    np.add.at(wins, (j, i), 1 - y)
    note, rows = _note(wins, names, anchor), np.arange(y.size)
    x = np.zeros((y.size, len(names)))
    x[rows, i] += 1
    x[rows, j] -= 1
    free = [k for k, name in enumerate(names) if name != anchor]
    style = {name: np.asarray(values, dtype=float)[known] for name, values in (features or {}).items()}
    style = {name: (z - z.mean()) / z.std() for name, z in style.items() if np.ptp(z) > 0}
    x = np.column_stack([x[:, free], *style.values()])
    w = np.zeros(x.shape[1])
    for _ in range(100):
        q = expit(x @ w)
        curvature = (x.T * (q * (1 - q))) @ x + PRIOR * np.eye(w.size)
        step = np.linalg.solve(curvature, x.T @ (y - q) - PRIOR * w)
        w += step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-300))
        if np.abs(step).max() < 1e-10:
            break
    labels = {value: at for at, value in enumerate(dict.fromkeys(str(one) for one in prompts))}
    _, cluster = np.unique(np.array([labels[str(one)] for one in prompts])[known], return_inverse=True)
    clusters = int(cluster.max()) + 1
    sums = np.zeros((clusters, w.size))
    np.add.at(sums, cluster, x * (y - expit(x @ w))[:, None])
    bread = np.linalg.inv(curvature)
    errors = np.sqrt(np.diag(bread @ (sums.T @ sums) @ bread) * clusters / max(clusters - 1, 1))
    half = float(ndtri(0.5 + confidence / 2)) * errors
    name = f"Bradley-Terry{' with style' if style else ''}, variance clustered by {clusters} prompts"

    def estimate(k: int, n: int) -> Estimate:
        return Estimate(w[k], w[k] - half[k], w[k] + half[k], name, n, None, float(errors[k]), confidence, note)

    games = np.bincount(np.concatenate([i, j]), minlength=len(names))
    found = {names[k]: estimate(at, int(games[k])) for at, k in enumerate(free)}
    fixed = Estimate(
        0.0, None, None, name, int(games[names.index(anchor)]), note="the anchor: fixed, so it has no interval"
    )
    weights = {one: estimate(len(free) + at, y.size) for at, one in enumerate(style)}
    return Styled(anchor, {anchor: fixed, **found}, weights, note)
