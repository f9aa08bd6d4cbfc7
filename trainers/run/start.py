"""What a run starts from: the loaded policy, its rule, and the training arguments."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from trainers.common.files import Json
from trainers.common.training_schema import CHECKPOINTS
from trainers.formats.pairs import PreferencePair
from trainers.run.job import TrainJob
from trainers.run.loading import load_model, supports_bf16
from trainers.run.objectives import Objective
from trainers.run.tracking import reported_to


@dataclass(frozen=True)
class Start:
    """The loaded policy of a run, its tokenizer and its rule."""

    model: Any
    tokenizer: Any
    rule: Any


def load_start(job: TrainJob, pairs: list[PreferencePair]) -> Start:
    """Load the policy and build the rule, a control with its parent's betas.

    Raises:
        trainers.rules.catalogue.RuleError: unknown rule or parameters it does not take.
        trainers.rules.controls.parent_run.ParentRunError: a control's parent is missing or trained on other pairs.
    """
    from transformers import AutoTokenizer, set_seed

    from trainers.rules import catalogue
    from trainers.rules.controls.parent_run import ParentRun, ParentRunError, ReplayedRule

    tokenizer = AutoTokenizer.from_pretrained(job.model_path, trust_remote_code=job.trust_remote_code)
    model = load_model(job)
    set_seed(job.seed)
    config = model.config.get_text_config()
    loss = job.params.get("pref_loss", "sigmoid")
    own = {key: value for key, value in job.params.items() if key != "pref_loss" or loss in catalogue.PREF_LOSSES}
    rule = catalogue.build(job.rule, own, config.hidden_size)
    rule.pref_loss, rule.seed, rule.vocabulary_size = loss, job.seed, config.vocab_size
    if isinstance(rule, ReplayedRule):
        if job.parent_dir is None:
            raise ParentRunError(f"rule {job.rule!r} repeats a parent run; the job names none")
        rule.load_parent(ParentRun.read(job.parent_dir, [pair.id for pair in pairs]))
    return Start(model, tokenizer, rule)


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
    import torch

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
    if job.group is not None and trackers:
        settings["project"] = job.group
    if "bf16" not in job.training and "fp16" not in job.training:
        settings["bf16"] = supports_bf16()
    if kind.has_reference:
        settings["precompute_ref_log_probs"] = True
    if kind.name == "dpo" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # the sampler would fill a short last batch with pairs that were trained already
        settings["dataloader_drop_last"] = True
    settings |= {
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
        settings["loss_type"] = [job.params.get("pref_loss", "sigmoid")]
    elif kind.name == "kto":
        settings["loss_type"] = job.params["pref_loss"]
    return kind.load_config_class()(**settings)


def precision(job: TrainJob, args: Any) -> str:
    """The weights' precision, quantised or not, and that of the arithmetic."""
    weights = job.dtype if job.quantization is None else f"{job.dtype}+{sorted(job.quantization.items())}"
    return f"{weights}/{'bf16' if args.bf16 else 'fp16' if args.fp16 else 'none'}"
