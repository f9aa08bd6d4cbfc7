"""Win rates of all policies from comparison rows: against the reference, between every pair, and how far to trust them.

The rows are those of `comparisons/<benchmark>.jsonl` (their columns are described in evals/judges/comparisons.py).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from reports.runs.records import ReportError
from reports.schema import (
    Agreement,
    BradleyTerry,
    Estimate,
    Json,
    Judged,
    JudgedArm,
    JudgedPair,
    JudgedPolicy,
    JudgeVerdicts,
    LengthControlled,
    Strength,
    WinRate,
)
from reports.statistics.intervals import estimated, undefined, wilson
from reports.statistics.preferences import NAME, bradley_terry, difficulties, length_controlled, length_term
from reports.statistics.winrate import cohen_kappa, position_effect, win_rate
from trainers.common.jsonl import read_jsonl
from trainers.common.turns import DataError

_COLUMNS = ("judge", "prompt_id", "sample", "first", "second", "preference", "length_first", "length_second")
_SHARES = ["preference", "forward", "backward"]
#: A comparison: two policies and what they were asked.
COMPARED = ["first", "second", "prompt_id"]
#: With fewer, the estimate of prompt difficulty is mostly noise and length control does more harm than good.
FEWEST_POLICIES = 4


def read_comparisons(path: Path) -> list[Json]:
    """The rows of a comparison file. ReportError for a line that is no row."""
    try:
        rows = read_jsonl(path)
    except DataError as error:
        raise ReportError(f"{error}, or judge again") from error
    for number, row in rows:
        absent = next((key for key in _COLUMNS if key not in row), None)
        if absent is not None:
            raise ReportError(f"{path}:{number}: the row has no {absent!r}; judge again")
    return [row for _, row in rows]


def comparison_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One line a comparison; NaN where there is no verdict or no length.

    `group` holds what is not independent: samples of one prompt, and prompts of one group.
    """
    table = pd.DataFrame(rows, columns=[*_COLUMNS, "forward", "backward"])
    table["group"] = [row.get("group") or row["prompt_id"] for row in rows]
    table["reason"] = [row.get("reason") or "no reason" for row in rows]
    return table.astype(dict.fromkeys([*_SHARES, "length_first", "length_second"], float) | {"sample": str})


def turned(table: pd.DataFrame, swap: pd.Series) -> pd.DataFrame:
    """The table with the two policies exchanged where `swap`. What was shown first is then second, so the orders change too."""
    names = {c: c.replace("first", "second") if "first" in c else c.replace("second", "first") for c in table.columns}
    other = table[swap].rename(columns=names | {"forward": "backward", "backward": "forward"})
    other[_SHARES] = 1 - other[_SHARES]
    return pd.concat([table[~swap], other]).sort_index()


def difficulty_of(table: pd.DataFrame, reference: str) -> dict[str, float] | None:
    """Prompt difficulty as one judge sees it, from all policies against the reference; None for fewer than `FEWEST_POLICIES`."""
    judged = {name: means for name, means in against(table, reference).items() if len(means)}
    if len(judged) < FEWEST_POLICIES:
        return None
    terms = {name: pd.Series(length_term(m["length_first"], m["length_second"]), m.index) for name, m in judged.items()}
    preferences = pd.DataFrame({name: means["preference"] for name, means in judged.items()}).sort_index()
    of_prompts = pd.DataFrame(terms, preferences.index).fillna(0.0)
    return dict(zip(preferences.index, difficulties(preferences.T, of_prompts.T).tolist(), strict=True))


def against(table: pd.DataFrame, reference: str) -> dict[str, pd.DataFrame]:
    """By policy its comparisons with the reference that have a verdict: means over the samples of each prompt of preference,
    length_first (its own) and length_second."""
    facing = turned(table, table["first"] == reference)
    means = ["preference", "length_first", "length_second"]
    return {
        str(name): own.dropna(subset="preference").groupby("prompt_id")[means].mean()
        for name, own in facing[facing["second"] == reference].groupby("first")
    }


