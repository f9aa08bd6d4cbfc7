"""Win rates of all policies from comparison rows: against the reference, between every pair, and how far to trust them.

The rows are those of `comparisons/<benchmark>.jsonl` (their columns are described in evals/judges/comparisons.py).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from reports.schema.base import Estimate, Json
from reports.schema.judges import (
    Agreement,
    BradleyTerry,
    Judged,
    JudgedArm,
    JudgedPair,
    JudgedPolicy,
    JudgeVerdicts,
    LengthControlled,
    Position,
    Strength,
    WinRate,
)
from reports.statistics.intervals import estimated, undefined, wilson
from reports.statistics.preferences import NAME, bradley_terry, difficulties, length_controlled, length_term
from reports.statistics.winrate import cohen_kappa, position_effect, win_rate
from trainers.common.jsonl import read_jsonl
from trainers.common.turns import DataError

Row = Mapping[str, Any]
_COLUMNS = ("judge", "prompt_id", "sample", "first", "second", "preference", "length_first", "length_second")
#: With fewer, the estimate of prompt difficulty is mostly noise and length control does more harm than good.
FEWEST_POLICIES = 4


class ComparisonError(ValueError):
    """Comparison rows that cannot be used; the message names file, line and key."""


def read_comparisons(path: Path) -> list[Json]:
    """The rows of a comparison file. ComparisonError for a line that is no row."""
    try:
        rows = read_jsonl(path)
    except DataError as error:
        raise ComparisonError(f"{error}, or judge again") from error
    for number, row in rows:
        absent = next((key for key in _COLUMNS if key not in row), None)
        if absent is not None:
            raise ComparisonError(f"{path}:{number}: the row has no {absent!r}; judge again")
    return [row for _, row in rows]


def difficulty_of(rows: Sequence[Row], reference: str) -> dict[str, float] | None:
    """Prompt difficulty as one judge sees it, from all policies against the reference; None for fewer than `FEWEST_POLICIES`."""
    judged = {name: table for name, table in against(rows, reference).items() if len(table)}
    if len(judged) < FEWEST_POLICIES:
        return None
    prompts = sorted(set().union(*(table.index for table in judged.values())))
    preferences = np.array([table["preference"].reindex(prompts) for table in judged.values()], dtype=float)
    lengths = ((table["length_first"], table["length_second"]) for table in judged.values())
    terms = [
        pd.Series(length_term(*pair), table.index).reindex(prompts, fill_value=0.0)
        for table, pair in zip(judged.values(), lengths, strict=True)
    ]
    return dict(zip(prompts, difficulties(preferences, terms).tolist(), strict=True))


def _by_pair(rows: Sequence[Row], reference: str) -> dict[tuple[str, str], list[Row]]:
    """Rows of each pair of policies, the reference always second."""
    pairs: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        oriented = _swapped(row) if row["first"] == reference else row
        pairs[oriented["first"], oriented["second"]].append(oriented)
    return pairs


def against(rows: Sequence[Row], reference: str) -> dict[str, pd.DataFrame]:
    """By policy its comparisons with the reference: means over the samples of each prompt of preference, length_first (its
    own) and length_second."""
    pairs = _by_pair(rows, reference)
    return {first: _by_prompt(part) for (first, second), part in sorted(pairs.items()) if second == reference}


def judge_summary(
    rows: Sequence[Row],
    reference: str,
    difficulty: Mapping[str, float] | None = None,
    policies: Mapping[str, list[JudgedPolicy]] | None = None,
) -> JudgeVerdicts:
    """What the rows of one judge on one benchmark say.

    Each policy against the reference (plain and length-controlled win rate), every pair, Bradley-Terry over all policies,
    position effect, failures by reason.

    Args:
        rows: of one judge on one benchmark.
        reference: the policy that win rates are against.
        difficulty: gamma_x by prompt id for the length-controlled win rate; None estimates it from all policies against
            the reference, which takes at least `FEWEST_POLICIES` of them.
        policies: where the names in the rows are those of methods, each method's single policies, to stand beside it.
    """
    pairs = _by_pair(rows, reference)
    judged = {names: Judged(win_rate=rate_of(part), position=_position(part)) for names, part in sorted(pairs.items())}
    references = against(rows, reference)
    gamma = difficulty if difficulty is not None else difficulty_of(rows, reference)
    groups = {row["prompt_id"]: row.get("group") or row["prompt_id"] for row in rows}
    missing = Counter(row.get("reason") or "no reason" for row in rows if row["preference"] is None)
    return JudgeVerdicts(
        against_reference=[
            JudgedArm(
                **dict(judged[first, reference]),
                label=first,
                length_controlled=_length_controlled(means, gamma, groups),
                policies=(policies or {}).get(first, []),
            )
            for first, means in references.items()
        ],
        pairs=[JudgedPair(**dict(one), first=first, second=second) for (first, second), one in judged.items()],
        bradley_terry=_strengths(rows, reference),
        position=_position(rows),
        comparisons=len(rows),
        identical=sum(row.get("reason") == "identical answers" for row in rows),
        failed=dict(sorted(missing.items())),
    )


def _swapped(row: Row) -> Json:
    # What was shown first is now called second, so the two orders change places too.
    pairs = (("first", "second"), ("length_first", "length_second"), ("forward", "backward"))
    flip = {a: b for pair in pairs for a, b in (pair, pair[::-1]) if {*pair} <= row.keys()}
    turned = {key: row[flip.get(key, key)] for key in row}
    shares = {key: 1 - turned[key] for key in ("preference", "forward", "backward") if turned.get(key) is not None}
    return turned | shares


def _values(rows: Sequence[Row], key: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([np.nan if row.get(key) is None else row[key] for row in rows], dtype=float)


def _groups(rows: Sequence[Row]) -> list[str]:
    # Samples of one prompt, and prompts of one group, are not independent.
    return [row.get("group") or row["prompt_id"] for row in rows]


def rate_of(rows: Sequence[Row]) -> WinRate:
    """The share of the rows that their `first` won, with its interval over prompts."""
    return win_rate(_values(rows, "preference"), _groups(rows))


def _position(rows: Sequence[Row]) -> Position | None:
    return position_effect(_values(rows, "forward"), _values(rows, "backward"))


def _by_prompt(rows: Sequence[Row]) -> pd.DataFrame:
    """Means over the samples of each prompt, of comparisons with a verdict: preference, length_first, length_second."""
    columns = ["prompt_id", "preference", "length_first", "length_second"]
    table = pd.DataFrame([[row[key] for key in columns] for row in rows], columns=columns)
    table["preference"] = table["preference"].astype(float)
    return table.dropna(subset="preference").groupby("prompt_id").mean()


def _length_controlled(
    means: pd.DataFrame, difficulty: Mapping[str, float] | None, groups: Mapping[str, str]
) -> LengthControlled:
    if difficulty is None:
        few = f"prompt difficulty is estimated from at least {FEWEST_POLICIES} policies against the reference"
        return LengthControlled(**dict(undefined(NAME, len(means), few)), plain=None)
    gamma, own = ([known[prompt] for prompt in means.index] for known in (difficulty, groups))
    return length_controlled(means["preference"], means["length_first"], means["length_second"], gamma, own)


def _strengths(rows: Sequence[Row], reference: str) -> BradleyTerry:
    firsts, seconds = ([row[key] for row in rows] for key in ("first", "second"))
    preferences, groups = _values(rows, "preference"), _groups(rows)
    try:
        found = bradley_terry(firsts, seconds, preferences, groups, reference)
    except ValueError as error:  # too many failed comparisons to place every policy
        return BradleyTerry(anchor=reference, policies=None, ranking=None, reason=str(error))
    policies = {name: Strength(strength=own, win_rate=_chance(own)) for name, own in found.strengths.items()}
    ranking = sorted(policies, key=lambda name: -(policies[name].strength.value or 0.0))
    return BradleyTerry(anchor=reference, policies=policies, ranking=ranking, note=found.note)


def _chance(strength: Estimate) -> Estimate:
    """The chance of winning against the anchor that a strength stands for."""
    value, low, high = (None if v is None else float(expit(v)) for v in (strength.value, strength.low, strength.high))
    return estimated(value, low, high, strength.method, strength.n, note=strength.note)


def judge_agreement(name_a: str, name_b: str, a: Sequence[Row], b: Sequence[Row]) -> Agreement:
    """How often two judges have the same verdict on the same comparison, and Cohen's kappa."""

    def by_key(rows: Sequence[Row]) -> dict[tuple[str, ...], float]:
        # One orientation for both judges, whichever policy they were shown as first.
        turned = [
            row if row["first"] < row["second"] else _swapped(row) for row in rows if row["preference"] is not None
        ]
        return {(r["first"], r["second"], r["prompt_id"], str(r["sample"])): float(r["preference"]) for r in turned}

    one, two = by_key(a), by_key(b)
    shared = sorted(one.keys() & two.keys())
    if not shared:
        reason = "the two judges have a verdict on no common comparison"
        return Agreement(judges=[name_a, name_b], n=0, same_verdict=None, kappa=None, reason=reason)
    x, y = (np.sign([judge[key] - 0.5 for key in shared]) for judge in (one, two))
    return Agreement(
        judges=[name_a, name_b],
        n=len(shared),
        same_verdict=wilson(int((x == y).sum()), len(shared)),
        kappa=cohen_kappa(x, y),
        reason=None,
    )
