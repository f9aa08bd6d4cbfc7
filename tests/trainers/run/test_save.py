"""What a LoRA run keeps: merged weights, the adapter, or both."""

from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.trainers.helpers import make_pairs, trained

LORA = {"r": 4, "target_modules": "all-linear"}


@pytest.mark.slow
def test_every_choice_keeps_the_same_numbers(tiny_model: Path, tmp_path: Path) -> None:
    import torch

    for save in ("both", "merged", "adapter"):
        (tmp_path / save / "policy").mkdir(parents=True)  # of an earlier attempt, under another choice
        (tmp_path / save / "adapter").mkdir()
        trained(tiny_model, tmp_path / save, lora=LORA, save=save, training={"max_steps": 2}, pairs=make_pairs(8))
        assert (tmp_path / save / "policy").is_dir() == (save != "adapter")
        assert (tmp_path / save / "adapter").is_dir() == (save != "merged")
    weights = [load_file(tmp_path / save / "policy" / "model.safetensors") for save in ("both", "merged")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    adapters = [load_file(tmp_path / save / "adapter" / "adapter_model.safetensors") for save in ("both", "adapter")]
    assert all(torch.equal(adapters[0][key], adapters[1][key]) for key in adapters[0])
    kept = {path.name for path in (tmp_path / "adapter" / "adapter").iterdir()}
    assert "tokenizer.json" in kept and "README.md" not in kept
