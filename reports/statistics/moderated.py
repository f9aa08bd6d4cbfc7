"""Seed variance moderated over the arms of a matrix: what the other arms say of a comparison's spread over seeds.

Five seeds leave four degrees of freedom for the variance of a difference. All arms of a matrix are trained with the same
seeds, so the others say something of it too. As in limma (Smyth 2004, 10.2202/1544-6115.1027) the comparison's own mean
square is averaged with theirs, which counts as much as the variances are alike: the prior's degrees of freedom are
estimated from how far those of all pairs of arms scatter beyond chance, and are bounded. A comparison that is itself far
noisier than the others is lent less (an outlier of the prior, as in Phipson et al. 2016, 10.1214/16-AOAS920).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize
from scipy.special import fdtrc, polygamma

from reports.statistics.crossed import Prior

Floats = NDArray[np.float64]
#: Most degrees of freedom that other arms lend, however alike they are, and the chance of a mean square so far above theirs
#: below which they lend less, in proportion. Both chosen by simulation: one of 5 to 16 arms 2 to 30 times noisier.
MOST_BORROWED = 8.0
OUTLYING = 0.1
_LEAST = 1e-5  # of the mean variance: an arm whose seeds agree exactly has no logarithm


def trigamma_inverse(values: ArrayLike) -> Floats:
    """y with trigamma(y) = x for x > 0, by Newton's method on 1 / trigamma (Smyth 2004, appendix)."""
    x = np.asarray(values, dtype=float)
    found = optimize.newton(
        lambda y: 1 / polygamma(1, y) - 1 / x, 0.5 + 1 / x, lambda y: -polygamma(2, y) / polygamma(1, y) ** 2,
        tol=1e-10, full_output=True, disp=False,
    )  # fmt: skip
    return np.asarray(found[0])


def prior_degrees(variances: ArrayLike, degrees: float) -> Floats:
    """Degrees of freedom of the prior of sample variances, shape (..., n), with `degrees` each; inf where they are alike.

    Moments of the log variances (Smyth 2004, section 6.2): what they scatter beyond trigamma(degrees / 2) is the prior's.
    """
    v = np.asarray(variances, dtype=float)
    least = _LEAST * v.mean(axis=-1, keepdims=True)
    logs = np.log(np.maximum(v, np.where(least > 0, least, 1.0)))
    beyond = logs.var(axis=-1, ddof=1) - polygamma(1, degrees / 2)
    return np.asarray(np.where(beyond > 0, 2 * trigamma_inverse(np.where(beyond > 0, beyond, 1.0)), np.inf))


def prior(levels: ArrayLike, first: int, second: int, prompts: int) -> Prior | None:
    """What the other arms say of the seed mean square of arm `first` minus arm `second`; None for fewer than three arms.

    `levels`: mean scores of every arm under every seed, shape (..., arms, seeds), over the same `prompts` prompts. The
    mean square is that of the arms x seeds interaction less the part that is the comparison's own, so no value counts
    twice; with alike arms and no bound it is the pooled one.
    """
    table = np.asarray(levels, dtype=float)
    arms, seeds = table.shape[-2:]
    if arms < 3 or seeds < 2:
        return None
    units = seeds - 1
    centred = table - table.mean(axis=-1, keepdims=True)
    together = np.square(centred - centred.mean(axis=-2, keepdims=True)).sum(axis=(-2, -1))
    own = np.square(centred[..., first, :] - centred[..., second, :]).sum(axis=-1) / 2
    rest = np.maximum(together - own, 0.0) / ((arms - 2) * units)
    one, other = np.triu_indices(arms, 1)
    lent = prior_degrees((centred[..., one, :] - centred[..., other, :]).var(axis=-1, ddof=1), units)
    lent = np.minimum(lent, min(MOST_BORROWED, (arms - 2) * units))
    chance = fdtrc(units, (arms - 2) * units, own / units / np.maximum(rest, 1e-300))
    return Prior(np.asarray(2 * prompts * rest), np.asarray(lent * np.minimum(1.0, chance / OUTLYING)))