def judge_summary(
    table: pd.DataFrame,
    reference: str,
    difficulty: Mapping[str, float] | None = None,
    policies: Mapping[str, list[JudgedPolicy]] | None = None,
) -> JudgeVerdicts:
    """What the comparisons of one judge on one benchmark say.

    Each policy against the reference (plain and length-controlled win rate), every pair, Bradley-Terry over all policies,
    position effect, failures by reason.

    Args:
        table: of one judge on one benchmark.
        reference: the policy that win rates are against.
        difficulty: gamma_x by prompt id for the length-controlled win rate; None estimates it from all policies against
            the reference, which takes at least `FEWEST_POLICIES` of them.
        policies: where the names in the table are those of methods, each method's single policies, to stand beside it.
    """
    facing = turned(table, table["first"] == reference)
    judged = {
        (str(first), str(second)): Judged(
            win_rate=rate_of(own), position=position_effect(own["forward"], own["backward"])
        )
        for (first, second), own in facing.groupby(["first", "second"])
    }
    failed = table["reason"][table["preference"].isna()].value_counts().sort_index()
    gamma = difficulty if difficulty is not None else difficulty_of(table, reference)
    groups = dict(zip(table["prompt_id"], table["group"], strict=True))
    return JudgeVerdicts(
        against_reference=[
            JudgedArm(
                **dict(judged[first, reference]),
                label=first,
                length_controlled=_length_controlled(means, gamma, groups),
                policies=(policies or {}).get(first, []),
            )
            for first, means in against(table, reference).items()
        ],
        pairs=[JudgedPair(**dict(one), first=first, second=second) for (first, second), one in judged.items()],
        bradley_terry=_strengths(table, reference),
        position=position_effect(table["forward"], table["backward"]),
        comparisons=len(table),
        identical=int((table["reason"] == "identical answers").sum()),
        failed={str(reason): int(count) for reason, count in failed.items()},
    )


def rate_of(table: pd.DataFrame) -> WinRate:
    """The share of the comparisons that their `first` won, with its interval over prompts."""
    return win_rate(table["preference"], table["group"].tolist())


def _length_controlled(
    means: pd.DataFrame, difficulty: Mapping[str, float] | None, groups: Mapping[str, str]
) -> LengthControlled:
    if difficulty is None:
        few = f"prompt difficulty is estimated from at least {FEWEST_POLICIES} policies against the reference"
        return LengthControlled(**dict(undefined(NAME, len(means), few)), plain=None)
    gamma, own = ([known[prompt] for prompt in means.index] for known in (difficulty, groups))
    return length_controlled(means["preference"], means["length_first"], means["length_second"], gamma, own)


def _strengths(table: pd.DataFrame, reference: str) -> BradleyTerry:
    try:
        compared = table["first"].tolist(), table["second"].tolist(), table["preference"], table["group"].tolist()
        found = bradley_terry(*compared, reference)
    except ValueError as error:  # too many failed comparisons to place every policy
        return BradleyTerry(anchor=reference, policies=None, ranking=None, reason=str(error))
    policies = {name: Strength(strength=own, win_rate=_chance(own)) for name, own in found.strengths.items()}
    ranking = sorted(policies, key=lambda name: -(policies[name].strength.value or 0.0))
    return BradleyTerry(anchor=reference, policies=policies, ranking=ranking, note=found.note)


def _chance(strength: Estimate) -> Estimate:
    """The chance of winning against the anchor that a strength stands for."""
    value, low, high = (None if v is None else float(expit(v)) for v in (strength.value, strength.low, strength.high))
    return estimated(value, low, high, strength.method, strength.n, note=strength.note)


def verdicts_of(table: pd.DataFrame, *keys: str) -> pd.Series:
    """Mean preference by comparison (and further keys), for the alphabetically first policy; NaN without a verdict."""
    return turned(table, table["first"] >= table["second"]).groupby([*COMPARED, *keys])["preference"].mean()


def judge_agreement(name_a: str, name_b: str, a: pd.Series, b: pd.Series) -> Agreement:
    """How often two judges have the same verdict on the same comparison, and Cohen's kappa; from `verdicts_of` each."""
    shared = pd.concat([a, b], axis=1, join="inner").dropna()
    if shared.empty:
        reason = "the two judges have a verdict on no common comparison"
        return Agreement(judges=[name_a, name_b], n=0, same_verdict=None, kappa=None, reason=reason)
    x, y = np.sign(shared.to_numpy() - 0.5).T
    return Agreement(
        judges=[name_a, name_b],
        n=len(shared),
        same_verdict=wilson(int((x == y).sum()), len(shared)),
        kappa=cohen_kappa(x, y),
        reason=None,
    )
