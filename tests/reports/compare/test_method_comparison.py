"""Best settings, expected best, tie groups, frontiers at matched KL, and effects by prompt perplexity."""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports.compare.comparison import crossed_test
from reports.compare.frontier_points import Cost, Points
from reports.compare.frontiers import matched_kl
from reports.panels.all import all_panels
from reports.panels.base import looks, style
from reports.runs.arms import Arm, arms
from reports.runs.records import MatrixData, load_matrix
from reports.schema import Summary
from reports.statistics.best_settings import BestMean, best_mean, expected_best, tuned
from reports.statistics.crossed import crossed_mean, interaction, slope_influence
from reports.statistics.frontier import Frontier, matched, weights_at
from reports.summary import build_summary
from reports.verdict.claims import Claim, freeze
from tests.reports.builder import FIXED, FOODPO, Method, write_matrix

HALF = 1 / np.sqrt(2)


def scores(rng: np.random.Generator, settings: int, seeds: int = 5, prompts: int = 100) -> np.ndarray:
    """Settings without any true difference, of the spread that `worlds.ORDINARY` has."""
    return HALF * (
        0.02 * rng.normal(size=(settings, seeds, 1))
        + 0.14 * rng.normal(size=(settings, 1, prompts))
        + 0.42 * rng.normal(size=(settings, seeds, prompts))
    )


# --- statistics


def test_expected_best_is_the_mean_over_all_subsets() -> None:
    values = np.array([0.3, 0.9, 0.1, 0.5, 0.7])
    by_hand = [np.mean([max(c) for c in combinations(values, n)]) for n in range(1, 6)]
    assert expected_best(values) == pytest.approx(by_hand)
    assert expected_best(np.stack([values, values + 1]))[1] == pytest.approx(np.array(by_hand) + 1)


def test_cross_fitting_takes_the_luck_out_of_the_choice() -> None:
    rng = np.random.default_rng(1)
    made = [scores(rng, 6) for _ in range(200)]
    naive = np.mean([m.mean(axis=(1, 2)).max() for m in made])
    fitted = [tuned(m).mean() for m in made]
    error = np.std(fitted) / np.sqrt(len(fitted))
    assert naive > 0.015
    assert abs(np.mean(fitted)) < 4 * error
    clear = scores(rng, 3) + np.array([0.0, 1.0, 0.0])[:, None, None]
    assert tuned(clear) == pytest.approx(clear[1]) and tuned(clear[:, :1]) == pytest.approx(clear[1, :1])


def best(first: np.ndarray, second: np.ndarray) -> BestMean:
    return best_mean([[crossed_mean(one - other) for other in second] for one in first])


def test_best_against_best_covers_and_keeps_its_size() -> None:
    rng = np.random.default_rng(2)
    rounds, wrong, covered = 300, 0, 0
    for _ in range(rounds):
        found = best(scores(rng, 3), scores(rng, 3) + np.array([0.0, 0.1, 0.0])[:, None, None]).interval()
        assert found.low is not None and found.high is not None
        covered += found.low <= -0.1 <= found.high
        wrong += (crossed_test(best(scores(rng, 4), scores(rng, 2))).p_value or 1) <= 0.05
    assert wrong / rounds <= 0.05 and covered / rounds >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / rounds)
    a, b = scores(rng, 1), scores(rng, 1)  # one setting each is the crossed analysis
    plain, one = crossed_mean(a[0] - b[0]), best(a, b)
    assert (one.interval().low, one.interval().high) == pytest.approx((plain.interval().low, plain.interval().high))
    assert crossed_test(one).p_value == pytest.approx(crossed_test(plain).p_value)


def test_slope_and_its_error_against_statsmodels() -> None:
    api = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(4)
    seeds, prompts = 8, 60
    x = rng.normal(size=prompts)
    d = (
        0.3 * x
        + 0.5 * rng.normal(size=(1, prompts))
        + 0.1 * rng.normal(size=(seeds, 1))
        + rng.normal(size=(seeds, prompts))
    )
    design = np.column_stack([np.kron(np.eye(seeds), np.ones((prompts, 1))), np.tile(x, seeds)])
    fit = api.OLS(d.ravel(), design).fit()
    by_prompt = api.OLS(d.mean(axis=0), api.add_constant(x)).fit()
    mean, interval = interaction(d, x)
    assert mean.value == pytest.approx(fit.params[-1])
    cells = slope_influence(d, x)
    clustered = cells.mean(axis=0).std(ddof=0) / np.sqrt(prompts)
    assert clustered == pytest.approx(by_prompt.HC3_se[-1], rel=0.02)
    assert interval.low is not None and interval.low < 0.3 < (interval.high or 0)


