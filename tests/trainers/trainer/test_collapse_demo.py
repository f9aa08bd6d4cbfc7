"""A learned beta on the demo's model and data: without the safeguards it runs away and is named, with them it holds."""

from pathlib import Path
from typing import Any

import pytest

import trainers
from tests.trainers.helpers import logged, trained
from trainers.formats import PreferencePair, load_pairs
from trainers.models.embedded import prepare_model

pytestmark = pytest.mark.slow

STEPS = 10
PREF_BETA = 0.1
LORA = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
#: No anchor, bounds that never bind, and a head that learns ten times as fast.
NO_SAFEGUARDS = {"anchor": 0, "beta_min_ratio": 1e-30, "beta_max_ratio": 1e30, "head_learning_rate": 1e-2}


def characters(pair: PreferencePair) -> int:
    return sum(len(turn["content"]) for turns in (pair.prompt, pair.chosen, pair.rejected) for turn in turns)


def history(out: Path, reference: Path, **params: Any) -> list[dict[str, Any]]:
    """The log of a run on the eight shortest pairs of the demo, one a step, else as in harness/configs/demo.yaml."""
    pairs = load_pairs(Path(trainers.__file__).parent / "data" / "constraint_pairs" / "train.jsonl")
    job = trained(
        prepare_model("smollm2-135m-instruct"),
        out,
        "beta_head",
        params={"pref_beta": PREF_BETA, **params},
        reference_root=reference,
        training={
            "max_steps": STEPS,
            "per_device_train_batch_size": 1,
            "learning_rate": 2e-4,
            "lr_scheduler_type": "constant",
            "max_length": 256,
            "save_strategy": "no",
        },
        lora=LORA,
        pairs=sorted(pairs, key=characters)[:8],
    )
    return logged(job)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("collapse")
    settings: dict[str, dict[str, Any]] = {"free": NO_SAFEGUARDS, "held": {}}
    return {name: history(folder / name, folder / "reference", **params) for name, params in settings.items()}


def test_both_runs_start_alike(runs: dict[str, list[dict[str, Any]]]) -> None:
    free, held = runs["free"], runs["held"]
    assert len(free) == len(held) == STEPS
    for key in ("loss", "delta", "dynamic_beta", "log_prompt_perplexity"):
        assert free[0][key] == held[0][key]
    assert held[0]["dynamic_beta"] == pytest.approx(PREF_BETA)


def test_without_safeguards_beta_runs_away_and_is_named(runs: dict[str, list[dict[str, Any]]]) -> None:
    away = [record for record in runs["free"] if record["dynamic_beta"] > 10 * PREF_BETA]
    assert away
    assert all("ran away" in record["beta_collapse"] for record in away)


def test_with_the_defaults_beta_holds(runs: dict[str, list[dict[str, Any]]]) -> None:
    held = runs["held"]
    assert not [record["beta_collapse"] for record in held if "beta_collapse" in record]
    assert all(PREF_BETA / 3 < record["dynamic_beta"] < 3 * PREF_BETA for record in held)
    assert len({record["dynamic_beta"] for record in held}) > STEPS // 2, "the head is learning"


def test_a_beta_that_ran_away_stops_the_training(runs: dict[str, list[dict[str, Any]]]) -> None:
    """With a large beta a pair saturates as soon as its margin is above 0, and pulls no more."""
    free, held = (min(record["gradient_weight"] for record in runs[name]) for name in ("free", "held"))
    assert free < 0.01 * held
