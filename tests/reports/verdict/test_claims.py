"""Claims: frozen before training, judged with their controls, never stronger than the design."""

import dataclasses
import hashlib
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports.runs.records import Item, MatrixData, ReportError, RunData, Scores
from reports.schema.summary import _in_words_of_now
from reports.statistics.multiplicity import holm
from reports.verdict.claims import Claim, ClaimError, freeze, parse_claims, thaw, undeclared, verify
from reports.verdict.evidence import gather
from reports.verdict.judged import Judged, judge, judge_matrix
from reports.verdict.sentences import judged_claim, sentence, to_settle
from tests.simulation.worlds import from_arrays

CLAIM = Claim("helps", "foodpo", "fixed", "bench/m", min_effect=0.05)
ROW = {"name": "helps", "method": "foodpo", "against": "fixed", "metric": "bench/m", "min_effect": 0.05}


def grid(level: float, seeds: int = 6, prompts: int = 80, noise: float = 0.1, seed: int = 0) -> np.ndarray:
    return level + noise * np.random.default_rng([seed, seeds, prompts]).normal(size=(seeds, prompts))


def grids(noise: float = 0.1, **levels: float) -> dict[str, np.ndarray]:
    return {role: grid(level, noise=noise, seed=i) for i, (role, level) in enumerate(levels.items())}


def one(claim: Claim, arrays: dict[str, np.ndarray] | None = None, **levels: float) -> Judged:
    """The claim judged on arrays (seeds, prompts) by role, or on six seeds by 80 prompts around these levels."""
    evidence = from_arrays("foodpo", "fixed", arrays or grids(**levels), link="prompt perplexity")
    return judge([(claim, evidence)])[0]


# --- declaring and freezing


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"colour": 1}, "unknown key 'colour'"),
        ({"method": None}, "method is None; it must be a text"),
        ({"metric": "m"}, "write it as benchmark/metric"),
        ({"against": "foodpo"}, "both 'foodpo'"),
        ({"asserts": "truth"}, "asserts is 'truth'; known: gain, variation, perplexity"),
        ({"at": "half_time"}, "known: final, matched_kl"),
        ({"min_effect": -0.1}, "min_effect is -0.1"),
        ({"min_effect": float("nan")}, "min_effect is nan"),
        ({"min_effect": True}, "min_effect is True"),
    ],
)
def test_malformed_claims_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ClaimError, match=re.escape(words)):
        parse_claims([ROW | change])


def test_missing_keys_duplicates_and_shapes_are_refused() -> None:
    rows: list[Any]
    for rows, words in (
        ([{k: v for k, v in ROW.items() if k != "metric"}], r"claims\[0\]: metric is missing"),
        ([ROW, ROW], r"claims\[1\]: duplicate claim name 'helps'"),
        (["helps"], "must be a mapping"),
    ):
        with pytest.raises(ClaimError, match=words):
            parse_claims(rows)
    assert parse_claims([ROW]) == [CLAIM]


def test_frozen_claims_survive_json_and_verify() -> None:
    frozen = json.loads(json.dumps(freeze([CLAIM])))
    assert verify(frozen, [CLAIM]) == []
    assert thaw(frozen)[0] == [CLAIM]
    assert abs(thaw(frozen)[1] - datetime.now(UTC)) < timedelta(minutes=1)
    assert freeze([CLAIM])["sha256"] == frozen["sha256"] and len(frozen["sha256"]) == 64
    whole = dataclasses.replace(CLAIM, min_effect=1)
    assert freeze([whole])["sha256"] == freeze([dataclasses.replace(CLAIM, min_effect=1.0)])["sha256"]


def test_every_later_change_is_named() -> None:
    frozen = freeze([CLAIM])
    (changed,) = verify(frozen, [dataclasses.replace(CLAIM, min_effect=0.01)])
    assert "min_effect 0.05 -> 0.01" in changed and "judged as frozen" in changed
    other = dataclasses.replace(CLAIM, name="other")
    removed, added = verify(frozen, [other])
    assert "'helps' was removed" in removed
    assert "'other' was added" in added and "exploratory" in added


