"""Worlds for the association of beta with the loss inside runs: trends and memory that both share, and no link but one."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from reports.statistics.association import within_runs

Floats = NDArray[np.float64]
ROWS = 200
CLOCK = np.arange(1, ROWS + 1) / ROWS
SATURATING = 1 - np.exp(-12 * CLOCK)
Made = tuple[Floats, Floats]
Maker = Callable[[np.random.Generator, int], Made]


def loss_of(beta: Floats, delta: Floats) -> Floats:
    """-log sigmoid(beta * delta): contains beta whatever the link."""
    return np.asarray(np.logaddexp(0.0, -beta * delta))


def drift(rng: np.random.Generator, runs: int, memory: float) -> Floats:
    """Stationary AR(1) series of unit variance, one a run."""
    shocks = rng.normal(size=(runs, ROWS)) * np.sqrt(1 - memory**2)
    shocks[:, 0] = rng.normal(size=runs)
    return np.asarray(lfilter([1.0], [1.0, -memory], shocks, axis=1))


def no_trend(rng: np.random.Generator, runs: int) -> Made:
    return 0.1 * np.exp(0.2 * rng.normal(size=(runs, ROWS))), 3 * CLOCK + rng.normal(size=(runs, ROWS))


def linear_and_memory(rng: np.random.Generator, runs: int) -> Made:
    return 0.1 * np.exp(0.3 * CLOCK + 0.2 * drift(rng, runs, 0.95)), 3 * CLOCK + drift(rng, runs, 0.95)


def saturating(rng: np.random.Generator, runs: int) -> Made:
    return 0.1 * np.exp(0.8 * SATURATING + 0.1 * drift(rng, runs, 0.9)), 4 * SATURATING + 0.5 * drift(rng, runs, 0.9)


def saturating_by_run(rng: np.random.Generator, runs: int) -> Made:
    """The trend is stronger in some runs, for beta and delta alike."""
    trend = rng.normal(1, 0.2, (runs, 1)) * SATURATING
    return 0.1 * np.exp(0.8 * trend + 0.05 * drift(rng, runs, 0.9)), 4 * trend + 0.3 * drift(rng, runs, 0.9)


def walks(rng: np.random.Generator, runs: int) -> Made:
    beta = 0.1 * np.exp(0.03 * np.cumsum(rng.normal(size=(runs, ROWS)), axis=1))
    return beta, 0.15 * np.cumsum(rng.normal(size=(runs, ROWS)), axis=1) + 2 * CLOCK


def cycles(rng: np.random.Generator, runs: int) -> Made:
    wave = np.sin(16 * np.pi * CLOCK)
    return 0.1 * np.exp(0.4 * wave + 0.1 * drift(rng, runs, 0.5)), 2 * wave + 3 * CLOCK + 0.5 * drift(rng, runs, 0.5)


def growing_spread(rng: np.random.Generator, runs: int) -> Made:
    spread = 0.2 + CLOCK
    return 0.1 * np.exp(0.3 * spread * rng.normal(size=(runs, ROWS))), 3 * CLOCK + spread * rng.normal(
        size=(runs, ROWS)
    )


def linked(rng: np.random.Generator, runs: int) -> Made:
    """Not a null: beta and delta move together inside a run."""
    shared = drift(rng, runs, 0.8)
    return 0.1 * np.exp(0.2 * shared), 3 * CLOCK + 0.25 * shared + drift(rng, runs, 0.8)


NULLS: tuple[Maker, ...] = (
    no_trend, linear_and_memory, saturating, saturating_by_run, walks, cycles, growing_spread
)  # fmt: skip


def announced(world: Maker, matrices: int, runs: int = 5, batch: int = 1) -> float:
    """Share of matrices whose 95 % interval of beta against loss excludes zero; `batch` rows share a step."""
    rng = np.random.default_rng([sum(map(ord, world.__name__)), matrices, runs])
    steps, hits = np.arange(ROWS) // batch, 0
    for _ in range(matrices):
        beta, delta = world(rng, runs)
        found = within_runs(beta, delta, steps, remake=loss_of)
        hits += found.low is not None and found.high is not None and not found.low <= 0 <= found.high
    return hits / matrices
