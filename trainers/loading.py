"""Quantised loading by bitsandbytes (Dettmers et al., QLoRA, arXiv 2305.14314)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


def quantized(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of from_pretrained that load weights in 4 or 8 bits onto this process's GPU, or onto the CPU where there is none.

    Args:
        settings: keys of transformers.BitsAndBytesConfig.
    """
    import torch
    from transformers import BitsAndBytesConfig

    place = int(os.environ.get("LOCAL_RANK", "0")) if torch.cuda.is_available() else "cpu"
    return {"quantization_config": BitsAndBytesConfig(**settings), "device_map": {"": place}}


@contextmanager
def keeping_dtypes(model: Any) -> Iterator[None]:
    """Keep the precision of trained weights while a checkpoint is loaded into them.

    PEFT loads an adapter in float32, and TRL trains one over quantised weights in bfloat16: a resumed run would go on in another
    precision than it began in.
    """
    before = {name: weight.dtype for name, weight in model.named_parameters() if weight.requires_grad}
    yield
    for name, weight in model.named_parameters():
        if before.get(name, weight.dtype) != weight.dtype:
            weight.data = weight.data.to(before[name])