def test_seeds_and_looks_are_frozen_and_version_1_is_read() -> None:
    frozen = freeze([CLAIM], [0, 1, 2], [6, 10])
    assert thaw(frozen)[0] == [CLAIM] and undeclared(frozen, range(6)) is None
    assert freeze([CLAIM], [0, 1, 2], [6, 11])["sha256"] != frozen["sha256"]
    with pytest.raises(ClaimError, match="changed after freezing"):
        thaw(frozen | {"looks": [6, 8, 10]})
    rows = frozen["claims"]
    text = json.dumps(rows, sort_keys=True, separators=(",", ":"))
    old = {"schema_version": 1, "frozen": frozen["frozen"], "claims": rows}
    old["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    assert thaw(old)[0] == [CLAIM] and undeclared(old, [7]) is None


def test_a_tampered_file_is_refused() -> None:
    frozen = freeze([CLAIM])
    frozen["claims"][0]["min_effect"] = 0.0
    assert "changed after freezing" in verify(frozen, [CLAIM])[0]
    for content, words in (
        (frozen, "changed after freezing"),
        ({"claims": []}, "not a file of frozen claims"),
        ({**freeze([CLAIM]), "frozen": "2026-01-02T03:04:05"}, "zone"),
    ):
        with pytest.raises(ClaimError, match=words):
            thaw(content)


# --- verdicts


@pytest.mark.parametrize(
    ("gain", "verdict"), [(0.2, "better by more than m"), (-0.2, "worse"), (0.0, "equivalent"), (0.02, "equivalent")]
)
def test_verdicts_of_clear_cases(gain: float, verdict: str) -> None:
    judged = one(CLAIM, method=0.5 + gain, baseline=0.5)
    assert judged.verdict == verdict
    text = sentence(judged)
    assert f"helps (gain): {verdict.replace('than m', 'than 0.05')}: foodpo on bench/m" in text
    assert "6 seeds x 80 prompts" in text and "95 % interval" in text
    assert text.count(". ") == 0 and text.endswith(".")


def test_worse_says_than_what() -> None:
    """Below zero for sure; the interval reaches below -min_effect: not equivalent."""
    rng = np.random.default_rng(0)
    d = np.linspace(-0.25, 0.0, 6)[:, None] + 0.01 * rng.normal(size=(6, 80))
    judged = one(CLAIM, {"method": d, "baseline": np.zeros((6, 80))})
    assert judged.verdict == "worse"
    assert "it is worse than fixed" in sentence(judged)


def test_undecided_says_what_would_settle_it() -> None:
    rng = np.random.default_rng(1)
    d = 0.03 + 0.2 * rng.normal(size=(5, 1)) + 0.3 * rng.normal(size=(5, 40))
    judged = one(CLAIM, {"method": d, "baseline": np.zeros((5, 40))})
    assert judged.verdict == "undecided"
    settle = to_settle(judged.evidence.contrasts["baseline"], 0.05)
    assert settle is not None and settle.seeds is not None and settle.seeds > 50
    assert f"about {settle.seeds} seeds at 40 prompts, or no number of prompts at 5 seeds" in sentence(judged)


def test_too_few_seeds_are_never_enough() -> None:
    judged = one(CLAIM, {"method": grid(0.9, seeds=4), "baseline": grid(0.1, seeds=4, seed=1)})
    assert (judged.verdict, judged.attribution, judged.family) == ("undecided", None, 1)
    assert "S=4 cannot reach" in sentence(judged)
    assert "fewer than 5 paired seeds" in str(judged_claim(judged).adjusted_p.reason)


@pytest.mark.parametrize(
    ("levels", "attribution", "words"),
    [
        ({"matched_mean": 0.7, "permuted": 0.7}, "gain", "the average beta explains the gain"),
        ({"matched_mean": 0.5, "permuted": 0.7}, "variation", "beta variation helps, prompt perplexity does not"),
        ({"matched_mean": 0.5, "permuted": 0.5}, "perplexity", "prompt perplexity helps"),
        ({"matched_mean": 0.5, "permuted": 0.5, "inverse": 0.7}, "perplexity", "not shown to beat the scaling turned round"),
        ({"matched_mean": 0.7, "permuted": 0.5}, "gain", "the average beta explains the gain"),
        ({"matched_mean": 0.5}, "variation", "without permuted the gain cannot be put down to prompt perplexity"),
        ({}, "gain", "without matched_mean and permuted"),
    ],
)  # fmt: skip
def test_controls_separate_what_helps(levels: dict[str, float], attribution: str, words: str) -> None:
    judged = one(CLAIM, method=0.7, baseline=0.5, **levels)
    assert (judged.verdict, judged.attribution) == ("better by more than m", attribution)
    assert words in sentence(judged)


def test_no_gain_means_nothing_to_explain() -> None:
    judged = one(CLAIM, method=0.5, baseline=0.5, matched_mean=0.3, permuted=0.3)
    assert judged.attribution is None
    assert "none to explain" in sentence(judged)


def test_a_perplexity_claim_needs_all_three() -> None:
    claim = dataclasses.replace(CLAIM, asserts="perplexity")
    assert one(claim, method=0.7, baseline=0.5, matched_mean=0.5, permuted=0.5).verdict == "better by more than m"
    level = one(claim, method=0.7, baseline=0.5, matched_mean=0.5, permuted=0.7)
    assert level.verdict == "equivalent"
    assert "within 0.05 of permuted either way" in sentence(level)
    without = one(claim, method=0.7, baseline=0.5, matched_mean=0.5)
    assert without.verdict == "undecided" and "no control permuted of foodpo" in sentence(without)


def test_small_but_sure_gain_is_not_a_gain_worth_having() -> None:
    judged = one(CLAIM, method=0.525, baseline=0.5)
    assert judged.p["better"] is not None and judged.p["better"] <= 0.05
    assert judged.verdict == "equivalent"
    assert one(dataclasses.replace(CLAIM, min_effect=0.0), method=0.525, baseline=0.5).verdict == "better"


def test_holm_over_the_declared_claims() -> None:
    pairs = []
    for i, level in enumerate((0.53, 0.515, 0.50)):
        arrays = {"method": grid(level, noise=0.15, seed=10 + i), "baseline": grid(0.5, noise=0.15, seed=20 + i)}
        claim = Claim(f"c{i}", f"m{i}", "fixed", "bench/m")
        pairs.append((claim, from_arrays(f"m{i}", "fixed", arrays)))
    alone = [judge([pair])[0].p["better"] for pair in pairs]
    together = judge(pairs)
    assert [j.p["better"] for j in together] == pytest.approx(holm(alone))
    assert {j.family for j in together} == {3}
    mixed = judge(pairs, [None, "found later", "found later"])
    assert mixed[0].p["better"] == pytest.approx(alone[0])
    assert [j.declared for j in mixed] == [True, False, False]
    assert "exploratory" in sentence(mixed[1]) and "Benjamini-Hochberg" in sentence(mixed[1])


# --- evidence in a matrix


def run(method: str, seed: int, values: np.ndarray, rule: str | None = None, **identity: Any) -> RunData:
    better = identity.pop("higher_is_better", True)
    groups = identity.pop("groups", None)
    run_id = identity.pop("run_id", f"{method}-{seed}")
    items = tuple(Item(f"p{i}", {"m": float(v)}, groups[i] if groups else None) for i, v in enumerate(values))
    scores = Scores("bench", "constraints", run_id, {"m": {"higher_is_better": better}}, "m", items)
    record = {"method": method, "rule": rule or method, "seed": seed, "params": {}, "hyper": {}, **identity}
    return RunData(run_id, Path("."), record, {"state": "done"}, (), {"bench": scores})


def matrix(levels: dict[str, float], **identity: Any) -> MatrixData:
    """Runs of `levels` under 6 seeds; a control's runs name foodpo's run of the same seed as parent."""
    runs = []
    for i, (method, level) in enumerate(levels.items()):
        values = grid(level, seed=i)
        for seed in range(6):
            extra = {"parent": f"foodpo-{seed}"} if method in ("matched_mean", "permuted") else {}
            runs.append(run(method, seed, values[seed], **extra, **identity))
    return MatrixData(Path("."), tuple(runs), None, {})


FULL = {"fixed": 0.5, "foodpo": 0.7, "matched_mean": 0.5, "permuted": 0.7}


def test_evidence_of_a_matrix() -> None:
    evidence = gather(matrix(FULL), CLAIM)
    assert list(evidence.contrasts) == ["baseline", "matched_mean", "permuted"]
    mean = evidence.contrasts["baseline"].mean
    assert (mean.seeds, mean.prompts) == (6, 80)
    expected = grid(0.7, seed=1).mean() - grid(0.5, seed=0).mean()
    assert mean.value == pytest.approx(expected)
    judged = judge_matrix(matrix(FULL), [CLAIM], freeze([CLAIM]))[0]
    assert (judged.verdict, judged.attribution, judged.declared) == ("better by more than m", "variation", True)


def test_a_control_of_another_method_does_not_count() -> None:
    full = matrix(FULL)
    strangers = [
        dataclasses.replace(r, identity={**(r.identity or {}), "parent": "other-0"}) if r.method == "permuted" else r
        for r in full.runs
    ]
    evidence = gather(dataclasses.replace(full, runs=tuple(strangers)), CLAIM)
    assert list(evidence.contrasts) == ["baseline", "matched_mean"]


def test_lower_is_better_is_turned_round() -> None:
    for higher, verdict in ((False, "better by more than m"), (True, "worse")):
        found = matrix({"fixed": 0.7, "foodpo": 0.5}, higher_is_better=higher)
        assert judge_matrix(found, [CLAIM])[0].verdict == verdict


def test_items_of_one_group_are_one_prompt() -> None:
    groups = [f"g{i // 4}" for i in range(80)]
    mean = gather(matrix({"fixed": 0.5, "foodpo": 0.7}, groups=groups), CLAIM).contrasts["baseline"].mean
    assert mean.prompts == 20


def test_failed_runs_are_named_and_the_weaker_verdict_stands() -> None:
    """Two of six runs failed: on the others the gain is plain, with the failed ones at the worst score it is not."""
    full = matrix({"fixed": 0.5, "foodpo": 0.7})
    status = {"state": "failed", "error": {"class": "Diverged", "message": "loss is nan"}}
    runs = [
        dataclasses.replace(r, status=status, scores={}) if r.method == "foodpo" and r.seed in (2, 4) else r
        for r in full.runs
    ]
    more = [
        run(m, s, grid(level, 8, seed=i)[s])
        for i, (m, level) in enumerate({"fixed": 0.5, "foodpo": 0.7}.items())
        for s in (6, 7)
    ]
    broken = MatrixData(Path("."), (*runs, *more), None, {})
    assert judge_matrix(full, [CLAIM])[0].verdict == "better by more than m"
    judged = judge_matrix(broken, [CLAIM])[0]
    contrast = judged.evidence.contrasts["baseline"]
    assert contrast.mean.seeds == 6 and contrast.bounds is not None and contrast.bounds[0].seeds == 8
    assert judged.verdict == "undecided"
    text = sentence(judged)
    assert "2 of 8 runs of foodpo failed (seeds 2, 4)" in text and "the weaker verdict stands" in text
    entry = judged_claim(judged)
    assert entry.failures == ["2 of 8 runs of foodpo failed (seeds 2, 4)"]
    assert entry.comparisons[0].failed_at_worst is not None
    lowest = min(v for r in broken.runs if r.scores for v in r.scores["bench"].values("m").values())
    own = [r.scores["bench"].values("m") for r in broken.runs if r.method == "fixed" and r.seed in (2, 4)]
    kept = [contrast.mean.value] * 6 + [lowest - float(np.mean(list(v.values()))) for v in own]
    assert entry.comparisons[0].failed_at_worst.value == pytest.approx(np.mean(kept))
    assert "finished; that cannot exclude a failure rate of" in entry.notes[0]
    whole = judged_claim(judge_matrix(full, [CLAIM])[0])
    assert whole.notes[0] == "6 of 6 runs of foodpo finished; that cannot exclude a failure rate of 39 %"


def test_failed_runs_at_a_matched_kl_are_bounded_too() -> None:
    runs = [
        dataclasses.replace(r, status={"state": "failed"}) if (r.method, r.seed) == ("foodpo", 5) else r
        for r in matrix({"fixed": 0.5, "foodpo": 0.7}).runs
    ]
    judged = judge_matrix(
        MatrixData(Path("."), tuple(runs), None, {}),
        [dataclasses.replace(CLAIM, at="matched_kl")],
        matched_kl=lambda *_: 0.2 + 0.01 * np.arange(5.0)[:, None],
    )[0]
    assert judged.verdict == "undecided" and "1 of 6 runs of foodpo failed (seed 5)" in sentence(judged)


def test_a_matrix_lends_its_spread_over_seeds_and_says_how_much() -> None:
    judged = judge_matrix(matrix(FULL), [CLAIM])[0]
    contrast = judged.evidence.contrasts["baseline"]
    assert 0 < contrast.mean.borrowed <= 8 and contrast.mean.alone is not None
    entry = judged_claim(judged)
    assert "the other arms lent" in entry.notes[-1] and "without them +0.2" in entry.notes[-1]
    assert (
        entry.comparisons[0].alone is not None and entry.comparisons[0].alone.low != entry.comparisons[0].difference.low
    )


def test_one_sentence_has_one_verdict() -> None:
    """Nothing is put down to a control beyond what the claim itself is found to be."""
    small = one(CLAIM, method=0.525, baseline=0.5, matched_mean=0.5, permuted=0.5)
    assert small.verdict == "equivalent" and "helps:" not in sentence(small).split("equivalent")[1]
    rest = dataclasses.replace(CLAIM, name="why", asserts="perplexity")
    evidence = from_arrays("foodpo", "fixed", grids(method=0.7, baseline=0.5, matched_mean=0.5))
    first, second = judge([(CLAIM, evidence), (rest, evidence)])
    assert (first.verdict, second.verdict) == ("better by more than m", "undecided")
    assert first.attribution == second.attribution == "variation"
    alone = judge([(CLAIM, evidence)])[0]
    assert alone.p["better"] == first.p["better"], "a second rung of one ladder costs the first nothing"


def test_claims_of_one_ladder_share_a_level() -> None:
    """The three nested claims and a rival: two ladders, not four tests."""
    arrays = grids(noise=0.3, method=0.6, baseline=0.5, matched_mean=0.5, permuted=0.5)
    evidence = from_arrays("foodpo", "fixed", arrays)
    own = [(dataclasses.replace(CLAIM, name=a, asserts=a), evidence) for a in ("gain", "variation", "perplexity")]
    rival = (
        dataclasses.replace(CLAIM, name="rival", method="rival"),
        from_arrays("rival", "fixed", {"method": grid(0.5, seed=8), "baseline": arrays["baseline"]}),
    )
    alone = [judge([pair])[0].p["better"] for pair in own]
    family = judge([*own, rival])
    assert [j.p["better"] for j in family[:3]] == pytest.approx([min(1.0, 2 * (p or 0.0)) for p in alone])
    assert {j.family for j in family} == {4}


def settings_of(method: str, levels: list[float], first: int, rule: str | None = None) -> list[RunData]:
    """Runs of a method at several settings c under 6 seeds, with noise of their own."""
    runs = []
    for i, level in enumerate(levels):
        values = grid(level, seed=first + i)
        for seed in range(6):
            extra = {"parent": f"foodpo{i}-{seed}"} if rule else {"hyper": {"c": i}}
            runs.append(run(method, seed, values[seed], rule, run_id=f"{method}{i}-{seed}", **extra))
    return runs


def test_the_best_setting_pays_for_being_picked() -> None:
    runs = [*settings_of("fixed", [0.5], 0), *settings_of("foodpo", [0.53, 0.55, 0.57], 3)]
    full = MatrixData(Path("."), tuple(runs), None, {})
    assert gather(full, CLAIM).label == "foodpo[c=2]"
    pinned = dataclasses.replace(CLAIM, method="foodpo[c=2]")
    one_setting = judge_matrix(full, [pinned])[0].p["better"]
    best = judge_matrix(full, [CLAIM])[0]
    assert one_setting is not None and best.p["better"] == pytest.approx(3 * one_setting)
    assert "shows most of 3 settings" in judged_claim(best).notes[0]
    assert "best of 3 against best of 1 settings" in sentence(best)


def test_every_setting_of_the_baseline_has_to_be_beaten() -> None:
    runs = [*settings_of("fixed", [0.5, 0.56, 0.4], 0), *settings_of("foodpo", [0.6], 9)]
    full = MatrixData(Path("."), tuple(runs), None, {})
    whole = judge_matrix(full, [CLAIM])[0]
    each = [judge_matrix(full, [dataclasses.replace(CLAIM, against=f"fixed[c={i}]")])[0] for i in range(3)]
    assert whole.p["better"] == max(j.p["better"] for j in each if j.p["better"] is not None)
    below = [j.p["worse"] for j in each if j.p["worse"] is not None]
    assert whole.p["worse"] == pytest.approx(min(1.0, 3 * min(below)))
    contrast = whole.evidence.contrasts["baseline"]
    assert contrast.second == "fixed[c=1]"
    assert contrast.mean.value == pytest.approx(grid(0.6, seed=9).mean() - grid(0.56, seed=1).mean())


def test_each_setting_is_held_against_its_own_controls() -> None:
    """Controls take no parameter that tells them apart: only their parents do."""
    runs = [*settings_of("fixed", [0.5], 0), *settings_of("foodpo", [0.52, 0.7], 3)]
    runs += [
        *settings_of("mean", [0.5, 0.5], 6, "matched_mean"),
        *settings_of("shuffled", [0.5, 0.69], 9, "permuted"),
    ]
    judged = judge_matrix(
        MatrixData(Path("."), tuple(runs), None, {}), [dataclasses.replace(CLAIM, asserts="perplexity")]
    )
    contrasts = judged[0].evidence.contrasts
    assert [c.second for c in contrasts.values()] == ["fixed", "mean[c=1]", "shuffled[c=1]"]
    assert {c.mean.seeds for c in contrasts.values()} == {6}
    assert judged[0].attribution == "variation"
    json.dumps(judged_claim(judged[0]).plain(), allow_nan=False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"method": "nobody"}, "the matrix has no method 'nobody'"),
        ({"against": "nobody"}, "the matrix has no method 'nobody' to compare with"),
        ({"metric": "bench/other"}, "bench/other was not scored"),
        ({"at": "matched_kl"}, "no comparison at a matched KL is on record"),
        ({"against": "reference"}, "no seed and prompt that both sides finished"),
    ],
)
def test_missing_evidence_is_undecided_with_a_reason(change: dict[str, Any], words: str) -> None:
    judged = judge_matrix(matrix(FULL), [dataclasses.replace(CLAIM, **change)])[0]
    assert judged.verdict == "undecided"
    assert words in sentence(judged)
    json.dumps(judged_claim(judged).plain(), allow_nan=False)


