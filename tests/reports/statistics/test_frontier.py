"""Frontiers in sqrt(KL): a concave curve against itself, windows, bands and curves that turn over."""

from __future__ import annotations

import numpy as np
import pytest

from reports.statistics.frontier import Frontier, band, bootstrap_matched, matched, turned_over


def curve(kl: list[float], reward: list[float], root: bool = True, prompts: int = 20) -> Frontier:
    return Frontier(np.array(reward)[:, None] * np.ones(prompts), np.array(kl)[:, None] * np.ones(8), root)


def test_two_runs_of_one_concave_curve_are_equal() -> None:
    """Reward sqrt(KL), one run half as far as the other, reference and end alone: a chord in KL sees a gain."""
    for root, gap in ((True, 0.0), (False, 2**0.5 - 1)):
        near, far = curve([0, 2], [0, 2**0.5], root), curve([0, 4], [0, 2], root)
        found = matched(near, far)
        assert found is not None and found.at_high.mean() == pytest.approx(gap, abs=1e-12)
        assert (found.low, found.high) == (0, pytest.approx(2))
        assert found.over_range.mean() == pytest.approx(0.0 if root else 0.207, abs=1e-3)


def test_a_frozen_window_is_never_left() -> None:
    a, b = curve([0, 1, 4], [0, 1.5, 3]), curve([0, 1, 9], [0, 1, 3])
    inside = matched(a, b, window=(1.0, 4.0))
    assert inside is not None and (inside.low, inside.high) == pytest.approx((1, 4))
    assert inside.over_range.mean() == pytest.approx((0.5 + 1.0) / 2)  # both are straight in sqrt(KL) there
    assert inside.covered == 1
    half = matched(a, b, window=(1.0, 9.0))
    assert half is not None and (half.high, half.covered) == (pytest.approx(4), pytest.approx(0.5))
    assert half.over_range == pytest.approx(inside.over_range)
    assert matched(a, b, window=(4.0, 9.0)) is None


def test_negative_estimates_of_kl_count_as_none() -> None:
    found = matched(curve([-0.1, 1], [0, 1]), curve([0, 1], [0, 0.5]))
    assert found is not None and found.low == 0 and found.at_high.mean() == pytest.approx(0.5)


def test_curves_that_turn_over_are_seen() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, (4, 50))
    rising, falling = np.array([0, 0.5, 0.8, 1.0]), np.array([0, 0.8, 1.0, 0.6])
    kl = np.array([0.0, 1, 4, 9])[:, None] * np.ones(5)
    assert turned_over(Frontier(rising[:, None] + noise, kl, True)) is None
    assert turned_over(Frontier(falling[:, None] + noise, kl, True)) == 4.0


def test_band_over_seeds() -> None:
    runs = [curve([0, 1, 4 + s], [0, 1 + 0.1 * s, 2 + 0.1 * s]) for s in range(3)]
    found = band(runs, places=5)
    assert [kl for kl, _ in found] == pytest.approx([0, 0.25, 1, 2.25, 4])
    middle = found[2][1]
    assert middle.estimate == pytest.approx(1.1) and middle.seeds == 3 and middle.low is not None
    assert band([curve([0, 1], [0, 1]), curve([2, 3], [0, 1])]) == []


def test_bootstrap_follows_the_axis() -> None:
    rng = np.random.default_rng(1)
    pairs = []
    for _ in range(5):
        near = Frontier(
            np.sqrt([[0.0], [2.0]]) + 0.01 * rng.normal(size=(2, 30)), np.array([[0.0], [2.0]]) * np.ones(9), True
        )
        far = Frontier(
            np.sqrt([[0.0], [4.0]]) + 0.01 * rng.normal(size=(2, 30)), np.array([[0.0], [4.0]]) * np.ones(9), True
        )
        pairs.append((near, far))
    at_end, _ = bootstrap_matched(pairs, 200)
    together = [tuple(Frontier(f.reward, f.reward**2, True, together=True) for f in pair) for pair in pairs]
    exact, _ = bootstrap_matched(together, 200)  # type: ignore[arg-type]
    assert exact.stderr is not None and at_end.stderr is not None and exact.stderr < at_end.stderr / 3
    assert at_end.low is not None and at_end.high is not None and at_end.low < 0.01 and at_end.high > -0.01
    assert at_end.estimate == pytest.approx(0, abs=0.01)
