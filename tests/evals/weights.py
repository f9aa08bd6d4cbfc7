"""Copies of a checkpoint with other weights."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file


def edited(base: Path, target: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    """The checkpoint in `base` in `target`, with what `edit` makes of its weights."""
    shutil.copytree(base, target)
    weights = load_file(target / "model.safetensors")
    edit(weights)
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    return target


def nudged(base: Path, target: Path, scale: float, seed: int) -> Path:
    """Every weight moved by `scale` times a standard normal draw."""
    noise = torch.Generator().manual_seed(seed)
    return edited(
        base,
        target,
        lambda weights: weights.update(
            {name: weight + scale * torch.randn(weight.shape, generator=noise) for name, weight in weights.items()}
        ),
    )
