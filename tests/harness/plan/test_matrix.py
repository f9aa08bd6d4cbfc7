"""What enters a run's identity, and what must not."""

import shutil
from pathlib import Path
from typing import Any

import pytest

CLAIM = "{name: c, method: foodpo, against: fixed, metric: constraints/gold_reward}"


def _ids(world: Any) -> dict[tuple[str, int], str]:
    return {(spec.method, spec.seed): spec.run_id for spec in world.plan().specs}


def test_grid_times_seeds(world: Any) -> None:
    world.replace("pref_beta: 0.1", "grid: {pref_beta: [0.1, 0.2], pref_loss: [sigmoid, ipo]}\n    seeds: [3, 4, 5]")
    specs = [spec for spec in world.plan().specs if spec.method == "fixed"]
    assert len(specs) == len({spec.fingerprint for spec in specs}) == 2 * 2 * 3
    assert all(spec.run_id == f"fixed-{spec.fingerprint[:12]}" for spec in specs)
    assert {(spec.params["pref_beta"], spec.params["pref_loss"]) for spec in specs} == {
        (beta, loss) for beta in (0.1, 0.2) for loss in ("sigmoid", "ipo")
    }


def test_changing_one_method_changes_only_its_runs(world: Any) -> None:
    before = _ids(world)
    world.replace("pref_beta_scale: 0.5", "pref_beta_scale: 0.7")
    after = _ids(world)
    assert {key for key in before if before[key] != after[key]} == {("foodpo", 0), ("foodpo", 1)}


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("learning_rate: 5e-6", "learning_rate: 1e-5", True),
        ("max_length: 256", "max_length: 300", True),
        ("seeds:", "lora: {r: 4}\nseeds:", True),
        ("model:", "model:\n  dtype: bfloat16", True),
        ("train: pairs.jsonl", "train: pairs.jsonl\n  max_train_pairs: 2", True),
        ("max_length: 256", "max_length: 256\n  dataloader_num_workers: 3", False),
        ("max_length: 256", "max_length: 256\n  save_steps: 7", False),
        ("pref_beta: 0.1", "pref_beta: 0.1  # the default", False),
        ("baseline: fixed", "baseline: foodpo", False),
        ("report:", "  judges: [{name: gold, kind: verifiable}]\nreport:", False),
        ("report:", "  checkpoints: [2]\n  checkpoint_benchmarks: [constraints]\nreport:", False),
        ("report:", f"claims: [{CLAIM}]\nreport:", False),
        ("learning_rate: 5e-6", "learning_rate: 0.000005", False),
    ],
)
def test_what_determines_numbers_and_nothing_else_changes_every_run(
    world: Any, old: str, new: str, changed: bool
) -> None:
    before = _ids(world)
    world.replace(old, new)
    after = _ids(world)
    assert {before[key] != after[key] for key in before} == {changed}


def test_moving_everything_changes_no_run(world: Any, tmp_path: Path) -> None:
    before = _ids(world)
    moved = tmp_path / "moved.model"
    shutil.move(world.model, moved)
    world.replace(str(world.model), str(moved))
    world.pairs.rename(tmp_path / "other.jsonl")
    world.replace("train: pairs.jsonl", "train: other.jsonl")
    world.output = tmp_path / "another" / "output"
    assert _ids(world) == before
