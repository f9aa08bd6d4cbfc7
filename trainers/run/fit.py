"""Run a trainer to its last step, from its last checkpoint if there is one, and write its outputs."""

from __future__ import annotations

import dataclasses
import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from trainers.common.files import Json
from trainers.common.training_schema import CHECKPOINTS, LOG_HISTORY, TRAIN_RESULT
from trainers.formats.pairs import PreferencePair
from trainers.run.callbacks import ProgressCallback, RotateCallback
from trainers.run.job import Progress, TrainJob
from trainers.run.loading import load_model, supports_bf16
from trainers.run.save import last_checkpoint, save_policy, whole_state, write_json
from trainers.run.tracking import reported_to, shelter


@dataclass(frozen=True)
class Start:
    """The loaded policy of a run, its tokenizer and its rule."""

    model: Any
    tokenizer: Any
    rule: Any

    def arguments(self, job: TrainJob) -> Json:
        """Arguments that every trainer takes."""
        from peft import LoraConfig

        return {
            "model": self.model,
            "processing_class": self.tokenizer,
            "peft_config": LoraConfig(**{"task_type": "CAUSAL_LM", **job.lora}) if job.lora is not None else None,
            "rule": self.rule,
        }


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


def frozen_reference(job: TrainJob, args: Any) -> Any:
    """The reference model, where it runs in every step and is not the policy without its adapter; else None."""
    return load_model(job) if job.lora is None and not args.precompute_ref_log_probs else None


def precision(job: TrainJob, args: Any) -> str:
    """The weights' precision, quantised or not, and that of the arithmetic."""
    weights = job.dtype if job.quantization is None else f"{job.dtype}+{sorted(job.quantization.items())}"
    return f"{weights}/{'bf16' if args.bf16 else 'fp16' if args.fp16 else 'none'}"


def common_settings(job: TrainJob) -> Json:
    """Training arguments every objective starts from, with what the user set; the method's own come on top."""
    import torch

    trackers = reported_to(job)
    defaults: Json = {
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
        defaults["project"] = job.group
    if "bf16" not in job.training and "fp16" not in job.training:
        defaults["bf16"] = supports_bf16()
    owned = {
        "output_dir": str(job.run_dir / CHECKPOINTS),
        "run_name": job.run_id,
        "seed": job.seed,
        "data_seed": job.seed,
        "beta": float(job.params["pref_beta"]),
    }
    return {**defaults, **job.training, **owned}


def fit(trainer: Any, job: TrainJob, on_progress: Callable[[Progress], None]) -> int:
    """Train to the last step; returns the step training was resumed from, 0 for a fresh start."""
    from transformers import TrainerState

    trainer.add_callback(ProgressCallback(on_progress))
    shelter(trainer, job)
    if job.snapshots is not False:
        from trainers.run.snapshots import SnapshotCallback

        steps = None if job.snapshots is True else job.snapshots
        tokenizer = trainer.processing_class
        trainer.add_callback(SnapshotCallback(trainer, tokenizer, job.run_dir, job.run_id, job.lora is not None, steps))
    trainer.add_callback(RotateCallback(trainer.args))
    checkpoint = last_checkpoint(Path(trainer.args.output_dir))
    resumed = int(checkpoint.name.split("-")[1]) if checkpoint else 0
    if trainer.accelerator.is_main_process:
        trainer.recorder.start(resumed)
    state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json")) if checkpoint else None
    if state is not None and state.global_step >= state.max_steps:
        # killed after the last step: Trainer would train one step more where the last epoch is not a whole one
        trainer._load_from_checkpoint(str(checkpoint))
        trainer.state = state
    else:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return resumed


def write_outputs(trainer: Any, tokenizer: Any, job: TrainJob) -> None:
    """Write `example_metrics.parquet`, `log_history.json`, `policy/` and with LoRA `adapter/` (see `TrainJob.save`); on the
    main process only."""
    state = whole_state(trainer)
    if not trainer.accelerator.is_main_process:
        return
    trainer.recorder.flush(trainer.state.global_step)
    trainer.recorder.finish()
    trainer.probe.write(job.run_dir, trainer.recorder.example_ids)
    write_json(job.run_dir / LOG_HISTORY, {job.run_id: trainer.state.log_history})
    unquantized = dataclasses.replace(job, quantization=None)  # what an adapter is merged into
    lora = job.lora is not None
    save_policy(trainer, tokenizer, job.run_dir, lora, state, lambda: load_model(unquantized), job.save)


def run_to_end(
    job: TrainJob,
    make_trainer: Callable[[], tuple[Any, Any]],
    on_progress: Callable[[Progress], None],
    offered: int,
    first: Mapping[str, Any] = MappingProxyType({}),
    last: Callable[[Any], Json] = lambda trainer: {},
) -> Json:
    """Make the trainer, train, write all files; returns what `train_result.json` holds (times in seconds).

    Args:
        make_trainer: the trainer and its tokenizer.
        offered: rows of training data; those the trainer did not keep are `dropped_examples`.
        first, last: more entries of the result, before and after the common ones.
    """
    from trainers.trainer.recording import reset_peak_memory

    started = time.perf_counter()
    reset_peak_memory()
    trainer, tokenizer = make_trainer()
    prepared = time.perf_counter()
    resumed = fit(trainer, job, on_progress)
    trained = time.perf_counter()
    write_outputs(trainer, tokenizer, job)
    args = trainer.args
    result = {
        **first,
        "steps": trainer.state.global_step,
        "examples": len(trainer.train_dataset),
        "dropped_examples": offered - len(trainer.train_dataset),
        "resumed_from_step": resumed,
        "reference_forwards": trainer.reference_forwards,
        "reference_in_loop": trainer.reference_in_loop,
        "prefix_sharing": trainer.prefix_sharing,
        "prefix_sharing_reason": trainer.sharing_reason,
        "precision": precision(job, args),
        "micro_batch": args.per_device_train_batch_size,
        "gradient_accumulation_steps": args.gradient_accumulation_steps,
        **last(trainer),
        "seconds": {"prepare": prepared - started, "train": trained - prepared},
    }
    if trainer.accelerator.is_main_process:
        write_json(job.run_dir / TRAIN_RESULT, result)
    trainer.accelerator.wait_for_everyone()
    del trainer
    gc.collect()
    return result
