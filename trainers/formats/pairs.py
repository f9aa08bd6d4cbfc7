"""Preference pairs: what is checked of one, draws of some of them, and the single labelled answers that KTO trains on."""

import hashlib
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainers.common import DataError, NoPreferenceError, Turns, identical, printed_messages


@dataclass(frozen=True)
class PreferencePair:
    """One comparison. `prompt`, `chosen` and `rejected` are chat turns; `group` marks rows sharing a prompt.

    `flipped`: whether the two answers are known to be exchanged; None where nothing says so. `columns` are the row's other
    numbers, which rules may read by name. `line`, `source` and `number` say where the row is from (see
    `trainers.common.rows.Row`). None of these is part of its identity.
    """

    id: str
    prompt: Turns
    chosen: Turns
    rejected: Turns
    group: str
    beta: float | None = None
    flipped: bool | None = None
    line: int = 0
    source: str = ""
    number: int = 0
    columns: Mapping[str, float] = field(default_factory=dict, hash=False)

    @property
    def place(self) -> str:
        """Where the row is in its file."""
        return f"line {self.line}" + (f" (row {self.number})" if self.number else "")

    @property
    def where(self) -> str:
        """File and line, for messages."""
        return f"{self.source}:{self.place.removeprefix('line ')}"

    def content(self) -> tuple[Any, ...]:
        """What determines training on this row (the identity used in content hashes)."""
        return (self.id, self.prompt, self.chosen, self.rejected, self.beta)


def numbers_of(row: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a row by key, but for `beta`, which is read apart."""
    numbers = ((str(key), value) for key, value in row.items() if key != "beta" and not isinstance(value, bool))
    return {key: float(value) for key, value in numbers if isinstance(value, int | float) and math.isfinite(value)}


def checked_pair(pair: PreferencePair) -> PreferencePair:
    """`pair` as it is.

    Raises:
        NoPreferenceError: an empty text, or two identical answers.
        DataError: an answer that is not the assistant's, printed messages, or a beta that is not a number above 0.
    """
    where = pair.where
    for key, turns in (("chosen", pair.chosen), ("rejected", pair.rejected), ("prompt", pair.prompt)):
        if not any(turn["content"].strip() for turn in turns):
            message = f"{where}: '{key}' is empty; every row needs a non-empty {key}: remove the row"
            raise NoPreferenceError(message, "empty")
        others = [turn["role"] for turn in (turns[0], turns[-1]) if turn["role"] != "assistant"]
        if key != "prompt" and others:
            verb = "begins" if turns[0]["role"] != "assistant" else "ends"
            raise DataError(
                f"{where}: '{key}' {verb} with a turn of the {others[0]}; an answer is the assistant's (or model's, or gpt's)"
            )
        text = turns[0]["content"]
        if len(turns) == 1 and text.lstrip().startswith(("[", "array(")) and printed_messages(text):
            raise DataError(
                f"{where}: '{key}' is a printed list of messages; write the list itself, as JSONL or Parquet"
            )
    if pair.chosen == pair.rejected:
        raise identical(where)
    beta = pair.beta
    if beta is not None and (isinstance(beta, bool) or not isinstance(beta, int | float) or not beta > 0):
        raise DataError(f"{where}: 'beta' is {beta!r}; a per-pair beta is a number above 0")
    return pair


Key = Callable[[PreferencePair], str]


def subset(
    pairs: Sequence[PreferencePair], limit: int | None, seed: int, key: Key = lambda pair: pair.id
) -> list[PreferencePair]:
    """At most `limit` pairs, drawn by a seeded hash of `key` and kept in their order."""
    if limit is None or limit >= len(pairs):
        return list(pairs)
    kept = {pair.id for pair in ranked(pairs, seed, key)[:limit]}
    return [pair for pair in pairs if pair.id in kept]


def ranked(pairs: Sequence[PreferencePair], seed: int, key: Key = lambda pair: pair.id) -> list[PreferencePair]:
    """The pairs in the order of a seeded hash of `key`."""
    return sorted(pairs, key=lambda pair: (seeded_hash(seed, key(pair)), pair.id))


def seeded_hash(seed: int, text: str) -> str:
    """64 hex digits."""
    return hashlib.sha256(f"{seed}:{text}".encode()).hexdigest()


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
    half = len(order) // 2
    later = order[half:] + order[:half]
    return [
        {
            "prompt": pairs[i].prompt,
            "completion": pairs[i].chosen if label else pairs[i].rejected,
            "label": label,
            "example_index": 2 * i + (not label),
        }
        for both in zip(order, later, strict=True)
        for i, label in zip(both, (True, False), strict=True)
    ]


def row_ids(pairs: Sequence[PreferencePair]) -> list[str]:
    """The pair's id by `example_index`: once for its chosen and once for its rejected answer."""
    return [pair.id for pair in pairs for _ in range(2)]
