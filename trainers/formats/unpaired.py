"""Pairs as single labelled answers, the data KTO trains on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from trainers.formats.pairs import PreferencePair


def unpaired_rows(pairs: Sequence[PreferencePair], seed: int) -> list[dict[str, Any]]:
    """Two rows a pair (chosen -> label True, rejected -> label False), in the order they are trained on.

    KTO's sampler takes rows in order, and TRL estimates the KL term by giving each row of a micro-batch the answer of the row
    before it. So the pairs are shuffled by `seed` here, labels alternate, and the two answers to one prompt stand half the
    data apart: a neighbour's answer then belongs to another prompt, as the estimate asks for (four pairs or more).

    Returns:
        Rows with prompt, completion (chat turns), label and `example_index`, which is 2 * i for the chosen and 2 * i + 1 for
        the rejected answer of pair i (see `row_ids`).
    """
    order = random.Random(seed).sample(range(len(pairs)), len(pairs))
    rows = []
    for place, chosen in enumerate(order):
        rejected = order[(place + len(order) // 2) % len(order)]
        rows.append(
            {
                "prompt": pairs[chosen].prompt,
                "completion": pairs[chosen].chosen,
                "label": True,
                "example_index": 2 * chosen,
            }
        )
        rows.append(
            {
                "prompt": pairs[rejected].prompt,
                "completion": pairs[rejected].rejected,
                "label": False,
                "example_index": 2 * rejected + 1,
            }
        )
    return rows


def row_ids(pairs: Sequence[PreferencePair]) -> list[str]:
    """The pair's id by `example_index`: once for its chosen and once for its rejected answer."""
    return [pair.id for pair in pairs for _ in range(2)]
