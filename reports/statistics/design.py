"""Power and sample size of a study, and the thresholds of its verdict."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from reports.statistics.best_settings import Paid
from reports.statistics.crossed import MeanSquares, variance_of_mean
from reports.statistics.family import Asserted, Claimed, Comparison, compare_arms, judge_family
from reports.statistics.multiplicity import ALPHA as ALPHA
from reports.statistics.multiplicity import LEAST_SEEDS as LEAST_SEEDS
from reports.statistics.multiplicity import Look

Floats = NDArray[np.float64]

# Before training: about what a design of S seeds and P prompts can find, from three standard deviations.
#
# A paired difference of two methods under seed s on prompt p is delta + A_s + B_p + E_sp. Its mean over the design has
# variance sd_seed^2 / S + sd_prompt^2 / P + sd_residual^2 / (S P): more prompts never replace seeds, nor seeds prompts.


@dataclass(frozen=True, slots=True)
class Spread:
    """Standard deviations of a paired difference: between seeds, between prompts, and what is left per cell."""

    seed: float
    prompt: float
    residual: float

    @property
    def varies(self) -> bool:
        """Whether any of them is above 0. A metric that two methods share on every prompt has none, and no design to plan."""
        return any((self.seed, self.prompt, self.residual))


def components(squares: Sequence[MeanSquares], bound: float = 0.8) -> tuple[Spread, Spread]:
    """Spread estimated from finished comparisons: as estimated, and cautious.

    Mean squares are averaged over the comparisons (all of one shape); a negative component is 0. The cautious one has
    every mean square at its upper confidence bound, with the degrees of freedom of one comparison (they share a
    baseline): two or three pilot seeds can look alike by luck.
    """
    seeds, prompts = squares[0].seeds, squares[0].prompts
    units = np.array([seeds - 1, prompts - 1, (seeds - 1) * (prompts - 1)])
    mean = np.mean([[s.seed, s.prompt, s.residual] for s in squares], axis=0)
    worst = mean * units / stats.chi2.ppf(1 - bound, units)

    def spread(seed: float, prompt: float, residual: float) -> Spread:
        between_seeds = math.sqrt(max(seed - mean[2], 0.0) / prompts)
        return Spread(between_seeds, math.sqrt(max(prompt - mean[2], 0.0) / seeds), math.sqrt(residual))

    return spread(*mean), spread(*worst)


def expected_squares(spread: Spread, seeds: int, prompts: int) -> MeanSquares:
    """Mean squares a design gives on average: what its interval will be made from."""
    rest = spread.residual**2
    return MeanSquares(prompts * spread.seed**2 + rest, seeds * spread.prompt**2 + rest, rest, seeds, prompts)


def power(spread: Spread, effect: float, seeds: int, prompts: int, alpha: float = 0.05) -> float:
    """Chance that a true difference `effect` is found in its own direction (two-sided alpha), noncentral t."""
    variance, degrees = variance_of_mean(expected_squares(spread, seeds, prompts))
    critical = float(stats.t.ppf(1 - alpha / 2, degrees))
    found = float(stats.nct.sf(critical, degrees, abs(effect) / math.sqrt(variance)))
    # scipy's noncentral t is undefined far out, where the answer is certain.
    return found if math.isfinite(found) else 1.0


def needed(
    spread: Spread,
    effect: float,
    *,
    seeds: int | None = None,
    prompts: int | None = None,
    alpha: float = 0.05,
    wanted: float = 0.8,
    least: int = 2,
    limit: int = 100_000,
) -> int | None:
    """Smallest number of seeds (given `prompts`) or prompts (given `seeds`) that finds `effect` with chance `wanted`.

    None where no number up to `limit` does: the other number is then the one to raise.
    """

    def enough(count: int) -> bool:
        return power(spread, effect, seeds or count, prompts or count, alpha) >= wanted

    return _smallest(enough, least, max(least, 2), 2.0, limit)


def _smallest(
    enough: Callable[[int], bool], least: int, start: int, growth: float, limit: int, share: float = 0.0
) -> int | None:
    """Smallest count from `least` on that is enough, to a share of itself; None where none up to `limit` is.

    Tries `start`, larger ones by `growth`, and then halves what lies between.
    """
    low, high = least - 1, start
    while not enough(high):
        low, high = high, math.ceil(high * growth)
        if high > limit:
            return None
    while high - low > max(1, share * high):
        middle = (low + high) // 2
        low, high = (low, middle) if middle >= 2 and enough(middle) else (middle, high)
    return high


# What could have been seen: minimum detectable effect, and how many seeds or prompts a given effect needs.


#: z(.975) + z(.80): two-sided .05 with power .80.
DETECTION = float(stats.norm.ppf(0.975) + stats.norm.ppf(0.80))


def minimum_detectable_effect(stderr: float, degrees: float | None = None) -> float:
    """Smallest true difference found in 80 % of repetitions at two-sided .05: 2.8016 * SE.

    With few units the standard error is itself a guess: give the degrees of freedom (seeds minus one, at least 1) and the t
    quantiles replace the normal ones (14.1 * SE for two seeds).
    """
    if degrees is None:
        return DETECTION * stderr
    return float(special.stdtrit(degrees, 0.975) + special.stdtrit(degrees, 0.80)) * stderr


# The same by simulation: matrices without an effect are judged by the function that judges the report's, and every effect
# asked for is then added to their differences.


MOST_PROMPTS = 200  # simulated; more are stood for by these, with the spread that their mean has
FEWEST_PROMPTS, MOST_CELLS = 20, 4000  # and with many seeds by fewer
_ROLES = ("method", "baseline", "matched_mean", "permuted")


def _shifted(comparison: Comparison | None, effect: float) -> Paid:
    """The comparison of simulated matrices with `effect` added to its differences."""
    assert isinstance(comparison, Paid)
    return replace(comparison, means=replace(comparison.means, value=comparison.means.value + effect))


class SimulatedDesign:
    """Matrices of a design without any difference: `looks` numbers of seeds (one: no interim look) and `prompts`.

    Args:
        spread: of a paired difference of two methods; each has half of the variance.
        asserts: what is claimed of the method, by the number of comparisons it needs: 1 against the baseline alone, 2
            with `matched_mean`, 3 with `permuted` too. Claims on fewer stand beside it, as rungs of its ladder.
        rivals: further methods, with one claim of a gain each and no effect.
        settings: of the method, of the baseline and of each control.
    """

    def __init__(
        self,
        spread: Spread,
        looks: Sequence[int],
        prompts: int,
        asserts: int = 1,
        rivals: int = 0,
        settings: int = 1,
        draws: int = 2000,
    ) -> None:
        self.looks = tuple(looks)
        self._plan = [Look(seeds, self.looks) if len(self.looks) > 1 else None for seeds in self.looks]
        self.asserts = asserts
        names = [*_ROLES[: asserts + 1], *(f"rival {i}" for i in range(rivals))]
        asked = [Asserted("method", _ROLES[1 : i + 2]) for i in range(asserts)]
        asked += [Asserted(name, ("baseline",)) for name in names[asserts + 1 :]]
        shown = min(prompts, MOST_PROMPTS, max(FEWEST_PROMPTS, MOST_CELLS // self.looks[-1]))
        scale = math.sqrt(shown / prompts / 2)
        rng = np.random.default_rng(0)
        self._chunks: list[list[list[Claimed]]] = []
        cells = len(names) * settings * self.looks[-1] * shown
        most = max(1, 8_000_000 // cells)
        self._sizes = [min(most, draws - start) for start in range(0, draws, most)]
        for size in self._sizes:
            scores = {}
            for name in names:
                count = settings if name in _ROLES else 1
                seeds = spread.seed / math.sqrt(2) * rng.standard_normal((size, count, self.looks[-1], 1))
                taste = spread.prompt * scale * rng.standard_normal((size, count, 1, shown))
                rest = spread.residual * scale * rng.standard_normal((size, count, self.looks[-1], shown))
                scores[name] = seeds + taste + rest
            parts = [{n: v[:, :, :seeds] for n, v in scores.items()} for seeds in self.looks]
            self._chunks.append([compare_arms(part, asked) for part in parts])

    def found(self, effect: float) -> tuple[float, float]:
        """Chance that the strongest claim is found where the method is `effect` better than all it is compared with, and
        the seeds used on average: a matrix stops at the look that finds it."""
        hits, used = [], []
        for size, looks in zip(self._sizes, self._chunks, strict=True):
            done, seeds = np.zeros(size, dtype=bool), np.full(size, float(self.looks[-1]))
            for now, plan, claims in zip(self.looks, self._plan, looks, strict=True):
                moved = [replace(c, needs=tuple(_shifted(n, effect) for n in c.needs)) for c in claims]
                ruling = judge_family([*moved[: self.asserts], *claims[self.asserts :]], look=plan)[self.asserts - 1]
                hit = (ruling.p["better"] <= ALPHA) & ~done
                seeds[hit] = now
                done |= hit
            hits.append(done)
            used.append(seeds)
        return float(np.concatenate(hits).mean()), float(np.concatenate(used).mean())

    def detectable(self, wanted: float = 0.8) -> float | None:
        """Smallest effect found with chance `wanted`, to a thousandth; None below LEAST_SEEDS seeds, where nothing is judged."""
        if self.looks[-1] < LEAST_SEEDS:
            return None
        low, high = 0.0, 1e-6
        while self.found(high)[0] < wanted:
            low, high = high, 4 * high
        while high - low > 1e-3 * high:
            middle = (low + high) / 2
            low, high = (middle, high) if self.found(middle)[0] < wanted else (low, middle)
        return high


MOST_SEEDS = 1000  # simulated; of more the noncentral t has to serve


def simulated_needed(
    spread: Spread,
    effect: float,
    *,
    seeds: int | None = None,
    prompts: int | None = None,
    rivals: int = 0,
    wanted: float = 0.8,
    limit: int = 10_000,
    draws: int = 1000,
) -> int | None:
    """`needed` by simulation, to about 2 %: seeds (given `prompts`) or prompts (given `seeds`) for one claim of a gain.

    `rivals` as in SimulatedDesign. None where no number up to `limit` does, or where there are too few seeds to judge.
    """
    least = LEAST_SEEDS if prompts is not None else 2
    guess = needed(spread, effect, seeds=seeds, prompts=prompts, alpha=ALPHA / (1 + rivals), least=least, limit=limit)
    if seeds is not None and seeds < LEAST_SEEDS:
        return None
    if guess is None or (seeds is None and guess > MOST_SEEDS):
        return guess

    def enough(count: int) -> bool:
        design = SimulatedDesign(spread, [seeds or count], prompts or count, rivals=rivals, draws=draws)
        return design.found(effect)[0] >= wanted

    return _smallest(enough, least, guess, 1.25, limit, 0.02)
