"""Quantised loading by bitsandbytes (Dettmers et al., QLoRA, arXiv 2305.14314)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any


def quantized(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of from_pretrained that load weights in 4 or 8 bits onto this process's GPU.

    Args:
        settings: keys of transformers.BitsAndBytesConfig.

    Raises:
        ValueError: there is no CUDA GPU.
    """
    import torch
    from transformers import BitsAndBytesConfig

    if not torch.cuda.is_available():
        raise ValueError(
            "model.quantization is set, and this machine has no CUDA GPU; remove it, or train where there is one"
        )
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    return {"quantization_config": BitsAndBytesConfig(**settings), "device_map": {"": rank}}
