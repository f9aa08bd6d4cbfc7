"""Simulated matrices with known effects: scores of every arm, and the rows of the dynamic runs. No training.

A score of arm m under seed s on prompt p is

    0.5 + difficulty_p + luck_s + effect_m + A_ms + B_mp + E_msp

`luck_s` and `difficulty_p` are shared by the arms and cancel in paired differences; A, B and E are the arm's own and are
what a paired difference is made of: twice their variances.
"""

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from reports.statistics.crossed import crossed_mean
from reports.statistics.design import Spread
from reports.statistics.moderated import prior
from reports.verdict.evidence import Contrast, Evidence

Floats = NDArray[np.float64]
ARMS = ("baseline", "method", "matched_mean", "permuted", "rival")
STEPS, BATCH = 50, 4
DIFFICULTY, LUCK = 0.2, 0.05
#: Standard deviations of a paired difference between two arms, of one size in the mean over 5 seeds x 200 prompts.
ORDINARY = Spread(seed=0.02, prompt=0.14, residual=0.42)
EFFECT = 0.06


@dataclass(frozen=True, slots=True)
class World:
    """What is true. `mean`, `variation` and `link` add up: a fixed beta of the dynamic average has the first, its
    shuffled betas the first two, the method all three; a rival method has none.

    `association` is the sign of the true correlation of beta with delta inside a run.
    """

    name: str
    text: str
    mean: float = 0.0
    variation: float = 0.0
    link: float = 0.0
    spread: Spread = ORDINARY
    rows: str = "independent"
    association: int = 0
    binary: bool = False

    @property
    def gain(self) -> float:
        return self.mean + self.variation + self.link

    def true(self, asserts: str) -> bool:
        """Whether what a claim asserts of the method holds here."""
        return {"gain": self.gain, "variation": self.variation + self.link, "perplexity": self.link}[asserts] > 0

    @property
    def effects(self) -> dict[str, float]:
        shuffled = self.mean + self.variation
        return {"baseline": 0.0, "method": self.gain, "matched_mean": self.mean, "permuted": shuffled, "rival": 0.0}


WORLDS = (
    World("no_effect", "no method differs"),
    World("mean_beta", "only the average beta helps", mean=EFFECT),
    World("variation", "any spread of beta helps", variation=EFFECT),
    World("perplexity", "beta scaled by perplexity helps", link=EFFECT, rows="linked", association=1),
    World("simpson", "no effect; runs hide the sign", rows="simpson", association=-1),
    World("seed_variance", "no effect; seeds dominate", spread=Spread(0.10, 0.14, 0.42)),
    World("seed_variance_gain", "an effect; seeds dominate", mean=2 * EFFECT, spread=Spread(0.10, 0.14, 0.42)),
    World("prompt_variance", "no effect; prompts dominate", spread=Spread(0.01, 0.50, 0.30)),
    World("autocorrelated", "no effect; rows drift", rows="autocorrelated"),
    World("pass_or_fail", "no effect; scores 0 or 1", binary=True),
)


@dataclass(frozen=True, slots=True)
class Simulated:
    """One matrix: scores by arm, shape (seeds, prompts); beta, delta and loss of the dynamic runs, (seeds, rows)."""

    scores: dict[str, Floats]
    beta: Floats
    delta: Floats
    loss: Floats
    steps: NDArray[np.int64]


def _scores(world: World, rng: np.random.Generator, seeds: int, prompts: int) -> dict[str, Floats]:
    half = 1 / math.sqrt(2)
    sd, arms = world.spread, len(ARMS)
    effects = np.array([world.effects[arm] for arm in ARMS])[:, None, None]
    shared = 0.5 + DIFFICULTY * rng.normal(size=(1, 1, prompts)) + LUCK * rng.normal(size=(1, seeds, 1))
    level = shared + effects + half * sd.seed * rng.normal(size=(arms, seeds, 1))
    level = level + half * sd.prompt * rng.normal(size=(arms, 1, prompts))
    if world.binary:
        values = (rng.random((arms, seeds, prompts)) < level).astype(float)
    else:
        values = level + half * sd.residual * rng.normal(size=(arms, seeds, prompts))
    return dict(zip(ARMS, values, strict=True))


def _drift(rng: np.random.Generator, shape: tuple[int, int], memory: float = 0.95) -> Floats:
    """Stationary AR(1) series of unit variance, one per row of the array."""
    from scipy.signal import lfilter

    shocks = rng.normal(size=shape) * math.sqrt(1 - memory**2)
    shocks[:, 0] = rng.normal(size=shape[0])
    series: Floats = lfilter([1.0], [1.0, -memory], shocks, axis=1)
    return series