def test_the_slope_test_keeps_its_size_and_says_when_it_cannot() -> None:
    rng = np.random.default_rng(5)
    rounds, wrong = 300, 0
    for _ in range(rounds):
        x = rng.gamma(3.0, 1.0, 80)
        # unequal spread over prompts, and a slope of its own for every seed
        d = x * (0.3 * rng.normal(size=(1, 80)) + 0.5 * rng.normal(size=(6, 80))) + 0.1 * rng.normal(size=(6, 1)) * x
        _, interval = interaction(d, x)
        assert interval.low is not None and interval.high is not None
        wrong += interval.low > 0 or interval.high < 0
    assert wrong / rounds <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / rounds)
    assert "does not vary" in (interaction(np.ones((5, 20)), np.ones(20))[1].note or "")
    assert "fewer than" in (interaction(np.ones((5, 3)), np.arange(3.0))[1].note or "")


def test_interpolation_never_leaves_the_shared_range() -> None:
    assert weights_at([0.0, 2.0, 1.0], [0.5, 2.0]) == pytest.approx(np.array([[0.5, 0, 0.5], [0, 1, 0]]))
    kl_a, kl_b = np.array([[0.0], [4.0]]), np.array([[0.0], [2.0]])
    a, b = Frontier(np.array([[0.0], [4.0]]), kl_a), Frontier(np.array([[0.0], [1.0]]), kl_b)
    found = matched(a, b)
    assert found is not None and (found.low, found.high) == (0.0, 2.0)
    assert found.at_high == pytest.approx([1.0])
    assert found.over_range == pytest.approx([0.5])
    assert matched(a, Frontier(b.reward, kl_b + 9)) is None


def test_equal_frontiers_of_different_length_are_not_told_apart() -> None:
    """Two methods on one line reward = 0.1 KL; one moves twice as far. Their final rewards differ, at equal KL they do not."""
    rng = np.random.default_rng(6)

    def run(reach: float) -> Frontier:
        level = np.array([0.0, 0.5, 1.0]) * reach
        kl = level[:, None] * rng.gamma(8.0, 1 / 8, 80)
        reward = 0.1 * level[:, None] + 0.1 * rng.normal(size=(1, 100)) + 0.2 * rng.normal(size=(3, 100))
        return Frontier(reward, kl)

    wrong, rounds = 0, 120
    for _ in range(rounds):
        pairs = [(run(4.0), run(2.0)) for _ in range(6)]
        cells = np.array([m.at_high for a, b in pairs if (m := matched(a, b)) is not None])
        interval = crossed_mean(cells).interval()
        assert interval.low is not None and interval.high is not None
        wrong += interval.low > 0 or interval.high < 0
    assert wrong / rounds <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / rounds)


# --- a matrix on disk


def _kl(path: Path, policy: str, level: float, rng: np.random.Generator) -> None:
    values = level * rng.gamma(9.0, 1 / 9, 24)
    items = [{"id": f"k{i}", "values": {"kl_k3": float(v), "response_tokens": 30.0 + i}} for i, v in enumerate(values)]
    metric = {"value": float(values.mean()), "stderr": 0.1, "n": 24, "higher_is_better": None}
    content = {
        "benchmark": "kl",
        "kind": "kl",
        "policy": policy,
        "metrics": {"kl_k3": metric, "response_tokens": metric},
    }
    path.mkdir(parents=True, exist_ok=True)
    (path / "kl.json").write_text(json.dumps(content | {"primary_metric": "kl_k3", "items": items}))


