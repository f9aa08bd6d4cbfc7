"""Families of claims in worlds whose truth is known: many matrices at once, judged by the function that the report calls.

A score of arm m under seed s on prompt p is effect_m + A_ms + B_mp + E_msp (what all arms share cancels in differences).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from reports.statistics.crossed import CrossedMean, Prior, crossed_mean
from reports.statistics.design import Spread
from reports.statistics.family import WORDS, Asserted, Claimed, Weaker, compare_arms, failure_bounds, judge_family
from reports.statistics.intervals import group_columns
from reports.statistics.multiplicity import ALPHA, Look, holm

Floats = NDArray[np.float64]
EFFECT = 0.06
ORDINARY = Spread(seed=0.02, prompt=0.14, residual=0.42)
DOMINATING = Spread(seed=0.10, prompt=0.14, residual=0.42)
ARMS = ("baseline", "method", "matched_mean", "permuted", "rival")
GAIN, VARIATION, PERPLEXITY, RIVAL = FAMILY = (
    Asserted("method", ("baseline",), EFFECT / 2),
    Asserted("method", ("baseline", "matched_mean"), EFFECT / 2),
    Asserted("method", ("baseline", "matched_mean", "permuted"), EFFECT / 2),
    Asserted("rival", ("baseline",), EFFECT / 2),
)
CHUNK = 250
_HELPS = [list(WORDS).index(word) for word in ("better by more than m", "better")]


def with_failures(
    first: Floats, second: Floats, worst: float, best: float, lent: Prior | None = None
) -> CrossedMean | Weaker:
    """The comparison of two arms, scores of shape (seeds, prompts) with a row of NaN for every run that failed.

    As observed on the seeds that both finished (`lent`: see crossed_mean), and where any failed also with the failures at
    the worst score for the claim and at the best one: a failed run of the first arm at `worst` and one of the second at
    `best`, and the reverse.
    """
    difference = first - second
    observed = crossed_mean(difference[np.isfinite(difference).all(axis=1)], lent)
    bounds = failure_bounds(first, second, worst, best)
    return observed if bounds is None else Weaker(observed, *bounds)


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return rng.standard_normal(shape)


def heavy(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Student's t with 3 degrees of freedom, variance 1."""
    return rng.standard_t(3, shape) / math.sqrt(3)


def left_skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """An exponential turned round, mean 0, variance 1, skewness -2."""
    return 1 - rng.exponential(size=shape)


