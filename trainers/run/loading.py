"""Quantised loading by bitsandbytes (Dettmers et al., QLoRA, arXiv 2305.14314)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from trainers.run.job import TrainJob


def quantized(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of from_pretrained that load weights in 4 or 8 bits onto this process's GPU, or onto the CPU where there is none.

    Args:
        settings: keys of transformers.BitsAndBytesConfig.
    """
    import torch
    from transformers import BitsAndBytesConfig

    place = int(os.environ.get("LOCAL_RANK", "0")) if torch.cuda.is_available() else "cpu"
    return {"quantization_config": BitsAndBytesConfig(**settings), "device_map": {"": place}}


def supports_bf16() -> bool:
    """Whether bfloat16 is worth using: a GPU that has it, or a CPU with AVX512-BF16 or AMX.

    On other CPUs it is emulated, and a backward pass was measured 30 times slower than in float32.
    """
    import torch

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def load_model(job: TrainJob) -> Any:
    """The starting weights as transformers loads them."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        job.model_path,
        **(quantized(job.quantization) if job.quantization is not None else {}),
        dtype=getattr(torch, job.dtype),
        attn_implementation=job.attn_implementation,
        trust_remote_code=job.trust_remote_code,
    )
