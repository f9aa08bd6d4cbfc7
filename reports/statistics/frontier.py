"""Reward against KL: two runs compared at equal KL and over the range of KL both reached, never beyond.

Every checkpoint of a run is a point of its frontier. A run that has moved further has a larger reward for that alone; at
equal KL it has not (Gao et al. 2210.10760, Rafailov et al. 2406.02900). Reward rises about as sqrt(KL) at first (Gao et al.,
section 3), so between two points it is interpolated in sqrt(KL): a chord in KL cuts a concave curve off, and the more
the longer it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reports.statistics.paired import seed_interval
from reports.statistics.results import Estimate, undefined

Floats = NDArray[np.float64]
GRID = 33  # places over the shared range at which the area is summed
CHUNK = 250
#: Points of a run, the reference among them, below which nothing is claimed at a matched KL and over a range of it.
FEWEST_AT_KL = 3
FEWEST_OVER_RANGE = 5
TURNED = 2.0  # standard errors by which the reward must fall behind its highest to count as turned over


@dataclass(frozen=True, slots=True)
class Frontier:
    """One run: rewards (points, prompts) and KL in nats (points, KL prompts), one row per checkpoint.

    `root`: interpolate in the square root of what stands in `kl`, a negative estimate counting as 0. False for lengths.
    `together`: reward and KL are of the same answers, in one order, so that a draw of prompts is one of both.
    """

    reward: Floats
    kl: Floats
    root: bool = False
    together: bool = False

    def axis(self, kl: Floats) -> Floats:
        """Where these values lie on the axis of interpolation."""
        return np.sqrt(np.maximum(kl, 0.0)) if self.root else kl

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
    units = np.eye(x.size)
    return np.stack([interpolated(x[:, None], unit[:, None], t[:, None])[:, 0] for unit in units], axis=1)


def interpolated(kl: Floats, reward: Floats, targets: Floats) -> Floats:
    """Rewards, shape (targets, draws), at the targets of each draw, from points with kl and reward (points, draws)."""
    order = np.argsort(kl, axis=0, kind="stable")
    x, y = np.take_along_axis(kl, order, axis=0), np.take_along_axis(reward, order, axis=0)
    right = np.zeros(targets.shape, dtype=np.intp)
    for row in x:
        right += row <= targets
    right = np.clip(right, 1, x.shape[0] - 1)
    a, b = np.take_along_axis(x, right - 1, axis=0), np.take_along_axis(x, right, axis=0)
    from_, to = np.take_along_axis(y, right - 1, axis=0), np.take_along_axis(y, right, axis=0)
    share = np.clip(np.divide(targets - a, b - a, out=np.zeros(targets.shape), where=b > a), 0.0, 1.0)
    result: Floats = from_ + share * (to - from_)
    return result


def shared_range(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Lowest and highest KL that both runs reach, from their points' KL (points, ...) each; low > high means none."""
    return np.maximum(a.min(axis=0), b.min(axis=0)), np.minimum(a.max(axis=0), b.max(axis=0))


def _trapezoid(rows: int) -> Floats:
    weight = np.full(rows, 1.0 / (rows - 1))
    weight[[0, -1]] /= 2
    return weight


def matched(a: Frontier, b: Frontier, window: tuple[float, float] | None = None) -> Matched | None:
    """a - b at the largest KL both reach, and on average over the shared range; None where the ranges do not meet.

    `window`: a range of KL, fixed before training; the shared range is cut to it and never extended. The average is over
    places of the axis of interpolation (the mean vertical difference of the two curves there).
    """
    at_a, at_b = a.axis(a.kl.mean(axis=1)), b.axis(b.kl.mean(axis=1))
    low, high = (float(v) for v in shared_range(at_a, at_b))
    wanted = (low, high) if window is None else a.axis(np.array(window, dtype=float))
    low, high = max(low, float(wanted[0])), min(high, float(wanted[1]))
    if not low < high:
        return None
    targets = np.linspace(low, high, GRID)
    gaps = weights_at(at_a, targets) @ a.reward - weights_at(at_b, targets) @ b.reward
    covered = (high - low) / float(wanted[1] - wanted[0])
    return Matched(a.back(low), a.back(high), gaps[-1], _trapezoid(GRID) @ gaps, covered)


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
    at = [run.axis(run.kl.mean(axis=1)) for run in runs]
    low, high = max(float(x.min()) for x in at), min(float(x.max()) for x in at)
    if not low < high:
        return []
    targets = np.linspace(low, high, places)
    curves = np.array([weights_at(x, targets) @ run.reward.mean(axis=1) for x, run in zip(at, runs, strict=True)])
    prompts = runs[0].reward.shape[1]
    return [(runs[0].back(float(t)), seed_interval(curves[:, i], prompts, confidence)) for i, t in enumerate(targets)]


