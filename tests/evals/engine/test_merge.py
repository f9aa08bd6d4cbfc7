"""Adapters are merged for as long as they are served, whatever a killed process has left of an earlier merge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from evals.engine.merge import served_weights


@pytest.fixture
def policy(tiny_model: Path, tmp_path: Path) -> dict[str, Any]:
    """The entry of a policy of which the adapter alone was kept."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    adapted: Any = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "adapter")
    how = {"base": str(tiny_model), "dtype": "float32", "trust_remote_code": False}
    return {"path": str(tmp_path / "policy"), "adapter": str(tmp_path / "adapter"), "merge": how}


@pytest.mark.parametrize("left", [[], ["config.json"], ["config.json", "model.safetensors"]])
def test_what_a_killed_process_left_is_not_served(policy: dict[str, Any], tiny_model: Path, left: list[str]) -> None:
    path = Path(policy["path"])
    with served_weights(policy) as served:
        expected = load_file(served / "model.safetensors")
    assert not path.exists()
    assert any(not torch.equal(expected[k], v) for k, v in load_file(tiny_model / "model.safetensors").items())
    path.mkdir()
    for name in left:
        (path / name).write_bytes(b"half")
    with served_weights(policy) as served:
        found = load_file(served / "model.safetensors")
    assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)
