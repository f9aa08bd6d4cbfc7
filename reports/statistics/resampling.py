"""Random draws that many resamplings share: the same seed and size give the same draws, so they are made once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
CHUNK = 1000  # replicates drawn at once; bounds memory to CHUNK x items
#: Draws of more numbers than this (64 MB) are redrawn each time instead of kept.
KEPT = 8_000_000


def _chunks(replicates: int) -> Iterator[int]:
    for start in range(0, replicates, CHUNK):
        yield min(CHUNK, replicates - start)


def _counted(items: int, rng: np.random.Generator, size: int) -> Floats:
    drawn = rng.integers(0, items, size=(size, items)) + np.arange(size)[:, None] * items
    shares: Floats = np.bincount(drawn.ravel(), minlength=size * items).reshape(size, items) / items
    return shares


def _make_crossed(seeds: int, items: int, replicates: int, seed: int) -> Iterator[tuple[Floats, Floats]]:
    rng = np.random.default_rng(seed)
    for size in _chunks(replicates):
        by_seed = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=size) / seeds
        yield by_seed, _counted(items, rng, size)


def _make_signs(items: int, replicates: int, seed: int) -> Iterator[Floats]:
    rng = np.random.default_rng(seed)
    for size in _chunks(replicates):
        yield (rng.integers(0, 2, size=(size, items), dtype=np.int8) * 2 - 1).astype(float)


_keep_crossed = lru_cache(maxsize=4)(lambda *key: tuple(_make_crossed(*key)))
_keep_signs = lru_cache(maxsize=2)(lambda *key: tuple(_make_signs(*key)))


def crossed_weights(seeds: int, items: int, replicates: int, seed: int) -> Iterator[tuple[Floats, Floats]]:
    """Chunks of weights of seeds, shape (draws, seeds), and of items, shape (draws, items), drawn independently."""
    make = _keep_crossed if items * replicates <= KEPT else _make_crossed
    yield from make(seeds, items, replicates, seed)


def random_signs(items: int, replicates: int, seed: int) -> Iterator[Floats]:
    """Chunks of random signs -1 and 1, shape (draws, items)."""
    make = _keep_signs if items * replicates <= KEPT else _make_signs
    yield from make(items, replicates, seed)