def _edit(path: Path, change: Any) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    for number, item in enumerate(content["items"]):
        change(number, item)
    path.write_text(json.dumps(content))
    return content


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], dict[str, Any]]:
    """Five seeds, two checkpoints each, KL measured; foodpo moves twice as far along the same frontier."""
    root, rng = tmp_path_factory.mktemp("matrix"), np.random.default_rng(0)
    methods = [FIXED, FOODPO, Method("permuted", "permuted", 0.05)]
    ids = write_matrix(root, methods, seeds=range(5), prompts=40, steps=8)
    for path in root.glob("**/constraints.json"):
        _edit(path, lambda n, item: item.update(log_prompt_perplexity=2 + 0.05 * n))
    for run in ids:
        level = 6.0 if run.startswith("foodpo") else 3.0
        folder = root / "runs" / run
        _kl(folder / "scores", run, level, rng)
        for step, share in ((2, 0.4), (4, 0.7)):
            scores_of = folder / "snapshots" / f"step-{step}" / "scores"
            _kl(scores_of, f"{run}@{step}", share * level, rng)
            text = (folder / "scores" / "constraints.json").read_text()
            (scores_of / "constraints.json").write_text(text)
    (root / "runs" / ids[0] / "snapshots" / "step-6").mkdir()
    claim = Claim("level", "foodpo", "fixed", "constraints/gold_reward", at="matched_kl", min_effect=0.5)
    (root / "claims.json").write_text(json.dumps(freeze([claim])))
    return root, ids, build_summary(load_matrix(root, ids)).plain()


def test_summary_holds_its_schema_and_every_part(whole: tuple[Path, list[str], dict[str, Any]]) -> None:
    import jsonschema

    schema = json.loads((Path("reports") / "summary.schema.json").read_text())
    jsonschema.validate(whole[2], schema)
    primary = next(m for m in whole[2]["metrics"] if m["primary"])
    assert {m["label"] for m in primary["methods"]} == {"fixed", "foodpo", "permuted"}
    pairs = {(c["method"], c["against"]) for c in whole[2]["tuning"]["comparisons"] if c["primary"]}
    assert pairs == {("foodpo", "fixed"), ("permuted", "fixed"), ("foodpo", "permuted")}
    assert all(len(c["seed_differences"]) == 5 for c in whole[2]["tuning"]["comparisons"])


def test_every_checkpoint_is_a_point_and_none_is_dropped(whole: tuple[Path, list[str], dict[str, Any]]) -> None:
    points = whole[2]["frontiers"]["points"]
    assert len(points) == 1 + 15 * 3 + 1  # reference, two checkpoints and the final policy of each, one not scored
    (bare,) = [p for p in points if p["step"] == 6]
    assert bare["kl"] is None and "not measured: KL" in bare["reason"]
    assert points[0]["label"] == "reference" and points[0]["kl"] == 0.0
    compared = whole[2]["frontiers"]["comparisons"][0]
    assert compared["points_per_run"] == 4 and len(compared["per_seed"]) == 5
    assert all(s["high"] < 4.5 for s in compared["per_seed"])


def test_a_claim_at_matched_kl_is_judged_from_the_frontiers(whole: tuple[Path, list[str], dict[str, Any]]) -> None:
    (judged,) = whole[2]["claims"]["judged"]
    shown = next(c for c in judged["comparisons"] if c["role"] == "baseline")
    compared = whole[2]["frontiers"]["comparisons"][0]
    assert shown["difference"]["value"] == pytest.approx(compared["matched"]["difference"]["value"])
    assert judged["verdict"] == "equivalent" and "at matched KL" in judged["sentence"]


def _root_frontiers(root: Path, shares: tuple[float, ...]) -> tuple[MatrixData, list[Arm]]:
    """Reward is a root of KL for both methods; foodpo moves twice as far. `shares`: intermediate checkpoints."""
    ids = write_matrix(root, [FIXED, FOODPO], seeds=range(5), prompts=30, steps=8)
    rng = np.random.default_rng(2)
    table = json.loads((root / "reference" / "scores" / "constraints.json").read_text())

    def write(folder: Path, run: str, kl: float) -> None:
        _kl(folder, run, kl, rng)
        content = json.loads((folder / "kl.json").read_text())
        for item in content["items"]:
            item["values"]["kl_k3"] = kl
        (folder / "kl.json").write_text(json.dumps(content))
        for item in table["items"]:
            item["values"]["gold_reward"] = 0.2 + 0.3 * kl**0.5 + 0.01 * float(rng.normal())
        (folder / "constraints.json").write_text(json.dumps(table | {"policy": run}))

    write(root / "reference" / "scores", "reference", 0.0)
    (root / "reference" / "scores" / "kl.json").unlink()
    for run in ids:
        level = 4.0 if run.startswith("foodpo") else 2.0
        write(root / "runs" / run / "scores", run, level)
        for step, share in enumerate(shares, start=2):
            write(root / "runs" / run / "snapshots" / f"step-{step}" / "scores", run, share * level)
    matrix = load_matrix(root, ids)
    return matrix, arms(matrix.runs)


