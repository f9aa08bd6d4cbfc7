"""training.report_to in a matrix file."""

import importlib.util
from typing import Any

import pytest
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from harness.checks import trackers
from harness.checks.trackers import TRACKERS, live_views


def test_the_trackers_are_those_of_transformers() -> None:
    assert set(TRACKERS) == set(INTEGRATION_TO_CALLBACK)


@pytest.mark.parametrize("given", ["none", "all", "[none]"])
def test_words_are_taken(world: Any, given: str) -> None:
    world.replace("max_length: 256", f"max_length: 256\n  report_to: {given}")
    assert len(world.plan().specs) == 4


def test_report_to_is_no_part_of_a_runs_identity(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = [spec.run_id for spec in world.plan().specs]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    world.replace("max_length: 256", "max_length: 256\n  report_to: [wandb, mlflow]")
    plan = world.plan()
    assert [spec.run_id for spec in plan.specs] == before
    assert plan.train_job(plan.specs[0])["train_job"]["group"] == "small"


def test_a_mistake_is_one_line(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    line = world.replace("max_length: 256", "max_length: 256\n  report_to: wandbb") + 1
    assert f":{line}: report_to is 'wandbb'; did you mean 'wandb'?" in world.error()
    world.replace("report_to: wandbb", "report_to: [none, dvclive]")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "report_to is 'dvclive', which is not installed; pip install dvclive" in world.error()


def test_where_to_look_while_it_runs(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRACKIO_DIR", "TENSORBOARD_LOGGING_DIR", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    folder = (world.output / "tracking").resolve()
    trackio = f"env TRACKIO_DIR={folder / 'trackio'} trackio show --project small"
    for installed in (True, False):  # nothing set: trackio where it is installed
        monkeypatch.setattr(trackers, "default_is_installed", lambda installed=installed: installed)
        assert live_views(world.plan().config, world.output) == ([trackio] if installed else [])
    world.replace("max_length: 256", "max_length: 256\n  report_to: [tensorboard, mlflow, trackio, wandb]")
    board, flow = f"tensorboard --logdir {folder / 'tensorboard'}", f"sqlite:///{folder / 'mlflow.db'}"
    assert live_views(world.plan().config, world.output) == [board, f"mlflow ui --backend-store-uri {flow}", trackio]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@mine:5000")
    assert live_views(world.plan().config, world.output) == [board, trackio], "a server of one's own is not named"
