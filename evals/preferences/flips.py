"""Label noise with its truth: some pairs are flipped, and every pair says whether it was and what its beta should be."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.preferences.pairs import PairError
from trainers.common import Json, refuse

#: Column by which terciles are formed, by the word for it.
COLUMNS = {"perplexity": "log_prompt_perplexity"}


@dataclass(frozen=True)
class Noise:
    """Which pairs are flipped and what betas tell.

    Attributes:
        shares: share of pairs flipped; with `by` three of them, for the low, middle and high tercile.
        seed: decides which; flips of one share are among those of a larger one.
        pref_beta: mean beta of the file.
        ratio: beta of a clean pair over that of a flipped one.
        by: a key of `COLUMNS`; None flips regardless of the prompt.
    """

    shares: tuple[float, ...]
    seed: int | str = 0
    pref_beta: float = 0.1
    ratio: float = 30.0
    by: str | None = None

    def __post_init__(self) -> None:
        wanted, what = (1, "one share") if self.by is None else (3, "three shares (low, middle and high tercile)")
        numbers = (("pref_beta", self.pref_beta), ("ratio", self.ratio))
        refuse(
            PairError,
            (self.by not in (None, *COLUMNS), f"flips by {self.by!r} are unknown; use {', '.join(COLUMNS)}"),
            (
                len(self.shares) != wanted or not all(0 <= share <= 1 for share in self.shares),
                f"flips of {', '.join(map(str, self.shares))}: give {what} between 0 and 1",
            ),
            # A beta of 0 is no beta: the trainers refuse it.
            *(
                (not 0 < value < math.inf, f"{name} of the flips is {value}; it must be a finite number above 0")
                for name, value in numbers
            ),
        )


def truth_betas(flipped: Sequence[bool], ratio: float, mean: float) -> list[float]:
    """Betas that know which pairs were flipped: of a clean pair `ratio` times that of a flipped one, `mean` on average."""
    q = sum(flipped) / len(flipped) if flipped else 0.0
    clean = mean / (1 - q + q / ratio)
    return [clean / ratio if hit else clean for hit in flipped]


def permuted_betas(ids: Sequence[str], flipped: Sequence[bool], betas: Sequence[float], seed: int) -> list[float]:
    """The same betas handed out by lot over the whole data set, and balanced: flipped and clean pairs get, up to rounding,
    the same share of each value, so that no chance link to the truth is left."""
    order = sorted(range(len(ids)), key=lambda i: hashlib.sha256(f"permute:{seed}:{ids[i]}".encode()).hexdigest())
    # Flipped pairs first; every value is then spread evenly over the places, the smallest first.
    places = sorted(order, key=lambda i: not flipped[i])
    spread = sorted(range(len(ids)), key=lambda rank: (rank * 0.6180339887498949) % 1.0)
    found = [0.0] * len(ids)
    for place, beta in zip(spread, sorted(betas), strict=True):
        found[places[place]] = beta
    return found


def flip(pairs: Sequence[Mapping[str, Any]], noise: Noise) -> tuple[list[Json], Json]:
    """The pairs with columns `flipped` and `beta`, those flipped with everything chosen and rejected exchanged; and a record.

    With q the share of all pairs that was flipped, clean pairs have beta = pref_beta / (1 - q + q / ratio) and flipped ones
    that over `ratio`: the mean over the file is pref_beta, and for a large ratio clean pairs have pref_beta / (1 - q).

    Returns:
        Pair rows in their order; and shares, by, seed, pref_beta, ratio, n_flipped, beta_clean, beta_flipped, with `by` also
        `terciles` (n, n_flipped, low and high of the column).

    Raises:
        PairError: a pair that was flipped before, lacks an id or the column of the terciles, or two pairs with one id.
    """
    seen: set[str] = set()
    for pair in pairs:
        name = pair.get("id")
        refuse(
            PairError,
            (not isinstance(name, str) or name in seen, f"pair {name!r}: pairs to be flipped need unique ids"),
            ("flipped" in pair, f"pair {name!r} says already whether it is flipped; flip the clean pairs instead"),
        )
        seen.add(str(name))
    groups, terciles = [list(pairs)] if noise.by is None else _terciles(pairs, COLUMNS[noise.by]), []
    flipped: set[str] = set()
    for group, share in zip(groups, noise.shares, strict=True):
        order = sorted(group, key=lambda p: hashlib.sha256(f"flip:{noise.seed}:{p['id']}".encode()).hexdigest())
        chosen = {str(pair["id"]) for pair in order[: round(share * len(group))]}
        flipped |= chosen
        if noise.by is not None and group:
            values = [pair[COLUMNS[noise.by]] for pair in group]
            terciles.append({"n": len(group), "n_flipped": len(chosen), "low": min(values), "high": max(values)})
    hits = [pair["id"] in flipped for pair in pairs]
    rows = [
        (_exchanged(pair) if hit else dict(pair)) | {"flipped": hit, "beta": beta}
        for pair, hit, beta in zip(pairs, hits, truth_betas(hits, noise.ratio, noise.pref_beta), strict=True)
    ]
    q = len(flipped) / len(pairs) if pairs else 0.0
    clean = noise.pref_beta / (1 - q + q / noise.ratio)
    record = {
        "shares": list(noise.shares),
        "by": noise.by,
        "seed": noise.seed,
        "pref_beta": noise.pref_beta,
        "ratio": noise.ratio,
        "n_flipped": len(flipped),
        "beta_clean": clean,
        "beta_flipped": clean / noise.ratio,
    }
    return rows, record | ({"terciles": terciles} if terciles else {})


def _exchanged(pair: Mapping[str, Any]) -> Json:
    """The pair with the values of every key about its two answers exchanged (chosen, score_chosen, chosen_truncated, ...)."""
    sides = [(key, key.replace("chosen", "rejected")) for key in pair if "chosen" in key]
    both = [(one, other) for one, other in sides if other in pair]
    return {**pair, **{one: pair[other] for one, other in both}, **{other: pair[one] for one, other in both}}


def _terciles(pairs: Sequence[Mapping[str, Any]], column: str) -> list[list[Mapping[str, Any]]]:
    """Low, middle and high third by value; pairs with equal values stay together."""
    for pair in pairs:
        value = pair.get(column)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise PairError(f"pair {pair['id']!r} has no number under {column!r}, by which terciles are formed")
    ordered = sorted(pair[column] for pair in pairs)
    if not ordered:
        return [[], [], []]
    # the least values of the middle and of the high third
    low, high = (ordered[min(round(len(ordered) * part / 3), len(ordered) - 1)] for part in (1, 2))
    groups: list[list[Mapping[str, Any]]] = [[], [], []]
    for pair in pairs:
        groups[int(pair[column] >= low) + int(pair[column] >= high)].append(pair)
    return groups