def _rows(world: World, rng: np.random.Generator, seeds: int) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """beta, delta (seeds, rows) and the step of each row. delta rises while the policy learns."""
    n = STEPS * BATCH
    if world.rows == "autocorrelated":  # one pair a step; beta and delta drift, and both trend
        steps = np.arange(1, n + 1)
        trend = steps / n
        beta = 0.1 * np.exp(0.3 * trend + 0.2 * _drift(rng, (seeds, n)))
        return beta, 3 * trend + _drift(rng, (seeds, n)), steps
    steps = np.repeat(np.arange(1, STEPS + 1), BATCH)
    log_ppl = rng.normal(3.0, 0.6, (seeds, n)).clip(0.5)
    delta = 3 * steps / STEPS + rng.normal(0, 1.5, (seeds, n))
    beta = 0.035 * log_ppl
    if world.rows == "linked":
        delta = delta + 0.6 * (log_ppl - 3.0)
    elif world.rows == "simpson":  # runs that ended with a larger beta moved further, inside a run it is the reverse
        level = rng.normal(0, 1, (seeds, 1))
        delta = delta - 0.6 * (log_ppl - 3.0) + 2.0 * level
        beta = 0.035 * (log_ppl + 1.5 * level).clip(0.1)
    return beta, delta, steps


def simulate(world: World, index: int, seeds: int = 5, prompts: int = 200) -> Simulated:
    """Matrix number `index` of a world: the same one whenever it is asked for."""
    rng = np.random.default_rng([zlib.crc32(world.name.encode()), index, seeds, prompts])
    scores = _scores(world, rng, seeds, prompts)
    beta, delta, steps = _rows(world, rng, seeds)
    return Simulated(scores, beta, delta, np.logaddexp(0.0, -beta * delta), steps)


# Analyses that are common in papers and wrong for this question. They are here to be measured against, not used.
#
# Each takes simulated scores or rows and says whether its user would announce a result.

ALPHA = 0.05


def pooled_prompts(method: Floats, baseline: Floats) -> bool:
    """Welch's t test over all seed x prompt scores, shape (seeds, prompts), as if they were independent."""
    result = stats.ttest_ind(method.ravel(), baseline.ravel(), equal_var=False)
    return bool(result.pvalue <= ALPHA and result.statistic > 0)


def single_seed(method: Floats, baseline: Floats) -> bool:
    """One run of each, paired over prompts."""
    result = stats.ttest_rel(method[0], baseline[0])
    return bool(result.pvalue <= ALPHA and result.statistic > 0)


def best_seed(method: Floats, baseline: Floats) -> bool:
    """The method's best seed against the one run of the baseline, paired over prompts."""
    result = stats.ttest_rel(method[method.mean(axis=1).argmax()], baseline[0])
    return bool(result.pvalue <= ALPHA and result.statistic > 0)


def seeds_only(method: Floats, baseline: Floats) -> bool:
    """Paired t test over seeds, the prompts taken for the only ones there are."""
    result = stats.ttest_1samp((method - baseline).mean(axis=1), 0.0)
    return bool(result.pvalue <= ALPHA and result.statistic > 0)


GAINS = {
    "pooled_prompts": pooled_prompts,
    "single_seed": single_seed,
    "best_seed": best_seed,
    "seeds_only": seeds_only,
}


def pooled_correlation(x: Floats, y: Floats) -> int:
    """Sign of the Spearman correlation over the rows of all runs together, shape (runs, rows); 0 where p > .05."""
    result = stats.spearmanr(x.ravel(), y.ravel())
    return int(np.sign(result.statistic)) if result.pvalue <= ALPHA else 0


def from_arrays(
    label: str, baseline: str, scores: Mapping[str, Floats], link: str = "which prompt gets which beta"
) -> Evidence:
    """Evidence from arrays of shape (seeds, prompts): `method`, `baseline` and any of the controls; higher is better.

    The arms given lend one another their spread over seeds, as those of a matrix do.
    """
    levels, names = np.array([cells.mean(axis=1) for cells in scores.values()]), list(scores)
    found = {}
    for role, values in scores.items():
        if role != "method":
            lent = prior(levels, names.index("method"), names.index(role), values.shape[1])
            name = baseline if role == "baseline" else role
            found[role] = Contrast(role, label, name, crossed_mean(scores["method"] - values, lent))
    return Evidence(label, found, link=link)
