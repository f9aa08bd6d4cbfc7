"""What vLLM cannot serve of a model, and a LoRA that cannot be trained on it: found before anything is trained."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.config import MatrixConfig, Source, refuse
from trainers.common import Json, read_json
from trainers.common.files import tensor_shapes

#: Head sizes of vLLM's attention on CPUs (vllm.v1.attention.backends.cpu_attn of 0.32).
CPU_HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
#: Modules that hold the token embeddings and the output layer; tied weights are those of the embeddings.
_EMBEDDINGS = ("embed_tokens", "wte", "embed_in", "word_embeddings", "tok_embeddings")
_OUTPUT = ("lm_head", "embed_out")


def check_served(config: MatrixConfig, source: Source, model: Path, backend: str, on_cpu: bool) -> None:
    """Refuse what training or evaluation would fail on.

    Args:
        model: the folder of the starting model. backend: of the engine. on_cpu: whether it runs on this machine's CPUs.

    Raises:
        UserError: with line, key, value and the fix.
    """
    whole = read_json(model / "config.json")
    settings: Json = whole if isinstance(whole, dict) else {}
    text = settings.get("text_config") or settings
    engine, lora = config.evaluation.engine, config.lora or {}
    at, out = source.at("evaluation", "engine", "backend"), "set evaluation.engine.backend: transformers"
    name = config.model.name_or_path
    heads = next((text[key] for key in ("num_attention_heads", "n_head", "num_heads") if key in text), None)
    width = next((text[key] for key in ("hidden_size", "n_embd", "d_model") if key in text), None)
    size = text.get("head_dim") or (width // heads if heads and width and "kv_lora_rank" not in text else None)
    longest, scaled = text.get("max_position_embeddings"), text.get("rope_scaling") or text.get("rope_parameters") or {}
    scaled = scaled.get("rope_type", scaled.get("type", "default")) != "default"
    serves = backend == "vllm" and bool(config.evaluation.benchmark_names)
    outputs = _named(lora.get("target_modules"), _OUTPUT)
    untied = _untying(lora) if _is_tied(settings, text, model) else []
    dpo = any(method.objective == "dpo" for method in config.methods)
    refuse(
        (
            dpo and bool(outputs),
            f"{source.at('lora', 'target_modules')} has {', '.join(outputs)}: TRL's DPO computes with the weights of the output "
            "layer themselves, so an adapter on it is not trained; remove it, or name it in modules_to_save",
        ),
        (
            serves and bool(untied),
            f"{source.at('lora')}: {', '.join(untied)} unties the embeddings of {name}, and vLLM serves them tied; {out}",
        ),
        (
            serves and on_cpu and size is not None and size not in CPU_HEAD_SIZES,
            f"{at} is {engine.backend!r}: vLLM on CPUs serves heads of {', '.join(map(str, CPU_HEAD_SIZES))}, and those of "
            f"{name} have {size}; {out}",
        ),
        (
            serves and isinstance(longest, int) and not scaled and engine.max_model_len > longest,
            f"{source.at('evaluation', 'engine', 'max_model_len')} is {engine.max_model_len}, and {name} has "
            f"{longest} positions (max_position_embeddings); lower it",
        ),
        (
            serves and isinstance(heads, int) and heads % engine.tensor_parallel_size != 0,
            f"{source.at('evaluation', 'engine', 'tensor_parallel_size')} is {engine.tensor_parallel_size}, which does not "
            f"divide the {heads} attention heads of {name}; take a divisor",
        ),
    )


def _is_tied(settings: Json, text: Json, model: Path) -> bool:
    """Whether the output layer is the embeddings: as the configuration says, else where no weights of one are there."""
    said = text.get("tie_word_embeddings", settings.get("tie_word_embeddings"))
    if said is not None or "model_type" not in settings:
        return bool(said)
    return not any(name.rpartition(".weight")[0].endswith(_OUTPUT) for name in tensor_shapes(model))


def _untying(lora: Json) -> list[str]:
    """Settings of a LoRA that give the embeddings and the output layer of a tied model weights of their own."""
    return [
        f"{key} {name}"
        for key, modules in (("modules_to_save", (*_EMBEDDINGS, *_OUTPUT)), ("target_modules", _EMBEDDINGS))
        for name in _named(lora.get(key), modules)
    ]


def _named(value: Any, modules: Sequence[str]) -> list[str]:
    """The modules that a setting of PEFT means: names, ends of names, or an expression for whole names."""
    if isinstance(value, str):
        whole = [f"{place}{name}" for name in modules for place in ("", "model.", "transformer.", "model.model.")]
        try:
            return sorted({name.rpartition(".")[2] for name in whole if re.fullmatch(value, name)})
        except re.error:
            return []  # PEFT names it
    return [name for name in modules for one in value or [] if one == name or str(one).endswith(f".{name}")]