def test_matched_kl_figures_come_from_the_caller() -> None:
    claim = dataclasses.replace(CLAIM, at="matched_kl")
    asked = []

    def figures(first: Any, second: Any, metric: str, window: Any) -> np.ndarray:
        asked.append((first.label, second.label, metric))
        return 0.2 + 0.01 * np.arange(6.0)[:, None]

    judged = judge_matrix(matrix({"fixed": 0.5, "foodpo": 0.5}), [claim], matched_kl=figures)[0]
    assert asked == [("foodpo", "fixed", "bench/m")] and judged.verdict == "better by more than m"
    assert "at matched KL" in sentence(judged) and "6 seeds" in sentence(judged)
    (refused,) = judge_matrix(matrix(FULL), [claim], matched_kl=lambda *_: "KL ranges do not meet")
    assert "KL ranges do not meet" in sentence(refused)


def test_only_what_was_frozen_before_the_runs_is_declared() -> None:
    frozen = freeze([CLAIM])
    later = Claim("later", "foodpo", "matched_mean", "bench/m")
    first, second = judge_matrix(matrix(FULL), [CLAIM, later], frozen)
    assert first.declared and not second.declared
    assert second.why_exploratory == "not among the frozen claims"
    assert judge_matrix(matrix(FULL), [CLAIM])[0].why_exploratory == "no claims were frozen before training"
    old = judge_matrix(matrix(FULL, created="2020-01-02T03:04:05Z"), [CLAIM], frozen)[0]
    assert "after its first run was created" in str(old.why_exploratory)
    assert judge_matrix(matrix(FULL, created="2999-01-02T03:04:05"), [CLAIM], frozen)[0].declared
    with pytest.raises(ReportError, match="created is 'soon'"):
        judge_matrix(matrix(FULL, created="soon"), [CLAIM], frozen)
    weaker = dataclasses.replace(CLAIM, min_effect=0.0)
    as_frozen, new = judge_matrix(matrix(FULL), [weaker], frozen)
    assert (as_frozen.claim.min_effect, as_frozen.declared, new.declared) == (0.05, True, False)


