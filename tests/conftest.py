"""Shared fixtures: a tiny model built by code, and a quiet, offline environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")


#: Tests that keep both cores busy or need gigabytes run one after another, in one worker.
_HEAVY = (
    "test_beta_head_model",
    "test_benchmarks_vllm",
    "test_collapse_demo",
    "test_embedded",
    "test_end_to_end",
    "test_llm_judge_vllm",
    "test_vllm",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        heavy = item.path.stem.startswith(_HEAVY)
        # without a group of its own a module's fixtures would be made in every worker
        item.add_marker(pytest.mark.xdist_group("heavy" if heavy else str(item.path)))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer random Llama with a byte-level tokenizer and a chat template."""
    from trainers.tiny import build_tiny_model

    return build_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real public data beside the project; tests that need it skip where it is missing."""
    path = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not path.is_dir():
        pytest.skip("the real-data folder ../shared/data is not beside this checkout")
    return path
