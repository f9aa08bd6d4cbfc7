"""Reward against KL: two runs compared at equal KL and over the range of KL both reached, never beyond.

Every checkpoint of a run is a point of its frontier. A run that has moved further has a larger reward for that alone; at
equal KL it has not (Gao et al. 2210.10760, Rafailov et al. 2406.02900). Reward rises about as sqrt(KL) at first (Gao et al.,
section 3), so between two points it is interpolated in sqrt(KL): a chord in KL cuts a concave curve off, and the more
the longer it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reports.schema.base import Estimate
from reports.statistics.paired import seed_interval

Floats = NDArray[np.float64]
GRID = 33  # places over the shared range at which the area is summed
#: Points of a run, the reference among them, below which nothing is claimed at a matched KL and over a range of it.
FEWEST_AT_KL = 3
FEWEST_OVER_RANGE = 5
TURNED = 2.0  # standard errors by which the reward must fall behind its highest to count as turned over


@dataclass(frozen=True, slots=True)
class Frontier:
    """One run: rewards (points, prompts) and KL in nats (points, KL prompts), one row per checkpoint.

    `root`: interpolate in the square root of what stands in `kl`, a negative estimate counting as 0. False for lengths.
    """

    reward: Floats
    kl: Floats
    root: bool = False

    def axis(self, kl: Floats) -> Floats:
        """Where these values lie on the axis of interpolation."""
        return np.sqrt(np.maximum(kl, 0.0)) if self.root else kl

    @property
    def places(self) -> Floats:
        """Where the points lie on that axis, shape (points,)."""
        return self.axis(self.kl.mean(axis=1))

    def back(self, place: float) -> float:
        """The KL at a place on the axis."""
        return place**2 if self.root else place


@dataclass(frozen=True, slots=True)
class Matched:
    """One pair of runs: the shared range of KL, differences by prompt at its end and averaged over it, shape (prompts,).

    `covered`: share of the window, on the axis of interpolation, that the range is; 1 without a window.
    """

    low: float
    high: float
    at_high: Floats
    over_range: Floats
    covered: float = 1.0


def weights_at(kl: ArrayLike, targets: ArrayLike) -> Floats:
    """Weights of the points, shape (targets, points), that interpolate linearly in `kl` (points,) at each target.

    A target outside the points' range takes the nearest end, so give targets inside.
    """
    x, t = np.asarray(kl, dtype=float), np.asarray(targets, dtype=float)
    order = np.argsort(x, kind="stable")
    return np.stack([np.interp(t, x[order], unit[order]) for unit in np.eye(x.size)], axis=1)


def shared_range(*runs: Frontier) -> tuple[float, float]:
    """Lowest and highest place on the axis that all runs reach; low > high means none."""
    return float(max(run.places.min() for run in runs)), float(min(run.places.max() for run in runs))


def matched(a: Frontier, b: Frontier, window: tuple[float, float] | None = None) -> Matched | None:
    """a - b at the largest KL both reach, and on average over the shared range; None where the ranges do not meet.

    `window`: a range of KL, fixed before training; the shared range is cut to it and never extended. The average is over
    places of the axis of interpolation (the mean vertical difference of the two curves there).
    """
    low, high = shared_range(a, b)
    wanted = np.array([low, high]) if window is None else a.axis(np.array(window, dtype=float))
    low, high = max(low, float(wanted[0])), min(high, float(wanted[1]))
    if not low < high:
        return None
    targets = np.linspace(low, high, GRID)
    gaps = weights_at(a.places, targets) @ a.reward - weights_at(b.places, targets) @ b.reward
    covered = (high - low) / float(wanted[1] - wanted[0])
    mean = np.trapezoid(gaps, dx=1 / (GRID - 1), axis=0)
    return Matched(a.back(low), a.back(high), gaps[-1], np.asarray(mean), covered)


def turned_over(run: Frontier) -> float | None:
    """KL of the highest reward, where a point at a larger KL falls behind it by more than TURNED standard errors.

    Beyond it more KL buys less reward, and an interpolation compares falling branches. None where the curve still rises.
    """
    kl, reward = run.kl.mean(axis=1), run.reward.mean(axis=1)
    top = int(reward.argmax())
    later = np.flatnonzero(kl > kl[top])
    prompts = run.reward.shape[1]
    if not later.size or prompts < 2:
        return None
    behind = run.reward[top] - run.reward[later]
    error = behind.std(axis=1, ddof=1) / np.sqrt(prompts)
    return float(kl[top]) if bool((behind.mean(axis=1) > TURNED * np.maximum(error, 1e-300)).any()) else None


def band(runs: Sequence[Frontier], places: int = 17, confidence: float = 0.95) -> list[tuple[float, Estimate]]:
    """The mean curve over seeds: KL and the reward's t interval over runs, inside the KL that all of them reach."""
    low, high = shared_range(*runs)
    if not low < high:
        return []
    targets = np.linspace(low, high, places)
    curves = np.array([weights_at(run.places, targets) @ run.reward.mean(axis=1) for run in runs])
    prompts = runs[0].reward.shape[1]
    return [
        (runs[0].back(t), seed_interval(of_runs, prompts, confidence))
        for t, of_runs in zip(targets.tolist(), curves.T, strict=True)
    ]