def test_seeds_added_later_are_exploratory_unless_looks_were_declared() -> None:
    full = matrix({"fixed": 0.5, "foodpo": 0.52})
    as_planned = judge_matrix(full, [CLAIM], freeze([CLAIM], range(6)))[0]
    added = judge_matrix(full, [CLAIM], freeze([CLAIM], range(5)))[0]
    assert as_planned.declared and added.why_exploratory == "seed 5 added after freezing, without declared looks"
    looked = judge_matrix(full, [CLAIM], freeze([CLAIM], range(6), [6, 10]))[0]
    assert looked.declared and "look at 6 seeds" in looked.correction and "looks at 6, 10" in sentence(looked)
    before, after = as_planned.p["better"], looked.p["better"]
    assert before is not None and after is not None and after > 1.2 * before  # charged for both looks
    # the runs of later looks are planned, and not there yet
    waiting = [
        dataclasses.replace(r, identity={**(r.identity or {}), "seed": 6 + i}, status={"state": "pending"}, scores={})
        for i, r in enumerate(full.runs[:4])
    ]
    early = judge_matrix(
        dataclasses.replace(full, runs=(*full.runs, *waiting)), [CLAIM], freeze([CLAIM], range(10), [6, 10])
    )[0]
    assert early.declared and "look at 6 seeds" in early.correction
    between = judge_matrix(full, [CLAIM], freeze([CLAIM], range(5), [5, 10]))[0]
    assert between.why_exploratory == "6 seeds is none of the declared looks (5, 10 seeds)"


