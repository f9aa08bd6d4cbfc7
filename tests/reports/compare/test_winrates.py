"""Win rates, Bradley-Terry, length control and agreement: known values, oracles, and coverage by simulation."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from statsmodels.stats.inter_rater import cohens_kappa

from reports.compare.winrates import (
    comparison_table,
    judge_agreement,
    judge_summary,
    read_comparisons,
    verdicts_of,
)
from reports.runs.records import ReportError
from reports.statistics.intervals import wilson
from reports.statistics.preferences import bradley_terry, difficulties, length_controlled, length_term
from reports.statistics.winrate import classification, cohen_kappa, confusion, position_effect, win_rate


def test_win_rate_counts_ties_as_half_and_leaves_failures_out() -> None:
    result = win_rate([1, 1, 0, 0.5, float("nan"), 0.8])
    assert (result.wins, result.losses, result.draws, result.failed) == (3, 1, 1, 1)
    assert result.value == pytest.approx(3.3 / 5)
    assert result.discrete == pytest.approx(3.5 / 5)
    assert result.stderr == pytest.approx(np.std([1, 1, 0, 0.5, 0.8], ddof=1) / np.sqrt(5))
    assert "1 of 6 comparisons have no verdict" in (result.note or "")
    json.dumps(result.plain(), allow_nan=False)


def test_win_rate_of_few_or_unanimous_prompts_has_wilsons_interval() -> None:
    few = win_rate([1] * 7 + [0] * 3)
    expected = wilson(7, 10)
    assert (few.low, few.high) == pytest.approx((expected.low, expected.high))
    unanimous = win_rate([1] * 400)
    assert unanimous.high == 1.0 and unanimous.low is not None and 0.98 < unanimous.low < 1.0


def test_win_rate_clusters_samples_of_one_prompt() -> None:
    rng = np.random.default_rng(1)
    once = rng.integers(0, 2, 150).astype(float)
    four = win_rate(np.repeat(once, 4), list(np.repeat(np.arange(150), 4)))
    assert four.stderr == pytest.approx(win_rate(once).stderr, rel=1e-9)
    assert "clustered" in four.method


def test_win_rate_without_a_verdict_is_null_with_a_reason() -> None:
    result = win_rate([float("nan")] * 3)
    assert result.value is None and result.failed == 3 and result.reason == "no comparison has a verdict"
    assert win_rate([]).discrete is None


@pytest.mark.parametrize("bad", [[1.2], [-0.1], [[0.5]]])
def test_win_rate_refuses_what_is_no_preference(bad: Any) -> None:
    with pytest.raises(ValueError, match="preferences"):
        win_rate(bad)


def test_win_rate_interval_covers() -> None:
    rng = np.random.default_rng(0)
    for n in (20, 200):
        draws = rng.choice([0.0, 0.5, 1.0], p=[0.3, 0.2, 0.5], size=(600, n))
        results = [win_rate(d) for d in draws]
        covered = np.mean([r.low <= 0.6 <= r.high for r in results if r.low is not None and r.high is not None])
        assert 0.92 <= covered <= 1.0


def test_position_effect_separates_a_stubborn_judge_from_a_fair_one() -> None:
    stubborn = position_effect([1, 1, 1, 1], [0, 0, 0, 0])  # always prefers what stands first
    assert stubborn.consistency.value == 0 and stubborn.first_preference.value == 1
    fair = position_effect([1, 0, 0.5, float("nan")], [1, 0, 0.5, 1])
    assert fair.consistency.value == 1 and fair.first_preference.value == 0.5 and fair.consistency.n == 3
    assert position_effect([float("nan")], [1]).consistency.value is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=6, max_size=60))
def test_kappa_is_statsmodels(pairs: list[tuple[int, int]]) -> None:
    a, b = (np.array(column) for column in zip(*pairs, strict=True))
    ours, table = cohen_kappa(a, b), confusion(a, b)
    if table.shape[0] == 1:
        assert ours.value is None and ours.note
        return
    theirs = cohens_kappa(table)
    assert ours.value == pytest.approx(theirs.kappa, abs=1e-12)
    if ours.stderr is not None and not np.isnan(
        theirs.std_kappa
    ):  # theirs: the root of a variance that rounding made negative
        assert ours.stderr == pytest.approx(theirs.std_kappa, abs=1e-7)


def test_classification_by_hand_and_a_class_never_predicted() -> None:
    result = classification(["a", "a", "b", "c"], ["a", "b", "b", "b"])
    precision, recall, f1 = (1 + 1 / 3 + 0) / 3, (0.5 + 1 + 0) / 3, (2 / 3 + 0.5 + 0) / 3
    assert result == pytest.approx({"accuracy": 0.5, "precision": precision, "recall": recall, "f1": f1})


def simulate(strengths: list[float], prompts: int, seed: int) -> tuple[list[str], list[str], list[float], list[int]]:
    """Every two policies on every prompt; outcomes follow Bradley-Terry exactly."""
    rng = np.random.default_rng(seed)
    first, second, p, ids = [], [], [], []
    for prompt in range(prompts):
        for i in range(len(strengths)):
            for j in range(i):
                first.append(f"p{i}")
                second.append(f"p{j}")
                p.append(float(rng.random() < expit(strengths[i] - strengths[j])))
                ids.append(prompt)
    return first, second, p, ids


def test_two_policies_have_the_log_odds_of_their_win_rate() -> None:
    result = bradley_terry(["a"] * 4, ["b"] * 4, [1, 1, 0.5, 0], list(range(4)), anchor="b").strengths["a"]
    assert result.value == pytest.approx(np.log(2.5 / 1.5), abs=1e-3)


def test_strengths_are_statsmodels_logistic_regression() -> None:
    first, second, p, ids = simulate([0.0, 0.4, -0.6, 1.0], 80, 3)
    result = bradley_terry(first, second, p, ids, anchor="p0").strengths
    design = np.zeros((len(p), 4))
    for row, (i, j) in enumerate(zip(first, second, strict=True)):
        design[row, int(i[1])], design[row, int(j[1])] = 1, -1
    fit = sm.Logit(p, design[:, 1:]).fit(disp=0, cov_type="cluster", cov_kwds={"groups": np.array(ids)})
    own = [result[f"p{i}"] for i in (1, 2, 3)]
    assert [s.value for s in own] == pytest.approx(list(fit.params), abs=1e-4)
    assert [s.stderr for s in own] == pytest.approx(list(fit.bse), rel=0.01)
    assert result["p0"].value == 0 and result["p0"].reason


def test_bradley_terry_intervals_cover() -> None:
    truth, hits, total = [0.0, 0.5, -0.5], 0, 0
    for seed in range(120):
        result = bradley_terry(*simulate(truth, 60, seed), anchor="p0").strengths
        for strength, true in ((result[f"p{i}"], truth[i]) for i in (1, 2)):
            assert strength.low is not None and strength.high is not None
            hits, total = hits + (strength.low <= true <= strength.high), total + 1
    assert 0.90 <= hits / total <= 0.99


def test_bradley_terry_says_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="no chain of comparisons connects 'c' with 'a'"):
        bradley_terry(["a", "c"], ["b", "d"], [1, 0], [1, 2], anchor="a")
    with pytest.raises(ValueError, match="the anchor 'z'"):
        bradley_terry(["a"], ["b"], [1], [1], anchor="z")
    champion = bradley_terry(["a"] * 9, ["b"] * 9, [1] * 9, list(range(9)), anchor="b")
    assert "without bound" in (champion.note or "")


def biased_data(n: int, seed: int) -> tuple[Any, Any, Any]:
    """A policy no better than the baseline, but wordier, before a judge who likes length."""
    rng = np.random.default_rng(seed)
    base = rng.integers(200, 800, n)
    lengths = base + rng.normal(150, 200, n)
    p = (rng.random(n) < expit(1.2 * length_term(lengths, base))).astype(float)
    return p, lengths, base


def test_length_control_takes_a_length_bias_away() -> None:
    p, lengths, base = biased_data(3000, 0)
    fit = length_controlled(p, lengths, base, np.zeros(3000))
    assert fit.plain_rate is not None and fit.plain_rate > 0.6
    assert fit.low is not None and fit.high is not None and fit.low < 0.5 < fit.high
    assert fit.weights is not None and fit.weights["phi"] == pytest.approx(1.2, abs=0.2)
    json.dumps(fit.plain(), allow_nan=False)


def test_without_penalty_the_fit_is_statsmodels() -> None:
    p, lengths, base = biased_data(400, 1)
    graded = np.clip(p * 0.8 + 0.1, 0, 1)
    fit = length_controlled(graded, lengths, base, np.zeros(400))
    design = np.column_stack([np.ones(400), length_term(lengths, base)])
    theirs = sm.GLM(graded, design, family=sm.families.Binomial()).fit().params
    assert fit.strength is not None and fit.weights is not None
    # The L1 penalty moves each weight by about 1 / (strength * curvature), here well below the tolerance.
    assert (fit.weights["theta"], fit.weights["phi"]) == pytest.approx(tuple(theirs), abs=2 / (fit.strength * 40))


def test_length_control_interval_covers_when_weights_are_refitted() -> None:
    hits = 0
    for seed in range(40):
        rate = length_controlled(*biased_data(300, seed), np.zeros(300))
        assert rate.low is not None and rate.high is not None
        hits += rate.low <= 0.5 <= rate.high
    assert hits >= 34  # three standard errors below 38


def test_equal_lengths_leave_the_plain_win_rate() -> None:
    p = np.array([1.0] * 60 + [0.0] * 40)
    np.random.default_rng(0).shuffle(p)
    fit = length_controlled(p, [300] * 100, [300] * 100, np.zeros(100))
    assert fit.value == pytest.approx(0.6, abs=0.02) and fit.weights is not None and fit.weights["phi"] == 0
    assert "nothing to control for" in (fit.note or "")
    few = length_controlled([1.0, 0.0], [1, 2], [3, 4], [0, 0])
    assert few.reason == "fewer than 10 comparisons with a verdict"


def test_difficulties_are_recovered_from_many_models() -> None:
    rng = np.random.default_rng(5)
    gamma = rng.normal(size=120)
    theta = rng.normal(size=40)
    terms = np.tanh(rng.normal(size=(40, 120)))
    p = (rng.random((40, 120)) < expit(theta[:, None] + 0.5 * terms + gamma)).astype(float)
    p[0, :10] = np.nan
    assert np.corrcoef(difficulties(p, terms), gamma)[0, 1] > 0.9


def rows(judge: str, flip: bool = False) -> list[dict[str, Any]]:
    """Policies b (better) and c (worse) and the reference r on 40 prompts; one comparison without a verdict."""
    rng = np.random.default_rng(7)
    quality, out = {"r": 0.0, "b": 1.0, "c": -1.0}, []
    for first, second in (("b", "r"), ("r", "c"), ("b", "c")):
        for prompt in range(40):
            draws = (rng.random(2) < expit(quality[first] - quality[second])).astype(float)
            forward, backward = float(draws[0]), float(draws[1])
            row: dict[str, Any] = {"judge": judge, "prompt_id": f"q{prompt}", "sample": 0, "group": None}
            row |= {"first": first, "second": second, "forward": forward, "backward": backward}
            row |= {"preference": (forward + backward) / 2, "reason": None}
            row |= {"length_first": 100 + prompt, "length_second": 90 + 2 * prompt, "benchmark": "bench"}
            if prompt == 3 and first == "b":
                row |= {"preference": None, "backward": None, "reason": "no verdict in the reply"}
            if flip:
                row = {**row, "first": second, "second": first}
                row |= {"length_first": row["length_second"], "length_second": row["length_first"]}
                turned = {k: None if row[k] is None else 1 - row[k] for k in ("preference", "forward", "backward")}
                row |= {**turned, "forward": turned["backward"], "backward": turned["forward"]}
            out.append(row)
    return out


def test_summary_orients_every_pair_and_counts_failures() -> None:
    judge = judge_summary(comparison_table(rows("llm")), "r")
    b, c = judge.against_reference
    assert (b.label, c.label) == ("b", "c") and b.win_rate.value > 0.5 > c.win_rate.value
    assert judge.failed == {"no verdict in the reply": 2}
    assert judge.bradley_terry.ranking == ["b", "r", "c"]
    assert judge.comparisons == 120 and len(judge.pairs) == 3
    json.dumps(judge.plain(), allow_nan=False)


def test_summary_does_not_depend_on_who_was_named_first() -> None:
    one, two = (judge_summary(comparison_table(rows("llm", flip)), "r") for flip in (False, True))
    assert one.against_reference == two.against_reference
    assert one.position.consistency == two.position.consistency


def test_agreement_of_two_judges() -> None:
    mine, other = (verdicts_of(comparison_table(said), "sample") for said in (rows("x"), rows("y", flip=True)))
    same = judge_agreement("x", "y", mine, other)
    assert same.judges == ["x", "y"] and same.n == 118
    assert same.same_verdict.value == 1 and same.kappa.value == 1
    decided = [row for row in rows("z") if row["preference"] in (0.0, 1.0)]
    contrary = [{**row, "judge": "z", "preference": 1 - row["preference"]} for row in decided]
    opposed = judge_agreement("x", "z", mine, verdicts_of(comparison_table(contrary), "sample"))
    assert opposed.n == len(contrary) and opposed.same_verdict.value == 0
    assert opposed.kappa.value < 0


def test_a_judge_of_single_answers_has_no_position_effect() -> None:
    plain = [{**row, "forward": None, "backward": None} for row in rows("rm")]
    assert judge_summary(comparison_table(plain), "r").position is None


def test_a_judge_that_always_fails_is_reported_not_guessed() -> None:
    failed = [
        {**row, "preference": None, "forward": None, "backward": None, "reason": "timeout"} for row in rows("llm")
    ]
    judge = judge_summary(comparison_table(failed), "r")
    assert judge.against_reference[0].win_rate.value is None
    assert judge.against_reference[0].length_controlled.reason
    assert judge.bradley_terry.ranking is None and judge.bradley_terry.reason
    assert judge.failed == {"timeout": 120}
    json.dumps(judge.plain(), allow_nan=False)


def test_reading_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "bench.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows("llm")) + '{"judge": "llm"}\n')
    with pytest.raises(ReportError, match=r"bench\.jsonl:121: the row has no 'prompt_id'"):
        read_comparisons(path)
    path.write_text("{not json\n")
    with pytest.raises(ReportError, match=r"bench\.jsonl:1: not valid JSON"):
        read_comparisons(path)


def test_length_control_in_the_summary_needs_four_policies() -> None:
    few = judge_summary(comparison_table(rows("llm")), "r").against_reference[0].length_controlled
    assert few.value is None and "at least 4 policies" in few.reason
    known = judge_summary(comparison_table(rows("llm")), "r", {f"q{k}": 0.0 for k in range(40)}).against_reference[0]
    assert 0.5 < known.length_controlled.value < 1
    more = [row for row in rows("llm") if row["second"] == "r"]
    many = [{**row, "first": name} for name in "bdefg" for row in more]
    against = [arm.length_controlled for arm in judge_summary(comparison_table(many), "r").against_reference]
    assert len(against) == 5 and all(0.5 < entry.value < 1 and entry.n == 39 for entry in against)
