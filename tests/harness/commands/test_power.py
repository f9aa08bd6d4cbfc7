"""`harness power`: what it prints, from stated deviations and from a pilot, and what it refuses."""

import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from harness.commands.analysis import power as command
from reports.runs.arms import arms
from reports.runs.records import MatrixData, load_matrix
from reports.statistics.design import Spread, components, needed, power
from reports.verdict.pilot import PilotError, Stop, cheapest, pilot_squares, stops
from tests.harness.conftest import one_error
from tests.reports.builder import write_matrix
from trainers.common import UserError

Here = Callable[..., subprocess.CompletedProcess[str]]
GIVEN = ("--sd-seed", 0.02, "--sd-prompt", 0.14, "--sd-residual", 0.42)


def pilot(root: Path, **settings: Any) -> Path:
    """A finished synthetic matrix with the file that names its runs."""
    runs = write_matrix(root, **settings)
    config = {"name": "pilot", "report": {"baseline": "fixed", "primary": "constraints/gold_reward"}}
    (root / "matrix.json").write_text(json.dumps({"name": "pilot", "runs": runs, "config": config}), encoding="utf-8")
    return root


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the draws: for what is printed, not for its digits."""
    monkeypatch.setattr(command, "FEWEST_DRAWS", 20)
    monkeypatch.setattr(command, "MOST_DRAWS", 200)


@pytest.fixture
def found(here: Here) -> Callable[..., Any]:
    """What `power --json` says."""
    return lambda *arguments: json.loads(here("power", *arguments, "--json").stdout)


@pytest.fixture
def said(here: Here, quick: None) -> Callable[..., str]:
    """What `power` prints, in one line."""
    return lambda *arguments: " ".join(here("power", *arguments).stdout.split())


def read(folder: Path) -> MatrixData:
    record = json.loads((folder / "matrix.json").read_text(encoding="utf-8"))
    return load_matrix(folder, record["runs"], record["config"])


def test_stated_deviations(found: Any) -> None:
    result = found("--effect", 0.06, "--seeds", "10,3,5", "--prompts", "200,100", *GIVEN)
    spread = Spread(0.02, 0.14, 0.42)
    assert result["source"] == "as given"
    shapes = [(design["seeds"], design["prompts"]) for design in result["designs"]]
    assert shapes == [(3, 100), (3, 200), (5, 100), (5, 200), (10, 100), (10, 200)]
    for shape, design in zip(shapes, result["designs"], strict=True):
        assert design["judged"] == (design["seeds"] >= 5)
        if design["judged"]:  # simulated; the noncentral t is nearly right for one claim
            assert design["power"] == pytest.approx(power(spread, 0.06, *shape), abs=0.05)
            assert design["power_three"] < design["power"]
            assert power(spread, design["detectable"], *shape) == pytest.approx(0.8, abs=0.05)
        else:
            assert (design["power"], design["power_three"], design["detectable"]) == (0, 0, None)
    assert result["seeds_needed"]["100"] == pytest.approx(needed(spread, 0.06, prompts=100, least=5), abs=1)
    assert result["prompts_needed"]["5"] == pytest.approx(needed(spread, 0.06, seeds=5), rel=0.1)
    assert result["prompts_needed"]["3"] is None


def test_claims_cost_power_and_looks_save_seeds(found: Any) -> None:
    at = ("--effect", 0.06, "--seeds", 5, "--prompts", 200, *GIVEN, "--claims")
    one, four = found(*at, 1, "--looks", "10,6"), found(*at, 4)
    (row,) = one["looks"]
    assert row["looks"] == [6, 10] and row["prompts"] == 200
    assert row["power"] >= 0.9 and row["seeds_on_average"] <= 7, "declared looks save seeds"
    assert four["alpha"] == one["alpha"] == 0.05
    assert four["designs"][0]["power"] < one["designs"][0]["power"] - 0.05
    # The audit's ordinary world: three nested claims and a rival, 29.8 % before.
    assert four["designs"][0]["power_three"] >= 0.55 - 3 * (0.55 * 0.45 / 2000) ** 0.5


def test_what_is_printed(said: Any) -> None:
    text = said("--effect", 0.06, "--seeds", "3,5", "--prompts", 100, *GIVEN, "--looks", "10,6")
    assert "needed to find 0.06" in text and "at 3 seeds no number of prompts" in text
    assert "* below 5 seeds no claim is judged" in text and "with looks at 6, 10 seeds" in text
    assert "assumed (prompt, residual), not measured" in said("--effect", 0.05, "--seeds", 5, "--sd-seed", 0.01)


def test_output_fits_80_columns(here: Here, quick: None, tmp_path: Path) -> None:
    many = ",".join(str(n) for n in range(100, 1000, 100))
    for more in (("--prompts", many), ("--prompts", 100, "--pilot", pilot(tmp_path / "pilot", seeds=(0, 1, 2)))):
        result = here("power", "--effect", 0.05, "--seeds", 5, *more)
        assert result.returncode == 0 and max(map(len, result.stdout.splitlines())) <= 80, result


def test_pilot_measures_the_deviations(found: Any, quick: None, tmp_path: Path) -> None:
    directory = pilot(tmp_path / "pilot", seeds=(0, 1, 2), prompts=40)
    ask = ("--effect", 0.05, "--seeds", 5, "--prompts", 40, "--pilot", directory)
    result, matrix = found(*ask), read(directory)
    assert len(arms(matrix.runs)) == 3
    metric, squares = pilot_squares(matrix)
    assert metric == "constraints/gold_reward" and set(squares) == {"foodpo", "beta_head"}
    measured, cautious = components(list(squares.values()))
    assert (result["sd_measured"], result["sd"]) == (asdict(measured), asdict(cautious))
    assert "2 comparisons, 3 seeds x 40 prompts" in result["source"]
    assert "measured on capitals/acc" in found(*ask, "--metric", "capitals/acc")["source"]


def test_a_continuous_score_of_another_range(found: Any, quick: None, tmp_path: Path) -> None:
    """A pilot whose scores are stretched from 0..1 to -1..1 has twice the deviations, and the same power for twice the effect."""
    plain = pilot(tmp_path / "plain", seeds=(0, 1, 2), prompts=40)
    stretched = pilot(tmp_path / "stretched", seeds=(0, 1, 2), prompts=40)
    for path in stretched.glob("**/scores/constraints.json"):
        score = json.loads(path.read_text(encoding="utf-8"))
        for item in score["items"]:
            item["values"]["gold_reward"] = 2 * item["values"]["gold_reward"] - 1
        path.write_text(json.dumps(score | {"kind": "gold_reward"}), encoding="utf-8")
    ask = ("--seeds", "3,6", "--prompts", "40")
    one, two = found("--effect", 0.05, "--pilot", plain, *ask), found("--effect", 0.1, "--pilot", stretched, *ask)
    assert {name: 2 * value for name, value in one["sd"].items()} == pytest.approx(two["sd"])
    for a, b in zip(one["designs"], two["designs"], strict=True):
        assert a["power"] == pytest.approx(b["power"])
        assert not a["judged"] or 2 * a["detectable"] == pytest.approx(b["detectable"], rel=5e-3)
    stated = [[d["power"] for d in found("--effect", 0.05 * w, "--range", w, *ask)["designs"]] for w in (1, 2)]
    assert stated[0] == pytest.approx(stated[1])


def test_unfinished_pilot_uses_what_is_shared(tmp_path: Path) -> None:
    directory = pilot(tmp_path / "pilot", seeds=(0, 1, 2), failed=[("foodpo", 0)])
    assert set(pilot_squares(read(directory))[1]) == {"beta_head"}  # foodpo has one seed less
    lonely = pilot(tmp_path / "lonely", seeds=(0,))
    with pytest.raises(PilotError, match="no method shares two finished seeds"):
        pilot_squares(read(lonely))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "required: --effect"),
        (("--effect", "0"), "give a number above 0"),
        (("--effect", "nan"), "give a number above 0"),
        (("--effect", "0.1", "--seeds", "1,5"), "'1': give a whole number of 2 to 1000"),
        (("--effect", "0.1", "--prompts", "many"), "'many'"),
        (("--effect", "0.1", "--sd-seed", "-1"), "of at least 0"),
        (("--effect", "0.1", "--sd-seed", "0", "--sd-prompt", "0", "--sd-residual", "0"), "are all 0"),
        (("--effect", "0.1", "--claims", "0"), "give a whole number of 1 to 100"),
        (("--effect", "0.1", "--metric", "a/b"), "belongs to a pilot"),
        (("--effect", "0.1", "--pilot", "nowhere"), "holds no matrix"),
        (("--effect", "0.1", "--sede", "3"), "did you mean '--seeds'?"),
    ],
)
def test_mistakes_are_one_line(here: Here, arguments: tuple[str, ...], words: str) -> None:
    assert words in one_error(here("power", *arguments))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--metric", "a/b"), "metric 'a/b' was not scored; known: capitals/acc, "),
        (("--against", "nobody"), "no method 'nobody'; known: fixed, foodpo, beta_head"),
        (("--sd-seed", 0.1), "the pilot measures it"),
    ],
)
def test_mistakes_about_the_pilot(here: Here, tmp_path: Path, more: tuple[Any, ...], words: str) -> None:
    directory = pilot(tmp_path / "pilot", seeds=(0, 1))
    assert words in one_error(here("power", "--effect", 0.1, "--pilot", directory, *more))


def timed(root: Path, samples: int = 1, checkpoints: Sequence[int] = (), **settings: Any) -> Path:
    """A pilot that says how long its runs took: 100 s of training, 1 s for each of its answers."""
    directory, prompts = pilot(root, seeds=(0, 1, 2), prompts=40, **settings), 40
    record = json.loads((directory / "matrix.json").read_text())
    record["config"]["evaluation"] = {"benchmarks": [{"name": "constraints", "samples": samples}]}
    (directory / "matrix.json").write_text(json.dumps(record))
    for run in (directory / "runs").iterdir():
        status = json.loads((run / "status.json").read_text())
        marks = {"train": 100.0, "evaluate": 1.0 * prompts * samples}
        status["stages"] = {name: {"seconds": s, "fingerprint": "f", "files": {}} for name, s in marks.items()}
        (run / "status.json").write_text(json.dumps(status))
        path = run / "scores" / "constraints.json"
        score = json.loads(path.read_text())
        for item in score["items"] if samples > 1 else ():
            item["sample_variance"] = {"gold_reward": 0.01}
        path.write_text(json.dumps(score))
        for step in checkpoints:
            shutil.copytree(run / "scores", run / "snapshots" / f"step-{step}" / "scores")
    return directory


def test_a_pilot_proposes_the_cheapest_design(found: Any, said: Any, tmp_path: Path) -> None:
    plain = timed(tmp_path / "plain")
    ask = ("--effect", 0.05, "--seeds", 5, "--prompts", 40, "--pilot", plain)
    best = found(*ask)["cheapest"]
    assert best["samples"] == 1 and best["step"] is None
    assert best["seconds"] == pytest.approx(3 * best["seeds"] * (100 + best["prompts"]))
    cautious = components(list(pilot_squares(read(plain))[1].values()))[1]
    assert power(cautious, 0.05, best["seeds"], best["prompts"]) == pytest.approx(0.8, abs=0.08)
    for seeds, prompts in ((5, 64), (8, 32), (20, 16), (5, 1024)):  # nothing that would do is cheaper
        enough = power(cautious, 0.05, seeds, prompts) >= 0.8
        assert not enough or 3 * seeds * (100 + prompts) >= 0.93 * best["seconds"]
    shape = f"{best['seeds']} seeds x {best['prompts']} prompts x 1 sample"
    assert f"cheapest design for 0.05: {shape}: about" in said(*ask)


def test_samples_and_steps_only_where_the_pilot_has_them(tmp_path: Path) -> None:
    def told(root: Path) -> list[Stop]:
        return stops(read(root), "constraints/gold_reward")

    (alone,) = told(timed(tmp_path / "alone"))
    assert alone.sampled(8) == alone.spread and (alone.train, alone.answer) == (100.0, 1.0)
    early, last = told(timed(tmp_path / "more", samples=2, checkpoints=[4]))
    assert (early.step, early.train, last.step, last.train) == (4, 50.0, None, 100.0) and early.spread == last.spread
    assert last.sampled(4).residual ** 2 == pytest.approx(last.spread.residual**2 - 2 * 0.01 / 4)
    best = cheapest([early, last], 0.05, 3)
    assert best is not None and best.step == 4, "as good at half the training"
    assert cheapest([last], 1e-6, 3) is None


def test_a_dry_run_says_what_the_matrix_would_detect(world: Any, tmp_path: Path) -> None:
    from harness.forecast.dry_run import sized

    assert sized(world.plan()) is None
    timed(tmp_path / "pilot")
    world.replace("report:\n", "report:\n  pilot: pilot\n")
    assert "fewer than 5 seeds" in sized(world.plan()).text
    world.replace("seeds: [0, 1]", "seeds: [0, 1, 2, 3, 4]")
    found = sized(world.plan())
    assert (found.seeds, found.prompts, found.claims) == (5, 1, 1) and found.detectable > 0.1
    assert found.text.endswith(f"detect a difference of {found.detectable:.3g} with chance 80 %")
    world.replace("pilot: pilot", "pilot: nowhere")
    with pytest.raises(UserError, match="nowhere holds no matrix"):
        sized(world.plan())