def test_equal_curves_that_rise_as_a_root_differ_nowhere(tmp_path: Path) -> None:
    """A chord in KL cuts the longer curve off and finds the shorter better at every KL that both reach."""
    matrix, all_arms = _root_frontiers(tmp_path, (0.2, 0.4, 0.6))
    (row,) = build_summary(matrix).plain()["frontiers"]["comparisons"]
    assert row["points_per_run"] == 5 and row["turned_over"] == []
    for part in (row["matched"]["difference"], row["area"]["difference"]):
        assert abs(part["value"]) < 0.005 and part["low"] < 0 < part["high"]
    assert not isinstance(matched_kl(matrix)(all_arms[1], all_arms[0], "constraints/gold_reward"), str)


def test_a_window_is_judged_and_the_better_estimate_of_kl_is_never_mixed(tmp_path: Path) -> None:
    matrix, all_arms = _root_frontiers(tmp_path, (0.25, 0.5))
    judge, asked = matched_kl(matrix), (all_arms[1], all_arms[0], "constraints/gold_reward")
    found = judge(*asked, (0.5, 2.0))
    assert not isinstance(found, str) and np.abs(found.mean()) < 0.005
    assert "not comparable: less than 70 % of the window (0.5, 9.0)" in judge(*asked, (0.5, 9.0))
    assert "share no range of KL in the window 5 to 9" in judge(*asked, (5.0, 9.0))
    frontiers = build_summary(matrix).frontiers
    assert frontiers.kl_metric == "kl_k3" and {b.label for b in frontiers.bands} == {"fixed", "foodpo"}
    assert all(b.reward.value == pytest.approx(0.2 + 0.3 * b.kl**0.5, abs=0.01) for b in frontiers.bands)
    for number, path in enumerate(sorted(tmp_path.glob("runs/**/kl.json"))):
        content = json.loads(path.read_text())
        for item in content["items"]:
            item["values"]["kl_exact"] = 2 * item["values"]["kl_k3"]
        content["metrics"]["kl_exact"] = content["metrics"]["kl_k3"]
        if number:  # one policy is left without
            path.write_text(json.dumps(content))
    ids = [run.run_id for run in matrix.runs]
    assert Points(load_matrix(tmp_path, ids)).kl("constraints") == Cost("KL", "kl", "kl_k3")
    first = sorted(tmp_path.glob("runs/**/kl.json"))[0]
    content = json.loads(first.read_text())
    content["metrics"]["kl_exact"] = content["metrics"]["kl_k3"]
    first.write_text(json.dumps(content))
    assert Points(load_matrix(tmp_path, ids)).kl("constraints") == Cost("KL", "kl", "kl_exact")


def test_too_few_points_claim_nothing(tmp_path: Path) -> None:
    matrix, all_arms = _root_frontiers(tmp_path / "two", ())
    said = matched_kl(matrix)(all_arms[1], all_arms[0], "constraints/gold_reward")
    assert isinstance(said, str) and "2 points" in said and "3 are needed" in said
    (row,) = build_summary(matrix).plain()["frontiers"]["comparisons"]
    assert row["matched"]["difference"]["low"] is None and row["matched"]["test"]["p_value"] is None
    (row,) = build_summary(_root_frontiers(tmp_path / "three", (0.5,))[0]).plain()["frontiers"]["comparisons"]
    assert row["matched"]["difference"]["low"] is not None and row["area"]["difference"]["low"] is None
    assert "5 are needed" in row["area"]["difference"]["reason"]


def test_without_kl_the_reason_is_said(tmp_path: Path) -> None:
    ids = write_matrix(tmp_path, [FIXED, FOODPO], seeds=(0, 1))
    matrix = load_matrix(tmp_path, ids)
    first, second = arms(matrix.runs)
    said = matched_kl(matrix)(first, second, "constraints/gold_reward")
    assert isinstance(said, str) and "kind kl" in said
    summary = build_summary(matrix).plain()
    assert summary["frontiers"]["comparisons"] == [] and "kind kl" in summary["frontiers"]["reason"]
    entry = next(c for c in summary["checklist"] if c["name"] == "Compared at matched KL")
    assert entry["state"] == "missing"