def bootstrap_matched(
    pairs: Sequence[tuple[Frontier, Frontier]], replicates: int = 1000, confidence: float = 0.95, seed: int = 0
) -> tuple[Estimate, Estimate]:
    """Percentile intervals for the mean over pairs at matched KL, and for the mean gap over the shared range.

    Resamples pairs (seeds), reward prompts and KL prompts; one draw of prompts serves every checkpoint of every run, and
    the range and the weights are found anew in each. Prompts are in the same order in all frontiers. With few seeds the
    interval is too narrow (indicative), as of any bootstrap over them.
    """
    name = f"paired bootstrap over seeds, prompts and KL prompts ({replicates} draws)"
    points = [m for a, b in pairs if (m := matched(a, b)) is not None]
    prompts = pairs[0][0].reward.shape[1] if pairs else 0
    if not points or len(points) < len(pairs):
        nothing = undefined(
            name, prompts, "a pair of runs shares no range of KL" if pairs else "no pair of runs", len(pairs)
        )
        return nothing, nothing
    rng = np.random.default_rng(seed)
    kl_prompts = pairs[0][0].kl.shape[1]
    drawn: list[tuple[Floats, Floats]] = []
    for start in range(0, replicates, CHUNK):
        size = min(CHUNK, replicates - start)
        by_prompt = rng.multinomial(prompts, np.full(prompts, 1 / prompts), size=size).T / prompts
        by_kl = by_prompt
        if not (pairs[0][0].together and kl_prompts == prompts):
            by_kl = rng.multinomial(kl_prompts, np.full(kl_prompts, 1 / kl_prompts), size=size).T / kl_prompts
        by_pair = rng.multinomial(len(pairs), np.full(len(pairs), 1 / len(pairs)), size=size).T / len(pairs)
        ends, areas = np.zeros((len(pairs), size)), np.zeros((len(pairs), size))
        for row, (a, b) in enumerate(pairs):
            kl_a, kl_b = a.axis(a.kl @ by_kl), b.axis(b.kl @ by_kl)
            low, high = shared_range(kl_a, kl_b)
            high = np.maximum(high, low)
            targets = low + np.linspace(0, 1, GRID)[:, None] * (high - low)
            gap = interpolated(kl_a, a.reward @ by_prompt, targets) - interpolated(kl_b, b.reward @ by_prompt, targets)
            ends[row], areas[row] = gap[-1], _trapezoid(GRID) @ gap
        drawn.append(((ends * by_pair).sum(axis=0), (areas * by_pair).sum(axis=0)))
    note = f"indicative: {len(pairs)} seed{'' if len(pairs) == 1 else 's'}" if len(pairs) < 5 else None
    tail = (1 - confidence) / 2
    found = []
    for which, key in enumerate(("at_high", "over_range")):
        values = np.concatenate([d[which] for d in drawn])
        ends_of = [float(v) for v in np.quantile(values, [tail, 1 - tail])]
        centre = float(np.mean([getattr(m, key).mean() for m in points]))
        found.append(
            Estimate(
                centre, ends_of[0], ends_of[1], name, prompts, len(pairs), float(values.std(ddof=1)), confidence, note
            )
        )
    return found[0], found[1]
