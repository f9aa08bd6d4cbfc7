"""Worlds of `make simulate` for families, looks and trends: a small sample, and the committed rates."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.simulation import families, trends
from tests.simulation.families import FAMILY, FOUND, PERPLEXITY, WORLDS, Family
from tests.simulation.rates import LEAST, MOST_SEEDS, broken, read, table

BY_NAME = {world.name: world for world in WORLDS}
SMALL = 250


def test_committed_rates_hold_their_bounds() -> None:
    found = read()
    assert found["matrices"] >= 2000 and broken(found) == []
    assert {f"false.{name}" for name in BY_NAME} <= set(found) and set(LEAST) <= set(found)
    assert {f"false.trend_{world.__name__}" for world in trends.NULLS} <= set(found)
    assert all(0 <= value <= 1 for name, value in found.items() if name.split(".")[0] in ("false", "before", "power"))
    rows = json.loads((Path(__file__).parent / "simulation.json").read_text(encoding="utf-8"))
    assert all(set(row) == {"name", "value"} for row in rows)


def test_the_page_shows_the_committed_rates() -> None:
    page = (Path(__file__).parents[2] / "reports" / "STATISTICS.md").read_text(encoding="utf-8")
    assert table(read()) in page and f"{read()['looks.seeds_06']:.1f} seeds on average" in page


@pytest.mark.parametrize(
    "name", ["no_effect", "mean_beta", "baseline_10_times_noisier", "heavy_tails", "ties", "clusters"]
)
def test_false_claims_are_rare(name: str) -> None:
    found = families.rates(BY_NAME[name], SMALL)
    assert found["false"] <= 0.055 + 3 * np.sqrt(0.055 * 0.945 / SMALL)


def test_the_effect_is_found_and_lent_variance_is_why() -> None:
    found = families.rates(FOUND, SMALL)
    assert found["found2"] >= 0.55 - 3 * np.sqrt(0.55 * 0.45 / SMALL)
    assert found["found2"] > found["found_before"] + 0.1


def test_two_looks_find_it_with_few_seeds() -> None:
    power, seeds = families.looked(FOUND, SMALL, (6, 10))
    assert power >= 0.9 - 3 * np.sqrt(0.9 * 0.1 / SMALL) and seeds <= MOST_SEEDS
    assert families.looked(BY_NAME["no_effect"], SMALL, (6, 10))[0] <= 0.025 + 3 * np.sqrt(0.025 * 0.975 / SMALL)


def test_crashed_runs_and_chosen_metrics_make_no_claims() -> None:
    crashed = families.crashed(Family("crashed", "", spread=families.DOMINATING, seeds=7), 60)
    assert crashed["false"] <= crashed["dropped"] + 1e-12 <= 0.2
    assert families.chosen_primary(BY_NAME["no_effect"], SMALL)["false"] <= 0.055


@pytest.mark.parametrize("world", [trends.saturating_by_run, trends.cycles, trends.walks])
def test_shared_trends_are_no_association(world: trends.Maker) -> None:
    assert trends.announced(world, 60) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60)
    assert trends.announced(trends.linked, 15) >= 0.8


def test_worlds_have_the_truth_they_say() -> None:
    truths = {w.name: [w.true(c) for c in FAMILY] for w in (*WORLDS, FOUND)}
    assert truths["mean_beta"] == [True, False, False, False]
    assert truths["variation"] == [True, True, False, False]
    assert truths["perplexity"] == [True, True, True, False]
    assert not any(any(v) for name, v in truths.items() if name not in ("mean_beta", "variation", "perplexity"))
    rng = np.random.default_rng(0)
    for law in (families.heavy, families.left_skewed, families.collapsing):
        draws = law(rng, (400_000,))
        assert draws.mean() == pytest.approx(0, abs=0.05)
    made = BY_NAME["clusters"].scores(rng, 3)["method"]
    assert made.shape[-1] < 200 and FOUND.true(PERPLEXITY)


def test_a_broken_bound_is_named() -> None:
    lines = broken({"matrices": 2000.0, "false.x": 0.06, "looks.power_06": 0.8, "looks.seeds_06": 7.5, "limit.y": 0.2})
    assert [line.split()[0] for line in lines] == ["false.x", "looks.power_06", "looks.seeds_06"]
