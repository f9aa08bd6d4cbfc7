"""Bradley-Terry strengths of all policies from their pairwise preferences, with a cluster bootstrap by prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.csgraph import connected_components
from scipy.special import expit

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
    parts, member = connected_components(wins + wins.T, directed=False)
    if parts > 1:
        other = names[int(np.flatnonzero(member != member[index[anchor]])[0])]
        raise ValueError(f"bradley_terry: no chain of comparisons connects {other!r} with {anchor!r}")
    note = None
    if connected_components(wins > 0, directed=True, connection="strong")[0] > 1:
        note = "some policies never lost (or never won) against the others: their strengths are without bound"
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


def _relative(strengths: Array, anchor: int) -> Array:
    return np.asarray(strengths - strengths[..., anchor, None])
