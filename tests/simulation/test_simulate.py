"""The verdicts on matrices whose truth is known: a small sample of `make simulate`."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports.statistics.crossed import mean_squares
from reports.statistics.design import components
from tests.simulation import worlds
from tests.simulation.simulate import broken, campaign, main, tables
from tests.simulation.worlds import EFFECT, WORLDS, simulate

BY_NAME = {world.name: world for world in WORLDS}
MATRICES = 60


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return campaign(MATRICES)


def rates(result: dict[str, Any], world: str) -> dict[str, float]:
    found: dict[str, float] = next(w["rates"] for w in result["worlds"] if w["world"] == world)
    return found


def test_bounds_hold_up_to_sampling_error(result: dict[str, Any]) -> None:
    assert broken(result, errors=3) == []
    assert {w["world"] for w in result["worlds"]} >= {
        "no_effect", "mean_beta", "variation", "perplexity", "simpson", "seed_variance", "autocorrelated"
    }  # fmt: skip


def test_naive_analyses_fail_where_they_must(result: dict[str, Any]) -> None:
    assert rates(result, "seed_variance")["naive:pooled_prompts"] > 0.15
    assert rates(result, "seed_variance")["naive:single_seed"] > 0.15
    assert rates(result, "no_effect")["naive:best_seed"] > 0.2
    assert rates(result, "prompt_variance")["naive:seeds_only"] > 0.1
    assert rates(result, "simpson")["pooled:delta:wrong"] > 0.8
    assert rates(result, "autocorrelated")["pooled:delta:wrong"] > 0.8
    assert rates(result, "no_effect")["pooled:loss:wrong"] > 0.9  # the loss contains beta
    assert rates(result, "mean_beta")["naive:pooled_prompts"] > 0.7  # and it would be put down to perplexity


def test_the_right_analysis_finds_what_is_there(result: dict[str, Any]) -> None:
    assert rates(result, "simpson")["association:right"] > 0.8
    assert rates(result, "perplexity")["association:right"] > 0.8
    assert rates(result, "perplexity")["called_perplexity"] > 0.25
    assert rates(result, "variation")["called_variation"] > 0.35
    assert rates(result, "mean_beta")["supported:gain"] > 0.4
    assert all(w["rates"]["false_against"] <= 0.05 for w in result["worlds"])


def test_a_broken_bound_is_named(result: dict[str, Any]) -> None:
    worse = copy.deepcopy(result)
    by_name = {w["world"]: w for w in worse["worlds"]}
    by_name["no_effect"]["rates"]["false_supported"] = 0.3
    by_name["mean_beta"]["rates"]["called_perplexity"] = 0.4
    assert [line.split(":")[0] for line in broken(worse, errors=3)] == ["no_effect", "mean_beta"]


def test_the_readme_shows_the_committed_campaign() -> None:
    """Every number of its table and of the sentences below, from tests/benchmarks/simulation.json, whose bounds all held."""
    root = Path(__file__).parents[2]
    committed = json.loads((root / "tests" / "benchmarks" / "simulation.json").read_text(encoding="utf-8"))
    assert committed["bounds_broken"] == [] and committed["matrices_per_world"] >= 500
    assert broken(committed) == [] and {w["world"] for w in committed["worlds"]} == set(BY_NAME)
    section = (
        (root / "README.md").read_text(encoding="utf-8").split("## Why not just compare the means")[1].split("\n## ")[0]
    )
    names = {"no differences": "no_effect", "seeds differ a lot": "seed_variance"}
    names |= {"methods differ by prompt": "prompt_variance", "autocorrelated noise": "autocorrelated"}
    keys = ("false_supported", *(f"naive:{n}" for n in ("seeds_only", "pooled_prompts", "single_seed", "best_seed")))
    for title, world in names.items():
        (line,) = [row for row in section.splitlines() if row.startswith(f"| {title} |")]
        assert line.split("|")[2:-1] == [f" {100 * rates(committed, world)[key]:.1f} " for key in keys]
    for number in (
        rates(committed, "mean_beta")["naive:seeds_only"],
        rates(committed, "mean_beta")["called_perplexity"],
        rates(committed, "variation")["called_perplexity"],
        rates(committed, "perplexity")["supported:perplexity"],
    ):
        assert f"{100 * number:.1f} %" in " ".join(section.split())
    for key in ("report:false_better", "report:false"):
        found = [rates(committed, w["world"])[key] for w in committed["worlds"] if not w["truth"]["gain"]]
        assert f"{100 * min(found):.1f} to {100 * max(found):.1f} %" in " ".join(section.split())


def test_worlds_are_what_they_say() -> None:
    """Effects and spreads recovered from many matrices of a world."""
    for name in ("perplexity", "prompt_variance", "seed_variance"):
        world = BY_NAME[name]
        made = [simulate(world, index, seeds=6, prompts=80).scores for index in range(150)]
        for arm, effect in world.effects.items():
            gaps = [m[arm].mean() - m["baseline"].mean() for m in made]
            error = np.std(gaps) / np.sqrt(len(gaps))
            assert np.mean(gaps) == pytest.approx(effect, abs=4 * float(error) + 1e-12), (name, arm)
        measured, _ = components([mean_squares(m["method"] - m["baseline"]) for m in made])
        assert measured.residual == pytest.approx(world.spread.residual, rel=0.05)
        assert measured.prompt == pytest.approx(world.spread.prompt, rel=0.05)
        if world.spread.seed > 0.05:  # smaller ones drown in the residual of 80 prompts
            assert measured.seed == pytest.approx(world.spread.seed, rel=0.1)
    scores = simulate(BY_NAME["pass_or_fail"], 0).scores["method"]
    assert set(np.unique(scores)) == {0.0, 1.0}


def test_truth_follows_from_the_effects() -> None:
    truths = {w.name: [w.true(a) for a in ("gain", "variation", "perplexity")] for w in WORLDS}
    assert truths["no_effect"] == [False, False, False]
    assert truths["mean_beta"] == [True, False, False]
    assert truths["variation"] == [True, True, False]
    assert truths["perplexity"] == [True, True, True]
    assert BY_NAME["variation"].effects["permuted"] == EFFECT


def test_the_same_matrix_whoever_asks() -> None:
    world = BY_NAME["autocorrelated"]
    assert (simulate(world, 3).beta == simulate(world, 3).beta).all()
    assert not (simulate(world, 3).beta == simulate(world, 4).beta).all()


def test_command_writes_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "deep" / "simulation.json"
    code = main(["--matrices", "3", "--prompts", "40", "--output", str(path)])
    printed = capsys.readouterr()
    stored = json.loads(path.read_text())
    assert code == (1 if stored["bounds_broken"] else 0)
    assert len(printed.err.splitlines()) == len(stored["bounds_broken"])
    assert tables(stored) in printed.out
    assert max(map(len, tables(stored).splitlines())) <= 80
    with pytest.raises(SystemExit):
        main(["--matrices", "0"])


def test_naive_analyses_say_yes_only_upwards() -> None:
    rng = np.random.default_rng(0)
    low, high = rng.normal(0, 0.1, (5, 50)), rng.normal(1, 0.1, (5, 50))
    for name, says in worlds.GAINS.items():
        assert says(high, low) is True, name
        assert says(low, high) is False, name
    assert worlds.pooled_correlation(high, -high) == -1
