"""Families of claims: closed ladders, looks, verdict words, failed runs; and the power that simulation gives them."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from reports.statistics.best_settings import best_mean
from reports.statistics.crossed import CrossedMean, crossed_mean
from reports.statistics.design import SimulatedDesign, Spread, needed, power, simulated_needed
from reports.statistics.family import (
    WORDS,
    Asserted,
    Claimed,
    Weaker,
    compare_arms,
    judge_family,
    word_of,
)
from reports.statistics.moderated import prior
from reports.statistics.multiplicity import Look, closed_ladders, look_levels
from tests.simulation.families import with_failures

P = st.floats(1e-6, 1.0)
LADDERS = st.lists(st.lists(P, min_size=1, max_size=3).map(sorted), min_size=1, max_size=3)


@settings(deadline=None)
@given(st.lists(P, min_size=1, max_size=6))
def test_ladders_of_one_rung_are_holm(p: list[float]) -> None:
    assert closed_ladders(p, list("abcdef")[: len(p)]) == pytest.approx(multipletests(p, method="holm")[1])


@settings(deadline=None)
@given(LADDERS)
def test_ladders_are_the_closed_procedure(ladders: list[list[float]]) -> None:
    """Every intersection of nulls is the lowest false rung of some ladders; Bonferroni over these, all must reject."""
    places = [own for own, rungs in enumerate(ladders) for _ in rungs]
    found = iter(closed_ladders([p for rungs in ladders for p in rungs], places))
    lowest = [[None, *range(len(rungs))] for rungs in ladders]
    for own, rungs in enumerate(ladders):
        for rung in range(len(rungs)):
            worst = 0.0
            for picked in itertools.product(*lowest):
                if picked[own] is None or picked[own] > rung:  # the intersection does not imply this null
                    continue
                held = [ladders[i][at] for i, at in enumerate(picked) if at is not None]
                worst = max(worst, min(1.0, len(held) * min(held)))
            # A lower rung of its own ladder has a smaller p, so the worst intersection has the rung itself.
            assert float(next(found)) == pytest.approx(worst)


@pytest.mark.parametrize(
    ("looks", "bounds"),  # gsDesign 3.6: gsDesign(k, test.type = 1, alpha = .025, sfu = sfLDPocock)
    [([1, 2], [2.1570, 2.2010]), ([1, 2, 3], [2.2794, 2.2949, 2.2959])],
)
def test_levels_of_looks_are_those_of_lan_and_demets(looks: list[int], bounds: list[float]) -> None:
    assert stats.norm.isf(look_levels(tuple(looks), 0.025)) == pytest.approx(bounds, abs=1e-4)


def test_one_look_spends_all_and_a_look_knows_its_plan() -> None:
    assert list(look_levels((7,), 0.025)) == [pytest.approx(0.025)]
    assert Look(7, (7,)).overall([0.01, 0.2]) == pytest.approx([0.01, 0.2])
    for at, level in zip((6, 10), look_levels((6, 10), 0.025), strict=True):
        assert float(Look(at, (6, 10)).overall(level)) == pytest.approx(0.025, rel=2e-3)
    with pytest.raises(ValueError, match="rising"):
        look_levels((10, 6), 0.025)


def test_looks_hold_their_level_with_t_statistics() -> None:
    d = np.random.default_rng(0).normal(size=(100_000, 10))
    rejected = np.zeros(len(d), dtype=bool)
    for seeds in (6, 10):
        p = stats.ttest_1samp(d[:, :seeds], 0, axis=1, alternative="greater").pvalue
        rejected |= Look(seeds, (6, 10)).overall(p) <= 0.025
    assert rejected.mean() == pytest.approx(0.025, abs=0.0015)  # three standard errors


@pytest.mark.parametrize(
    ("p", "word"),
    [
        ({"better": 0.01, "better by more than m": 0.01, "equivalent": 1.0, "worse": 1.0}, "better by more than m"),
        ({"better": 0.01, "better by more than m": 0.3, "equivalent": 1.0, "worse": 1.0}, "better"),
        ({"better": 0.01, "better by more than m": 0.9, "equivalent": 0.01, "worse": 1.0}, "equivalent"),
        ({"better": 1.0, "better by more than m": 1.0, "equivalent": 0.04, "worse": 0.01}, "equivalent"),
        ({"better": 1.0, "equivalent": 1.0, "worse": 0.05}, "worse"),
        ({"better": 0.051, "equivalent": 0.2, "worse": 1.0}, "undecided"),
    ],
)
def test_five_words(p: dict[str, float], word: str) -> None:
    assert list(WORDS)[int(word_of({k: np.asarray(v) for k, v in p.items()}))] == word
    assert set(WORDS.values()) == {"supported", "equivalent", "refuted", "inconclusive"}


def scores(rng: np.random.Generator, effects: dict[str, float], size: int = 6) -> dict[str, np.ndarray]:
    return {arm: rng.normal(effect, 0.3, (size, 1, 6, 40)) for arm, effect in effects.items()}


def test_one_matrix_alone_is_judged_as_among_many() -> None:
    made = scores(np.random.default_rng(1), {"baseline": 0.0, "method": 0.06, "matched_mean": 0.0, "permuted": 0.02})
    asked = [Asserted("method", ("baseline", "matched_mean", "permuted")[: n + 1], 0.03) for n in range(3)]
    together = judge_family(compare_arms(made, asked))
    names = list(made)
    for i in range(6):
        levels = np.array([made[name][i, 0].mean(axis=1) for name in names])
        contrasts = tuple(
            crossed_mean(made["method"][i, 0] - made[other][i, 0], prior(levels, 1, names.index(other), 40))
            for other in ("baseline", "matched_mean", "permuted")
        )
        alone = judge_family([Claimed("ladder", contrasts[: n + 1], 0.03) for n in range(3)])
        for many, one in zip(together, alone, strict=True):
            assert int(many.index[i]) == int(one.index)
            assert {k: float(v[i]) for k, v in many.p.items()} == pytest.approx({k: float(v) for k, v in one.p.items()})


def test_best_of_several_settings_pays_in_both_forms() -> None:
    rng = np.random.default_rng(2)
    mine, theirs = rng.normal(0.1, 0.3, (3, 5, 30)), rng.normal(0, 0.3, (2, 5, 30))
    pairs = tuple(tuple(crossed_mean(a - b) for b in theirs) for a in mine)
    claim = compare_arms({"method": mine, "baseline": theirs}, [Asserted("method", ("baseline",))])[0]
    # Moderated there, not here: compare without what other arms lend.
    best = best_mean(pairs)
    (found,) = claim.needs
    assert found is not None and 0 < float(np.asarray(found.p_above())) <= 1
    p = np.array([[m.p_above() for m in row] for row in pairs], dtype=float)
    assert best.p_above() == pytest.approx(min(1.0, 3 * p.max(axis=1).min()))
    below = np.array([[m.p_below() for m in row] for row in pairs], dtype=float)
    assert best.p_below() == pytest.approx(min(1.0, 2 * below.max(axis=0).min()))


def test_the_family_keeps_its_size_whatever_happens() -> None:
    clear = CrossedMean(0.1, 0.035, 8.0, 5, 40)
    tied = crossed_mean(np.zeros((5, 40)))
    few = CrossedMean(0.1, 0.01, 2.0, 3, 40)
    alone = judge_family([Claimed("a", (clear,))])[0]
    assert alone.word == "better" and alone.testable
    for other in (tied, few, None):
        first, second = judge_family([Claimed("a", (clear,)), Claimed("b", (other,))])
        assert float(first.p["better"]) == pytest.approx(2 * float(alone.p["better"]))
        assert second.word == "undecided" and second.testable is (other is tied)


def test_exploratory_claims_are_corrected_for_their_false_share() -> None:
    means = [CrossedMean(value, 0.03, 10.0, 5, 40) for value in (0.12, 0.08, 0.0)]
    claims = [Claimed(i, (m,)) for i, m in enumerate(means)]
    raw = [2 * m.p_above() for m in means]
    found = [float(r.p["better"]) for r in judge_family(claims, declared=False)]
    assert found == pytest.approx(stats.false_discovery_control(np.minimum(raw, 1.0)))


def test_a_worse_control_counts_once_however_many_claims_need_it() -> None:
    shared = CrossedMean(-0.1, 0.03, 10.0, 5, 40)
    other = CrossedMean(0.0, 0.03, 10.0, 5, 40)
    claims = [Claimed("l", (shared,)), Claimed("l", (shared, other))]
    first, second = judge_family(claims)
    assert first.word == second.word == "worse"
    assert float(first.p["worse"]) == pytest.approx(4 * shared.p_below())


def test_failed_runs_weaken_the_verdict_and_never_strengthen_it() -> None:
    rng = np.random.default_rng(4)
    mine, theirs = rng.normal(0.9, 0.05, (7, 60)), rng.normal(0.8, 0.05, (7, 60))
    whole = with_failures(mine, theirs, 0.0, 1.0)
    assert isinstance(whole, CrossedMean) and judge_family([Claimed("a", (whole,))])[0].word == "better"
    mine[:2] = np.nan
    found = with_failures(mine, theirs, 0.0, 1.0)
    assert isinstance(found, Weaker) and found.seeds == 5
    assert judge_family([Claimed("a", (found.observed,))])[0].word == "better"
    assert judge_family([Claimed("a", (found,))])[0].word == "undecided"
    assert isinstance(found.worst, CrossedMean) and found.worst.seeds == 7 and found.worst.value < 0
    mild = with_failures(mine, theirs, 0.85, 0.85)  # a score that still beats the baseline changes nothing
    assert judge_family([Claimed("a", (mild,))])[0].word == "better"


SPREAD = Spread(0.02, 0.14, 0.42)


def test_simulated_power_is_that_of_the_formula_for_one_claim() -> None:
    design = SimulatedDesign(SPREAD, [5], 100, draws=1000)
    assert design.found(0.06)[0] == pytest.approx(power(SPREAD, 0.06, 5, 100), abs=0.05)
    assert design.found(0.0)[0] == pytest.approx(0.025, abs=0.015)
    smallest = design.detectable()
    assert smallest is not None and design.found(smallest)[0] == pytest.approx(0.8, abs=0.01)


def test_a_ladder_with_lent_degrees_finds_more_and_looks_save_seeds() -> None:
    three = SimulatedDesign(SPREAD, [5], 200, asserts=3, draws=600).found(0.06)[0]
    assert three > 0.45 + 0.05  # with each comparison's own spread over seeds (commit 5451eb5): .45
    found, used = SimulatedDesign(SPREAD, [6, 10], 200, draws=600).found(0.06)
    assert found >= 0.9 and used <= 7
    few = SimulatedDesign(SPREAD, [3], 200, draws=50)
    assert few.detectable() is None and few.found(1.0) == (0.0, 3.0)


def test_simulated_needs_are_near_the_formula_for_one_claim() -> None:
    assert simulated_needed(SPREAD, 0.06, prompts=200, draws=500) == pytest.approx(
        needed(SPREAD, 0.06, prompts=200, least=5), abs=1
    )
    assert simulated_needed(SPREAD, 0.06, seeds=5, draws=500) == pytest.approx(needed(SPREAD, 0.06, seeds=5), rel=0.15)
    assert simulated_needed(SPREAD, 0.06, seeds=4) is None
    assert simulated_needed(Spread(0.1, 0.5, 0.42), 0.01, prompts=100) is None
    more = simulated_needed(SPREAD, 0.06, seeds=5, rivals=3, draws=500)
    assert more is not None and more > (needed(SPREAD, 0.06, seeds=5) or 0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_more_is_asserted_at_a_larger_p(seed: int) -> None:
    made = scores(np.random.default_rng(seed), dict.fromkeys(("baseline", "method", "permuted"), 0.0), size=3)
    short, long = Asserted("method", ("baseline",)), Asserted("method", ("baseline", "permuted"))
    first, second = judge_family(compare_arms(made, [short, long]))
    assert (first.p["better"] <= second.p["better"]).all()
    alone = judge_family(compare_arms(made, [short]))[0]
    assert first.p["better"] == pytest.approx(alone.p["better"])  # a ladder costs its lower rungs nothing
    assert replace(compare_arms(made, [short])[0], margin=0.1).margin == 0.1