def collapsing(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """One seed in ten collapses, by ten times the spread of the others; mean 0."""
    return 1.0 + rng.standard_normal(shape) - 10 * (rng.random(shape) < 0.1)


@dataclass(frozen=True)
class Family:
    """A world. `effects`, `noisier` (factor on A) by arm; `settings` by arm where there is more than one."""

    name: str
    text: str
    effects: Mapping[str, float] = field(default_factory=dict)
    spread: Spread = ORDINARY
    noisier: Mapping[str, float] = field(default_factory=dict)
    seed_law: Callable[[np.random.Generator, tuple[int, ...]], Floats] = normal
    skewed_arm: str | None = None  # only this arm's seeds follow the law
    settings: Mapping[str, int] = field(default_factory=dict)
    seeds: int = 5
    prompts: int = 200
    binary: float | None = None  # rate of right answers
    clusters: bool = False
    claims: tuple[Asserted, ...] = FAMILY
    arms: tuple[str, ...] = ARMS
    limit: bool = False  # a world that no method of this kind can hold; reported, no bound

    def true(self, claim: Asserted) -> bool:
        own = self.effects.get(claim.method, 0.0)
        return all(own > self.effects.get(other, 0.0) for other in claim.others)

    def scores(self, rng: np.random.Generator, size: int) -> dict[str, Floats]:
        """Scores of every arm, shape (size, settings, seeds, prompts)."""
        half = 1 / math.sqrt(2)
        groups = np.arange(self.prompts) if not self.clusters else _clusters(self.prompts)
        found = {}
        for arm in self.arms:
            shape = (size, self.settings.get(arm, 1), self.seeds, self.prompts)
            law = self.seed_law if self.skewed_arm in (None, arm) else normal
            level = self.effects.get(arm, 0.0) + half * self.spread.seed * self.noisier.get(arm, 1.0) * law(
                rng, (*shape[:3], 1)
            )
            taste = rng.standard_normal((*shape[:2], 1, groups.max() + 1))[..., groups]
            level = level + half * self.spread.prompt * taste
            if self.binary is None:
                found[arm] = level + half * self.spread.residual * rng.standard_normal(shape)
            else:
                found[arm] = (rng.random(shape) < level + self.binary).astype(float)
        if self.clusters:
            found = {arm: group_columns(values, groups.tolist()) for arm, values in found.items()}
        return found


def _clusters(prompts: int) -> NDArray[np.int64]:
    """Groups of unequal sizes, 1 to 20 prompts, by prompt."""
    sizes = np.tile([1, 2, 4, 8, 15, 20], prompts)
    return np.repeat(np.arange(sizes.size), sizes)[:prompts]


def before(claims: list[Claimed]) -> NDArray[np.int64]:
    """What commit 5451eb5 said: every claim a test of its own, Holm over all of them; shape (matrices, claims)."""
    p = [np.maximum.reduce([np.minimum(1.0, 2 * np.asarray(n.p_above())) for n in c.needs if n]) for c in claims]
    helps = np.stack(holm(p), axis=-1) <= ALPHA
    return np.where(helps, _HELPS[1], list(WORDS).index("undecided"))


def rates(world: Family, matrices: int, chunk: int = CHUNK) -> dict[str, float]:
    """Share of matrices in which each claim helps, in which a false one does, and in which anything said is false.

    `before`: a false one helps by the rules of commit 5451eb5 (without variance of other arms); `found_before` likewise.
    """
    rng = np.random.default_rng([sum(map(ord, world.name)), matrices])
    found, old = [], []
    for start in range(0, matrices, chunk):
        scores = world.scores(rng, min(chunk, matrices - start))
        claims = compare_arms(scores, world.claims)
        found.append(np.stack([r.index for r in judge_family(claims)], axis=-1))
        old.append(before(compare_arms(scores, world.claims, moderated=False)))
    now, then = (summarise(world, np.concatenate(said)) for said in (found, old))
    return now | {"before": then["false"], "found_before": then[f"found{world.claims.index(PERPLEXITY)}"]}


def summarise(world: Family, said: NDArray[np.int64]) -> dict[str, float]:
    """`rates` from verdicts of shape (matrices, claims)."""
    helps = np.isin(said, _HELPS)
    hurts = np.isin(said, [list(WORDS).index(word) for word in ("worse", "equivalent")])
    true = np.array([world.true(c) for c in world.claims])
    false_word = (
        (helps & ~true)
        | (hurts & true)
        | (
            (said == list(WORDS).index("worse"))
            & ~true
            & ~np.array(
                [
                    any(world.effects.get(c.method, 0.0) < world.effects.get(o, 0.0) for o in c.others)
                    for c in world.claims
                ]
            )
        )
    )
    return {
        "false": float((helps & ~true).any(axis=1).mean()),
        "either": float(false_word.any(axis=1).mean()),
        **{f"found{i}": float(helps[:, i].mean()) for i in range(len(world.claims))},
    }


def crashed(world: Family, matrices: int, share: float = 0.2) -> dict[str, float]:
    """The worst runs of the method crash: judged with the worst-case bound, and (`dropped`) on the survivors alone."""
    rng = np.random.default_rng([7, matrices])
    said: list[list[int]] = []
    dropped: list[list[int]] = []
    for _ in range(matrices):
        scores = {arm: values[0, 0] + 0.5 for arm, values in world.scores(rng, 1).items()}
        own = scores["method"].copy()
        own[rng.random(world.seeds) < share * 2 * (own.mean(axis=1) < np.median(own.mean(axis=1)))] = np.nan
        lowest, highest = 0.0, 1.0
        needs = [with_failures(own, scores[arm], lowest, highest) for arm in ("baseline", "matched_mean", "permuted")]
        rival = with_failures(scores["rival"], scores["baseline"], lowest, highest)
        for out, parts in ((said, needs), (dropped, [getattr(n, "observed", n) for n in needs])):
            claims = [Claimed("own", tuple(parts[: i + 1]), EFFECT / 2) for i in range(3)]
            out.append([int(r.index) for r in judge_family([*claims, Claimed("rival", (rival,), EFFECT / 2)])])
    return summarise(world, np.array(said)) | {"dropped": summarise(world, np.array(dropped))["false"]}


def chosen_primary(world: Family, matrices: int, metrics: int = 4) -> dict[str, float]:
    """The metric with the smallest p is made the primary afterwards: the claims on it are exploratory, judged with all."""
    rng = np.random.default_rng([11, matrices])
    found = []
    for start in range(0, matrices, CHUNK):
        size = min(CHUNK, matrices - start)
        tried = [compare_arms(world.scores(rng, size), world.claims) for _ in range(metrics)]
        every = [replace(c, ladder=(i, c.ladder)) for i, claims in enumerate(tried) for c in claims]
        found.append(np.stack([r.index for r in judge_family(every, declared=False)], axis=-1))
    said = np.concatenate(found)
    return summarise(replace(world, claims=world.claims * metrics), said)


def looked(world: Family, matrices: int, planned: tuple[int, ...]) -> tuple[float, float]:
    """One claim of gain over declared looks: share of matrices that find it at some look, and seeds used on average."""
    rng = np.random.default_rng([13, matrices])
    found, used = [], []
    for start in range(0, matrices, CHUNK):
        size = min(CHUNK, matrices - start)
        scores = replace(world, seeds=planned[-1]).scores(rng, size)
        done, seeds = np.zeros(size, dtype=bool), np.full(size, planned[-1])
        for now in planned:
            so_far = {arm: scores[arm][:, :, :now] for arm in ("baseline", "method")}
            ruling = judge_family(compare_arms(so_far, [GAIN]), look=Look(now, planned))[0]
            hit = np.isin(ruling.index, _HELPS) & ~done
            seeds[hit] = now
            done |= hit
        found.append(done)
        used.append(seeds)
    return float(np.concatenate(found).mean()), float(np.concatenate(used).mean())


def _noisy(arm: str, factor: float) -> Family:
    return Family(
        f"{arm}_{factor:g}_times_noisier", f"seeds of {arm} spread {factor:g} times as far", noisier={arm: factor}
    )


WORLDS = (
    Family("no_effect", "no method differs"),
    Family("mean_beta", "only the average beta helps", {"method": EFFECT, "matched_mean": EFFECT, "permuted": EFFECT}),
    Family("variation", "any spread of beta helps", {"method": EFFECT, "permuted": EFFECT}),
    *(_noisy(arm, factor) for arm in ("baseline", "method", "permuted", "rival") for factor in (3, 10)),
    _noisy("baseline", 5),
    Family("seeds_dominate", "seeds spread far", spread=DOMINATING),
    Family(
        "seeds_dominate_10_times_noisier", "seeds spread far, those of one arm 10 times farther",
        spread=DOMINATING, noisier={"baseline": 10},
    ),
    Family(
        "sixteen_arms", "seeds spread far, those of one of sixteen arms 3 times farther",
        spread=DOMINATING, noisier={"baseline": 3},
        arms=(*ARMS, *(f"other {i}" for i in range(11))),
    ),
    Family("prompts_dominate", "methods differ by prompt", spread=Spread(0.01, 0.50, 0.30)),
    Family("heavy_tails", "seeds follow t with 3 degrees of freedom", spread=DOMINATING, seed_law=heavy),
    Family("left_skewed", "seeds are skewed to the left", spread=DOMINATING, seed_law=left_skewed),
    Family(
        "left_skewed_method", "seeds of the method alone are skewed to the left",
        spread=DOMINATING, seed_law=left_skewed, skewed_arm="method"
    ),
    Family("collapsing", "one seed in ten collapses, in every arm", spread=Spread(0.03, 0.14, 0.42), seed_law=collapsing),
    Family("clusters", "prompts share passages", spread=Spread(0.02, 0.30, 0.42), clusters=True),
    Family("best_of_four", "four settings of method and baseline", settings={a: 4 for a in ARMS if a != "rival"}),
    Family("pass_or_fail", "scores are 0 or 1", binary=0.5),
    Family("ties", "ten prompts, one right in ten", prompts=10, binary=0.1, spread=Spread(0.01, 0.03, 0.1)),
    Family("few_right", "scores are 0 or 1, few are right", prompts=40, binary=0.06, spread=Spread(0.01, 0.03, 0.1)),
)  # fmt: skip
HIDDEN = Family(
    "hidden_collapse", "a tenth of the method's seeds collapse, which makes up for its gain", limit=True,
    spread=Spread(0.03, 0.14, 0.42), seed_law=collapsing, skewed_arm="method",
)  # fmt: skip
FOUND = Family("perplexity", "beta scaled by perplexity helps", {"method": EFFECT})
