"""Adapters are merged for as long as they are served, whatever a killed process has left of an earlier merge."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from evals.engine.merge import served_weights
from evals.job import Merge, Policy
from tests.evals.benchmarks.scored import policy_entry


@pytest.fixture
def policy(tiny_model: Path, tmp_path: Path) -> Policy:
    """The entry of a policy of which the adapter alone was kept."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    adapted: Any = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "adapter")
    how = Merge(base=tiny_model, dtype="float32")
    entry = policy_entry("run", tmp_path / "out", tmp_path / "policy")
    return entry.model_copy(update={"adapter": tmp_path / "adapter", "merge": how})


@pytest.mark.parametrize("left", [[], ["config.json"], ["config.json", "model.safetensors"]])
def test_what_a_killed_process_left_is_not_served(policy: Policy, tiny_model: Path, left: list[str]) -> None:
    path = policy.path
    with served_weights(policy):
        expected = load_file(path / "model.safetensors")
    assert not path.exists()
    assert any(not torch.equal(expected[k], v) for k, v in load_file(tiny_model / "model.safetensors").items())
    path.mkdir()
    for name in left:
        (path / name).write_bytes(b"half")
    with served_weights(policy):
        found = load_file(path / "model.safetensors")
    assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)
