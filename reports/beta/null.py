"""What correlation beta and loss would have if it did not matter which pair got which beta.

The loss is -log sigmoid(beta * delta), so it contains beta. The null shuffles beta among the pairs of a step and
recomputes the loss from the recorded delta.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from reports.beta.cells import Floats
from reports.schema.beta import LossNull
from reports.statistics.association import varies

WARNING = (
    "Part of the correlation of dynamic_beta with the loss is algebra, not evidence: the loss is "
    "-log sigmoid(beta * delta) and so contains beta. Compare it with the null, where beta is shuffled among the pairs of a "
    "step, and read the beta-free rows (delta, loss at the fixed beta, prompt perplexity) first."
)
DRAWS = 199
MOST_ROWS = 1_000
BLOCK = 8  # rows that exchange beta where a step holds a single pair


def sigmoid_loss(beta: Floats, delta: Floats) -> Floats:
    """-log sigmoid(beta * delta), elementwise and without overflow."""
    loss: Floats = np.logaddexp(0.0, -beta * delta)
    return loss


def _blocks(steps: NDArray[Any]) -> tuple[NDArray[np.int64], str]:
    """Group label per row within which beta may be exchanged, and how to describe it."""
    _, label, counts = np.unique(steps, return_inverse=True, return_counts=True)
    if counts.size and np.median(counts) >= 2:
        return label.astype(np.int64), "within a step"
    order = np.argsort(steps, kind="stable")
    blocks = np.empty(steps.size, dtype=np.int64)
    blocks[order] = np.arange(steps.size) // BLOCK
    return blocks, f"within {BLOCK} neighbouring pairs (a step holds one)"


def permutation_null(beta: Floats, delta: Floats, steps: NDArray[Any], draws: int = DRAWS, seed: int = 0) -> LossNull:
    """Spearman(beta, loss) with the loss recomputed from delta, observed and with beta permuted; arrays of shape (n,).

    Returns the observed value, the null's mean and central 95 %, and the two-sided p: the share of draws at least as far
    from the null's mean as the observed value, that one counted among them. Above MOST_ROWS rows a seeded sample of
    whole steps stands for all; `n` counts the rows used.
    """
    rng = np.random.default_rng(seed)
    ok = np.isfinite(beta) & np.isfinite(delta)
    beta, delta = beta[ok], delta[ok]
    blocks, where = _blocks(steps[ok])
    if beta.size > MOST_ROWS:  # whole steps, or where steps are single rows whole stretches
        names = np.unique(blocks)
        some = np.isin(blocks, rng.choice(names, size=max(1, names.size * MOST_ROWS // beta.size), replace=False))
        beta, delta, blocks = beta[some], delta[some], blocks[some]
    if beta.size < 4 or not varies(beta) or not varies(delta):
        reason = "fewer than four pairs, or beta or delta does not vary"
        none = dict.fromkeys(("observed", "mean", "low", "high", "p_value"))
        return LossNull(**none, draws=0, n=beta.size, method="permuted beta", reason=reason)
    order = np.argsort(blocks, kind="stable")
    beta, delta, blocks = beta[order], delta[order], blocks[order]
    ranks = stats.rankdata(beta)
    # a block and a random key in one number: sorting it permutes every block at once; row 0 is the data as they are
    keys = blocks + rng.random((draws + 1, beta.size))
    shuffled = np.argsort(keys, axis=1)
    shuffled[0] = np.arange(beta.size)
    loss_ranks = stats.rankdata(sigmoid_loss(beta[shuffled], delta), axis=1)
    a, b = ranks[shuffled] - ranks.mean(), loss_ranks - loss_ranks.mean(axis=1, keepdims=True)
    rho = np.einsum("ij,ij->i", a, b) / np.sqrt(np.einsum("ij,ij->i", a, a) * np.einsum("ij,ij->i", b, b))
    observed, null = float(rho[0]), rho[1:]
    centre = float(null.mean())
    low, high = np.quantile(null, [0.025, 0.975]).tolist()
    far = np.abs(null - centre) >= abs(observed - centre) * (1 - 1e-12)
    return LossNull(
        observed=observed,
        mean=centre,
        low=low,
        high=high,
        p_value=float((far.sum() + 1) / (draws + 1)),
        draws=draws,
        n=beta.size,
        method=f"Spearman of beta and -log sigmoid(beta * delta), beta permuted {where}",
        reason=None,
    )
