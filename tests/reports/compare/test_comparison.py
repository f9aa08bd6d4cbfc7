"""What the comparison says, and that it says no more."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports.compare.comparison import checkpoint_comparisons, column, method_comparison
from reports.compare.comparison import tested as inferred
from reports.files.report import write_report
from reports.runs.arms import Arm
from reports.runs.records import Item, RunData, Scores, load_matrix
from reports.schema.base import AdjustedP
from reports.statistics.crossed import Prior, crossed_mean
from reports.statistics.paired import rank_test
from reports.summary import build_summary
from reports.verdict.evidence import Contrast
from reports.verdict.inference import verdict
from reports.verdict.sentences import to_settle
from tests.reports.builder import FIXED, FOODPO, HEAD, METHODS, Method, write_matrix


def scores(policy: str, values: dict[str, float], groups: dict[str, str] | None = None) -> Scores:
    items = tuple(Item(i, {"m": v}, (groups or {}).get(i)) for i, v in values.items())
    return Scores("bench", "constraints", policy, {"m": {}}, "m", items)


def arm(label: str, by_seed: dict[int, list[float]], state: str = "done") -> Arm:
    runs = tuple(
        RunData(
            f"{label}-{seed}", Path("."), {"method": label, "seed": seed}, {"state": state}, (),
            {"bench": scores(f"{label}-{seed}", {f"p{i}": v for i, v in enumerate(values)})},
        )
        for seed, values in by_seed.items()
    )  # fmt: skip
    return Arm(label, label, label, {}, runs)


def test_seed_is_the_unit() -> None:
    rng = np.random.default_rng(0)
    a = {s: list(rng.normal(0.5, 0.1, 30)) for s in range(5)}
    b = {s: list(rng.normal(0.4, 0.1, 30)) for s in range(5)}
    result = method_comparison(arm("a", a), arm("b", b), None, "bench", "m")
    means = [np.mean(a[s]) - np.mean(b[s]) for s in range(5)]
    assert result.seed_differences == pytest.approx(means)
    assert result.permutation.smallest_p == 0.0625
    assert len(result.checkpoints) == 5
    assert result.checkpoints[0].n == 30


def test_only_shared_seeds_and_prompts_are_paired() -> None:
    a, b = arm("a", {0: [1, 1, 1], 1: [1, 1, 1]}), arm("b", {1: [0, 0], 2: [0, 0]})
    result = method_comparison(a, b, None, "bench", "m")
    assert (result.seeds, result.unpaired_seeds, result.n) == ([1], [0, 2], 2)
    assert result.difference.value == 1
    assert result.difference.reason


def test_failed_runs_never_enter_a_mean() -> None:
    result = method_comparison(arm("a", {0: [1.0]}, "failed"), arm("b", {0: [0.0]}), None, "bench", "m")
    assert result.difference.value is None


def test_ties_and_tests_of_a_checkpoint() -> None:
    a = column(scores("a", {"x": 1, "y": 1, "z": 0, "w": 1}), "m", 0)
    b = column(scores("b", {"x": 1, "y": 0, "z": 0, "w": 0, "extra": 1}), "m", 0)
    (result,) = checkpoint_comparisons([(a, b)])
    assert (result.wins, result.ties, result.losses, result.n) == (2, 2, 0, 4)
    assert result.test is not None and result.test.method == "exact McNemar"


def test_grouped_items_are_clustered_and_flipped_together() -> None:
    rng = np.random.default_rng(1)
    names = {f"p{i}": f"g{i // 4}" for i in range(24)}
    a = column(scores("a", {i: float(rng.random()) for i in names}, names), "m", 0)
    b = column(scores("b", {i: float(rng.random()) for i in names}, names), "m", 0)
    (result,) = checkpoint_comparisons([(a, b)])
    assert result.difference.method == "clustered t interval over items"
    assert result.test is not None and result.test.n == 6


@pytest.mark.parametrize(
    ("seeds", "gap", "better", "word"),
    [
        (6, 0.3, True, "better"),
        (6, -0.3, True, "worse"),
        (6, 0.3, False, "worse"),
        (6, -0.3, False, "better"),
        (6, 0.004, True, "undecided"),
        (6, 0.0, True, "undecided"),
        (2, 10.0, True, "undecided"),  # two seeds settle nothing, however large the gap
    ],
)
def test_verdicts_of_a_comparison(seeds: int, gap: float, better: bool, word: str) -> None:
    rng = np.random.default_rng(2)
    base = {s: list(rng.normal(0.5, 0.05, 40)) for s in range(seeds)}
    moved = {s: [v + gap + (0.01 if gap else 0) * (s - seeds / 2) for v in base[s]] for s in base}
    result = method_comparison(arm("a", moved), arm("b", base), None, "bench", "m")
    adjusted = AdjustedP(value=result.crossed_test.p_value, method="Holm", family_size=1, reason=None)
    assert verdict(result, better, adjusted) == word


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], dict[str, Any]]:
    """The report of three methods under five seeds: its folder, runs and summary."""
    root = tmp_path_factory.mktemp("five")
    ids = write_matrix(root, METHODS, seeds=range(5), prompts=12, steps=2)
    write_report(root, ids)
    return root, ids, json.loads((root / "summary.json").read_text())


def test_holm_runs_over_the_declared_comparisons_only(five: tuple[Path, list[str], dict[str, Any]]) -> None:
    summary = five[2]
    declared = [c for m in summary["metrics"] for c in m["comparisons"] if c["family"] == "declared"]
    assert [c["label"] for c in declared] == ["foodpo", "beta_head"]
    assert summary["tests"]["declared"] == 2
    p = sorted(c["crossed_test"]["p_value"] for c in declared)
    assert sorted(c["adjusted_p"]["value"] for c in declared) == pytest.approx(
        sorted([min(1, 2 * p[0]), max(min(1, 2 * p[0]), p[1])])
    )


def test_best_setting_of_the_baseline_is_the_one_to_beat(tmp_path: Path) -> None:
    ids = write_matrix(tmp_path, [FIXED, FOODPO], seeds=(0, 1))
    path = tmp_path / "runs" / ids[1] / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hyper": {"pref_beta": 0.5}, "seed": 0}))
    summary = build_summary(load_matrix(tmp_path, ids)).plain()
    means = {m["label"]: m["mean"]["value"] for m in next(m for m in summary["metrics"] if m["primary"])["methods"]}
    best = max((label for label in means if label.startswith("fixed")), key=lambda label: means[label])
    assert summary["baseline"]["value"] == best
    assert "hardest to beat" in summary["baseline"]["note"]


def checks(summary: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {c["name"]: (c["state"], c["evidence"]) for c in summary["checklist"]}


def test_checklist_tells_what_is_missing(tmp_path: Path, five: tuple[Path, list[str], dict[str, Any]]) -> None:
    """Against the five seeds of the fixture: a failed run, a head that reads the answer, a prompt that was trained on."""
    peeking = replace(HEAD, params={**HEAD.params, "aggregation": "last_completion_token"})
    ids = write_matrix(tmp_path, (FIXED, FOODPO, peeking), seeds=(0, 1), failed=[("foodpo", 0)])
    path = tmp_path / "runs" / ids[0] / "scores" / "constraints.json"
    path.write_text(path.read_text().replace('"p003"', '"train-0003"'))
    whole, found = checks(five[2]), checks(build_summary(load_matrix(tmp_path, ids)).plain())
    for name, words in (
        ("At least 5 finished seeds for every method", "foodpo 1"),
        ("Held-out prompts disjoint from training prompts", "train-0003"),
        ("No beta is read from the answer", "beta_head"),
    ):
        assert (whole[name][0], found[name][0]) == ("pass", "fail") and words in found[name][1]
    assert found["Controls present (matched_mean, permuted)"][0] == "fail"
    assert found["Failed runs listed"][1] == "1 of 6 did not finish"
    length = found["Answer length controlled"]
    assert length[0] == "missing" and "adjusted for the length" in length[1]


def test_unknown_declared_metric_and_baseline_are_said(tmp_path: Path) -> None:
    ids = write_matrix(tmp_path, [FOODPO], seeds=(0,))
    config = {"report": {"baseline": "nobody", "primary": "nothing/here"}}
    summary = build_summary(load_matrix(tmp_path, ids, config)).plain()
    assert "nobody" in summary["baseline"]["reason"] and "nothing/here" in summary["primary"]["reason"]
    assert "No comparison is possible" in summary["verdict"]["answer"][0]


def test_gain_is_held_against_the_controls(tmp_path: Path) -> None:
    """The controls' runs name their parent: the table's second sentence says what they leave of the gain."""
    strong = Method("strong", "foodpo", 0.3)
    for name, controls, words in (
        ("without", {}, "without matched_mean and permuted the gain cannot be put down"),
        ("equal", {"matched_mean": 0.3, "permuted": 0.3}, "not distinguishable from that of a fixed beta"),
        ("weak", {"matched_mean": 0.03, "permuted": 0.03}, "helps: it beats a fixed beta of the same average"),
    ):
        methods = [FIXED, strong, *(Method(rule, rule, gain) for rule, gain in controls.items())]
        root = tmp_path / name
        ids = write_matrix(root, methods, seeds=range(6), steps=2, prompts=40)
        for path in (root / "runs").glob("[mp]*/run.json"):
            path.write_text(json.dumps({**json.loads(path.read_text()), "parent": "strong"}))
        summary = build_summary(load_matrix(root, ids)).plain()
        rows = summary["inference"]["rows"]
        assert [(r["label"], r["control"]) for r in rows] == [("strong", False), *((c, True) for c in controls)]
        first = rows[0]
        assert first["verdict"] == "better" and first["adjusted_p"]["value"] < 0.05 and first["min_effect"] == 0
        assert summary["verdict"]["answer"][0].startswith(
            f"strong is better than fixed: strong {first['difference']['value']:+.3f}"
        )
        assert words in summary["verdict"]["answer"][1] and summary["verdict"]["kind"] == "exploratory"


def test_the_best_of_many_baselines_makes_no_method_worse() -> None:
    """Nothing differs; the luckiest of six settings of the baseline is the one compared with."""
    rounds, plain, paid = 300, 0, 0
    for number in range(rounds):
        rng = np.random.default_rng([8, number])
        arms_of = 0.1 * rng.normal(size=(7, 5, 1)) + 0.2 * rng.normal(size=(7, 5, 12))
        method, *settings = arms_of
        settings.sort(key=lambda cells: -cells.mean())
        others = [crossed_mean(method - one) for one in settings[1:]]
        for own, count in (([], 0), (others, 1)):
            found = inferred(method - settings[0], 12, None, own)
            low, high = found.difference.low, found.difference.high
            assert low is not None and high is not None and found.crossed_test.p_value is not None
            worse = found.crossed_test.p_value <= 0.05 and high < 0
            plain, paid = plain + (worse and not count), paid + (worse and bool(count))
    assert plain / rounds > 0.06 and paid / rounds <= 0.025 + 3 * np.sqrt(0.025 * 0.975 / rounds)


def test_a_lower_better_metric_pays_in_its_own_direction() -> None:
    rng = np.random.default_rng(1)
    method, picked, other = (level + 0.05 * rng.normal(size=(5, 20)) for level in (0.2, 0.4, 0.5))
    found = inferred(method - picked, 20, None, [crossed_mean(other - method)], -1.0)
    assert found.difference.value == pytest.approx((method - picked).mean())
    assert found.difference.high is not None and found.difference.high < 0 and (found.crossed_test.p_value or 1) < 0.05


def test_other_arms_lend_their_spread_over_seeds(five: tuple[Path, list[str], dict[str, Any]]) -> None:
    root, ids, summary = five
    primary = next(m for m in summary["metrics"] if m["primary"])
    rows = {(c["label"], c["against"]): c for c in primary["comparisons"]}
    row = rows["foodpo", "fixed"]
    assert 0 < row["borrowed"] <= 8 and row["alone"]["value"] == row["difference"]["value"]
    assert row["alone"]["low"] != row["difference"]["low"]
    alone = build_summary(load_matrix(root, [i for i in ids if i.split("-")[0] in ("fixed", "foodpo")])).plain()
    (pair,) = [c for m in alone["metrics"] if m["primary"] for c in m["comparisons"] if c["against"] == "fixed"]
    assert pair["borrowed"] == 0 and pair["alone"] is None


def test_equal_scores_everywhere_are_reported_though_other_arms_lend_a_spread() -> None:
    """The demo ended in a traceback: capitals was the same for two methods under all seeds."""
    same = inferred(np.zeros((3, 24)), 24, Prior(np.array(0.02), np.array(6.0)))
    assert same.difference.value == 0 and same.difference.high is not None and same.crossed_test.p_value == 1
    mean = crossed_mean(np.zeros((3, 24)), Prior(np.array(0.02), np.array(6.0)))
    assert to_settle(Contrast("fixed", "foodpo", "fixed", mean), 0.05) is None


def test_other_analyses_stand_apart_from_the_verdict(five: tuple[Path, list[str], dict[str, Any]]) -> None:
    """The first table holds one inference a row: difference, interval, adjusted p, verdict."""
    root, _, summary = five
    row = next(c for m in summary["metrics"] if m["primary"] for c in m["comparisons"])
    per_seed = row["seed_differences"]
    assert row["rank_test"]["p_value"] == rank_test(per_seed).p_value
    assert row["trimmed"]["value"] == pytest.approx(np.mean(sorted(per_seed)[1:-1]))
    assert row["studentised"]["method"].startswith("studentised sign-flip")
    page, text = (root / "report.html").read_text(), (root / "report.md").read_text()
    main, _, other = text.partition("## Other comparisons and other analyses")
    assert "| difference | 95 % interval | adjusted p | verdict |" in main and "bootstrap" not in main.split("## ")[0]
    assert "hierarchical bootstrap" in other and "rank p" in other
    first, _, folded = page.partition('<details class="fold">')
    assert ">adjusted p<" in first and "bootstrap" not in first.split("<main>")[1] and "rank p" in folded