def test_claims_of_the_matrix_file_are_read() -> None:
    assert [j.claim for j in judge_matrix(dataclasses.replace(matrix(FULL), config={"claims": [ROW]}))] == [CLAIM]
    assert judge_matrix(matrix(FULL)) == []


def test_json_has_every_number_and_a_reason_for_every_null() -> None:
    entry = judged_claim(judge_matrix(matrix({"fixed": 0.5, "foodpo": 0.7}), [CLAIM], freeze([CLAIM]))[0]).plain()
    assert json.loads(json.dumps(entry, allow_nan=False)) == entry
    assert entry["claim"] == dataclasses.asdict(CLAIM)
    assert entry["comparisons"][0]["difference"]["seeds"] == 6
    assert entry["ladder"]["perplexity"] is None
    assert "not run: matched_mean, permuted" in entry["adjusted_p"]["reason"]


@pytest.mark.parametrize(
    ("old", "high", "word"),
    [
        ("supported", 0.2, "better"),
        ("equivalent", 0.01, "equivalent"),
        ("refuted", -0.1, "worse"),
        ("refuted", 0.02, "undecided"),  # an improvement of min_effect was excluded, and nothing else shown
        ("inconclusive", None, "undecided"),
    ],
)
def test_verdicts_of_version_1_are_read_in_the_words_of_now(old: str, high: float | None, word: str) -> None:
    p = {"supported": 0.1, "equivalent": 0.2, "refuted": 0.3, "method": "Holm", "family_size": 1, "reason": None}
    entry = {"verdict": old, "adjusted_p": p, "comparisons": [{"difference": {"high": high}}]}
    codes = ("better", "worse", "inconclusive", "unsettled", "no_data")
    metrics = [{"comparisons": [{"verdict": {"code": code}} for code in codes]}]
    kept = {"schema_version": 1, "verdict": {"headline": "x"}, "claims": {"judged": [entry]}, "metrics": metrics}
    read = _in_words_of_now(kept)
    assert read["verdict"]["answer"] == ["x"] and read["inference"]["rows"] == []
    assert [c["verdict"] for c in read["metrics"][0]["comparisons"]] == ["better", "worse", *["undecided"] * 3]
    (now,) = read["claims"]["judged"]
    assert now["verdict"] == word
    assert {k: now["adjusted_p"][k] for k in ("better_by_more", "better", "equivalent", "worse")} == {
        "better_by_more": None, "better": 0.1, "equivalent": 0.2, "worse": 0.3
    }  # fmt: skip
    assert _in_words_of_now(kept | {"schema_version": 2})["claims"]["judged"] == [entry]
