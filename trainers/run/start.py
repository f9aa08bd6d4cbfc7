"""What a run starts from: its weights, quantised by bitsandbytes if asked (QLoRA, arXiv 2305.14314), its rule, its arguments."""

import os
from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from trainers.common.files import Json
from trainers.common.training_schema import CHECKPOINTS
from trainers.formats.pairs import PreferencePair
from trainers.rules import catalogue
from trainers.rules.base import BetaRule
from trainers.rules.controls import ParentRun, ParentRunError, ReplayedRule
from trainers.run.job import TrainJob
from trainers.run.objectives import Objective
from trainers.run.tracking import reported_to


def quantized(settings: Mapping[str, Any]) -> Json:
    """Arguments of from_pretrained that load weights in 4 or 8 bits onto this process's GPU, or onto the CPU where there is none.

    Args:
        settings: keys of transformers.BitsAndBytesConfig.
    """
    place = int(os.environ.get("LOCAL_RANK", "0")) if torch.cuda.is_available() else "cpu"
    return {"quantization_config": BitsAndBytesConfig(**settings), "device_map": {"": place}}


def _supports_bf16() -> bool:
    """Whether bfloat16 is worth using: a GPU that has it, or a CPU with AVX512-BF16 or AMX.

    On other CPUs it is emulated, and a backward pass was measured 30 times slower than in float32.
    """
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def load_model(job: TrainJob, reference: bool = False) -> Any:
    """The starting weights, or the reference's, as transformers loads them."""
    return AutoModelForCausalLM.from_pretrained(
        job.reference_path if reference and job.reference_path is not None else job.model_path,
        **(quantized(job.quantization) if job.quantization is not None else {}),
        dtype=getattr(torch, job.dtype),
        attn_implementation=job.attn_implementation,
        trust_remote_code=job.trust_remote_code,
    )


def load_rule(job: TrainJob, config: Any, pairs: list[PreferencePair]) -> BetaRule:
    """Build the rule for a model with this configuration, a control with its parent's betas.

    Raises:
        trainers.rules.catalogue.RuleError: unknown rule or parameters it does not take.
        trainers.rules.controls.ParentRunError: a control's parent is missing or trained on other pairs.
    """
    loss = job.params.get("pref_loss", "sigmoid")
    known = isinstance(loss, list) or loss in catalogue.PREF_LOSSES
    own = {key: value for key, value in job.params.items() if key != "pref_loss" or known}
    rule = catalogue.build(job.rule, own, config.hidden_size)
    rule.pref_loss, rule.seed, rule.vocabulary_size = loss, job.seed, config.vocab_size
    if isinstance(rule, ReplayedRule):
        if job.parent_dir is None:
            raise ParentRunError(f"rule {job.rule!r} repeats a parent run; the job names none")
        rule.load_parent(ParentRun.read(job.parent_dir, [pair.id for pair in pairs]))
    return rule


def micro_batch(job: TrainJob, kind: Objective) -> int:
    """Examples of one forward pass on one device, as the user set it or TRL's default."""
    default = kind.load_config_class().per_device_train_batch_size
    return int(job.training.get("per_device_train_batch_size", default))


def training_arguments(job: TrainJob, kind: Objective, in_loop: bool, split: int) -> Any:
    """The objective's TRL configuration: defaults, then what the user set, then what the job decides.

    Args:
        in_loop: the rule needs the reference in every step.
        split: micro-batches are cut into so many parts, with that many times the accumulation.
    """
    trackers = reported_to(job)
    settings: Json = {
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": 50,
        "save_total_limit": 1,
        "report_to": trackers or "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "use_cpu": not torch.cuda.is_available(),  # without it, bf16 is refused on CPUs that have it
    }
    several = kind.name == "dpo" and int(os.environ.get("WORLD_SIZE", "1")) > 1
    given = "bf16" in job.training or "fp16" in job.training
    wanted = {
        "project": job.group if trackers else None,
        "bf16": None if given else _supports_bf16(),
        "precompute_ref_log_probs": kind.has_reference or None,
        # the sampler would fill a short last batch with pairs that were trained already
        "dataloader_drop_last": several or None,
    }
    settings |= {
        **{key: value for key, value in wanted.items() if value is not None},
        **job.training,
        "output_dir": str(job.run_dir / CHECKPOINTS),
        "run_name": job.run_id,
        "seed": job.seed,
        "data_seed": job.seed,
        "beta": float(job.params["pref_beta"]),
        "per_device_train_batch_size": micro_batch(job, kind) // split,
        "gradient_accumulation_steps": job.training.get("gradient_accumulation_steps", 1) * split,
    }
    if in_loop or settings.get("sync_ref_model"):
        settings["precompute_ref_log_probs"] = False
    if kind.name == "dpo":
        # TRL has no cDPO: its own loss is then formed here, in place of this one
        settings["loss_type"] = ["sigmoid" if name == "cdpo" else name for name in catalogue.losses_of(job.params)]
    elif kind.name == "kto":
        settings["loss_type"] = job.params["pref_loss"]
    return kind.load_config_class()(**settings)


def precision(job: TrainJob, args: Any) -> str:
    """The weights' precision, quantised or not, and that of the arithmetic."""
    weights = job.dtype if job.quantization is None else f"{job.dtype}+{sorted(job.quantization.items())}"
    return f"{weights}/{'bf16' if args.bf16 else 'fp16' if args.fp16 else 'none'}"
