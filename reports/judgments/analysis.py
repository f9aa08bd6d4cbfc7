"""All that `judgments` says of a set of verdicts: tables by judge, pairs of models, agreement of judges and people."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from reports.compare.judges import length_controlled_items
from reports.compare.winrates import COMPARED, judge_agreement, rate_of, turned, verdicts_of
from reports.judgments.formats import read_judgments
from reports.judgments.judgment import Judgment, Style
from reports.runs.records import ReportError
from reports.schema import AgainstPeople, Estimate, JudgeTable, Judgments, ModelPair, ModelRate, Separability, Strengths
from reports.statistics.intervals import difference_interval, mean_interval
from reports.statistics.preferences import bradley_terry
from reports.statistics.winrate import classification, cohen_kappa, krippendorff_alpha, position_effect
from trainers.common.words import nearest


def table_of(judgments: Sequence[Judgment]) -> pd.DataFrame:
    """One line a verdict; `group` holds what is not independent of it: its prompt, or the group of that."""
    table = pd.DataFrame(judgments, columns=list(Judgment._fields))
    table["group"] = table["group"].fillna(table["prompt_id"])
    return table.astype(dict.fromkeys(("preference", "forward", "backward"), float))


def _both_ways(table: pd.DataFrame) -> pd.DataFrame:
    """Every verdict twice, seen from each of its two models, which is then `first`."""
    return pd.concat([table, turned(table, table["first"] != table["second"])])


# Win rates by model and pairs of models, from the verdicts of one judge.


def _baseline_of(table: pd.DataFrame) -> str | None:
    """The model that stands in every comparison, where there are other models than two."""
    models = {*table["first"], *table["second"]}
    common = [model for model in models if ((table["first"] == model) | (table["second"] == model)).all()]
    return common[0] if len(common) == 1 else None


def rates(table: pd.DataFrame, baseline: str | None) -> list[ModelRate]:
    """Every model but the baseline, best first."""
    controlled = _length_controlled(table, baseline)
    found = [
        ModelRate(model=str(model), win_rate=rate_of(own), length_controlled=controlled.get(str(model)))
        for model, own in _both_ways(table).groupby("first")
        if model != baseline
    ]
    return sorted(found, key=lambda one: -(one.win_rate.value or 0.0))


def _length_controlled(table: pd.DataFrame, baseline: str | None) -> dict[str, Estimate]:
    """By model; nothing where a length is unknown, there is no baseline, or too few models tell how hard a prompt is."""
    styles = table[["style_first", "style_second"]]
    if baseline is None or styles.isna().any(axis=None):
        return {}
    lengths = {f"length_{side}": [style[0] for style in table[f"style_{side}"]] for side in ("first", "second")}
    cells = length_controlled_items(table.assign(**lengths), baseline)
    return {model: mean_interval(list(own.values())) for model, own in cells.items()}


def _pairs(table: pd.DataFrame, models: Sequence[str]) -> list[ModelPair]:
    """Every two of the models, paired by prompt: from their own comparisons, else from those with the same opponents."""
    means = _both_ways(table).dropna(subset="preference").groupby(COMPARED)["preference"].mean().unstack()
    met = dict(zip(means.index, means.to_numpy(), strict=True))  # by (model, opponent): one preference a prompt
    group_of = dict(zip(table["prompt_id"], table["group"], strict=True))
    groups = np.array([group_of[prompt] for prompt in means.columns], dtype=object)
    found = []
    for a, b in combinations(models, 2):
        shared = sorted({o for m, o in met if m == a} & {o for m, o in met if m == b})
        if (a, b) in met:
            how, gaps = "with each other", [2 * met[a, b] - 1]
        else:
            how = f"against {', '.join(shared)}" if shared else "no common opponent"
            gaps = [met[a, opponent] - met[b, opponent] for opponent in shared]
        values, own = np.concatenate([[], *gaps]), np.tile(groups, len(gaps))
        known = ~np.isnan(values)
        estimate = difference_interval(values[known], own[known].tolist())
        p = None
        if estimate.value is not None and estimate.stderr:
            p = float(2 * special.stdtr(len(set(own[known])) - 1, -abs(estimate.value) / estimate.stderr))
        found.append(ModelPair(first=a, second=b, difference=estimate, p_value=p, how=how))
    return found


def _separability(models: Sequence[ModelRate]) -> Separability:
    """How many pairs of models have intervals of the win rate that do not overlap (Arena-Hard, 2406.11939)."""
    ends = [
        (m.win_rate.low, m.win_rate.high) for m in models if m.win_rate.low is not None and m.win_rate.high is not None
    ]
    every = list(combinations(ends, 2))
    apart = sum(a[0] > b[1] or b[0] > a[1] for a, b in every)
    reason = None if every else "fewer than two models with an interval"
    return Separability(value=apart / len(every) if every else None, separated=apart, pairs=len(every), reason=reason)


# Everything that `judgments` says of a set of verdicts: each judge's tables, and the agreement of judges and people.


def judgments_summary(paths: Sequence[Path], baseline: str | None = None) -> Judgments:
    """Read the files and sum them up.

    Args:
        baseline: model that the others are compared with; None finds the one that stands in every comparison.

    Raises:
        ReportError: a file that cannot be read, or a baseline that is in none.
    """
    name, found = read_judgments(paths)
    table = table_of(found)
    models = sorted({*table["first"], *table["second"]})
    if baseline is not None and baseline not in models:
        raise ReportError(f"--baseline {baseline}: no such model; {nearest(baseline, models, ', '.join(models[:12]))}")
    by_judge = {str(judge): rows for judge, rows in table.groupby("judge", sort=False)}
    said = {judge: np.sign(verdicts_of(rows) - 0.5) for judge, rows in by_judge.items()}
    people = [judge for judge, rows in by_judge.items() if rows["human"].iloc[0]]
    return Judgments(
        schema_version=1,
        format=name,
        files=[str(path) for path in paths],
        judges=[_table(judge, rows, baseline, said, people) for judge, rows in by_judge.items()],
        agreement=[judge_agreement(a, b, said[a] / 2 + 0.5, said[b] / 2 + 0.5) for a, b in combinations(by_judge, 2)],
        alpha=krippendorff_alpha(_side_by_side(said, list(by_judge))),
        alpha_people=krippendorff_alpha(_side_by_side(said, people)),
    )


def _side_by_side(said: Mapping[str, pd.Series], judges: Sequence[str]) -> pd.DataFrame:
    """What the judges said, 1, 0 or -1, a line for each comparison that any of them judged."""
    return pd.DataFrame({judge: said[judge] for judge in judges}).sort_index()


def _table(
    judge: str, rows: pd.DataFrame, asked: str | None, said: Mapping[str, pd.Series], people: Sequence[str]
) -> JudgeTable:
    if asked is not None:
        rows = rows[(rows["first"] == asked) | (rows["second"] == asked)]
    baseline = asked or (_baseline_of(rows) if len(rows) else None)
    models = rates(rows, baseline)
    return JudgeTable(
        judge=judge,
        human=judge in people,
        comparisons=len(rows),
        prompts=rows["prompt_id"].nunique(),
        baseline=baseline,
        models=models,
        pairs=_pairs(rows, [one.model for one in models]),
        separability=_separability(models),
        strengths=_strengths(rows, baseline or models[-1].model),
        position=position_effect(rows["forward"], rows["backward"]),
        against_people=None if judge in people else _against_people(rows, said[judge], _side_by_side(said, people)),
    )


def _features(rows: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """(a - b) / (a + b) of each feature of style, 0 where neither answer has any; nothing where a style is unknown."""
    if rows[["style_first", "style_second"]].isna().any(axis=None):
        return {}
    a, b = (np.array(rows[side].tolist(), dtype=float) for side in ("style_first", "style_second"))
    shares = np.divide(a - b, a + b, out=np.zeros_like(a), where=a + b > 0)
    return dict(zip(Style._fields, shares.T, strict=True))


def _strengths(rows: pd.DataFrame, anchor: str) -> Strengths:
    columns = rows["first"].tolist(), rows["second"].tolist(), rows["preference"], rows["group"].tolist()
    try:
        plain, features = bradley_terry(*columns, anchor), _features(rows)
        styled = bradley_terry(*columns, anchor, features) if features else None
    except ValueError as error:
        return Strengths(anchor=None, plain={}, style_controlled={}, style={}, reason=str(error))
    return Strengths(
        anchor=anchor,
        plain=plain.strengths,
        style_controlled=styled.strengths if styled else {},
        style=styled.weights if styled else {},
        reason=plain.note if styled else "the style of an answer is not known",
    )


def _against_people(rows: pd.DataFrame, mine: pd.Series, people: pd.DataFrame) -> AgainstPeople | None:
    """None where no person judged a comparison that the judge judged."""
    labels = np.array([-1.0, 0.0, 1.0])
    counts = (people.reindex(mine.index).to_numpy()[:, :, None] == labels).sum(axis=1)
    majority = 2 * counts.max(axis=1) > counts.sum(axis=1)
    truth = pd.Series(labels[counts.argmax(axis=1)], mine.index, name="truth")[majority]
    if truth.empty:
        return None
    said = mine[majority]
    given = said.fillna(0.0)
    orders = turned(rows, rows["first"] >= rows["second"]).join(truth, on=COMPARED)
    orders = orders.dropna(subset=["truth", "forward", "backward"])
    right = np.sign(orders[["forward", "backward"]].to_numpy() - 0.5) == orders[["truth"]].to_numpy()
    return AgainstPeople(
        n=len(truth),
        no_verdict=int(said.isna().sum()),
        **classification(truth, given),
        each_order=float(right.mean()) if len(right) else None,
        kappa=cohen_kappa(truth, given),
    )