def _lengths(root: Path, words: dict[str, tuple[float, ...]], methods: list[Method]) -> dict[str, Any]:
    """A matrix whose reward is a hundredth of the words, by intermediate checkpoint; every answer to one prompt is as long."""
    ids = write_matrix(root, methods, seeds=range(5), prompts=30)
    rng = np.random.default_rng(11)
    noise = {run: 0.02 * rng.normal(size=30) for run in ids}

    def write(path: Path, level: float, more: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.loads((root / "reference" / "scores" / "constraints.json").read_text())
        for item, extra in zip(text["items"], more, strict=True):
            item["values"] |= {"gold_reward": level / 100 + float(extra), "response_words": level}
        path.write_text(json.dumps(text))

    write(root / "reference" / "scores" / "constraints.json", 50.0, np.zeros(30))
    for run in ids:
        *way, last = words[run.split("-")[0]]
        folder = root / "runs" / run
        write(folder / "scores" / "constraints.json", last, noise[run])
        for step, level in enumerate(way, start=2):
            write(folder / "snapshots" / f"step-{step}" / "scores" / "constraints.json", level, noise[run])
    found: dict[str, Any] = build_summary(load_matrix(root, ids)).plain()["frontiers"]
    return found


@pytest.mark.parametrize(("further", "nearer"), [((60.0, 90.0), (55.0, 70.0)), ((40.0, 10.0), (45.0, 30.0))])
def test_longer_answers_are_no_gain_at_equal_length(
    tmp_path: Path, further: tuple[float, ...], nearer: tuple[float, ...]
) -> None:
    """One line of reward against words; foodpo goes further along it, to longer or to shorter answers."""
    found = _lengths(tmp_path, {"fixed": nearer, "foodpo": further}, [FIXED, FOODPO])["length"]
    assert found["metric"] == "constraints/response_words" and found["reason"] is None
    (row,) = found["comparisons"]
    assert (row["label"], row["against"], row["points_per_run"], row["n"]) == ("foodpo", "fixed", 3, 30)
    for seed in row["per_seed"]:
        assert (seed["low"], seed["high"]) == pytest.approx(sorted((50.0, nearer[-1])))
    low, high = row["matched"]["difference"]["low"], row["matched"]["difference"]["high"]
    assert low < 0 < high and abs(row["area"]["difference"]["value"]) < 0.02


def test_answers_that_grow_apart_share_no_length(tmp_path: Path) -> None:
    found = _lengths(tmp_path, {"fixed": (55.0, 70.0), "foodpo": (45.0, 30.0)}, [FIXED, FOODPO])["length"]
    (row,) = found["comparisons"]
    assert row["reason"] == "no pair of runs shares a range of length" and row["matched"]["difference"]["value"] is None
    assert row["seeds_without_shared_range"] == [0, 1, 2, 3, 4]


def test_strata_of_methods_and_controls(whole: tuple[Path, list[str], dict[str, Any]]) -> None:
    rows = whole[2]["strata"]["comparisons"]
    assert {(r["label"], r["against"], r["control"]) for r in rows} == {
        ("foodpo", "fixed", False), ("permuted", "fixed", True), ("foodpo", "permuted", False)
    }  # fmt: skip
    first = rows[0]
    assert [s["difference"]["n"] for s in first["strata"]] == [10] * 4
    assert first["strata"][0]["high"] < first["strata"][1]["low"]
    assert first["slope"]["low"] < first["slope"]["value"] < first["slope"]["high"]
    assert any("capitals" in (whole[2]["strata"]["reason"] or "") for _ in rows)


def test_panels_draw_from_their_rows(whole: tuple[Path, list[str], dict[str, Any]]) -> None:
    root, ids, summary = whole
    matrix = load_matrix(root, ids)
    look = looks(["fixed", "foodpo", "permuted"], "fixed")
    wanted = {
        "result",
        "differences",
        "frontier_kl",
        "frontier_length",
        "perplexity_strata",
        "expected_best",
        "setting_map",
    }
    wanted |= {"frontier_matched"}
    panels = {p.name: p for p in all_panels() if p.name in wanted}
    assert set(panels) == wanted
    with style():
        import matplotlib.pyplot as plt

        for name, panel in panels.items():
            rows = panel.rows(matrix, Summary.model_validate(summary))
            assert bool(rows) == (name not in ("expected_best", "setting_map")), (
                name
            )  # one setting of each: nothing tuned
            assert all(set(row) <= set(panel.columns) for row in rows)
            if rows:
                figure = panel.draw(rows, look)
                assert figure.axes
                plt.close(figure)
