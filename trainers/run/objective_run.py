"""Train one run with an objective other than DPO: pairs in, the same files out as `trainers.run.train.train` writes."""

from __future__ import annotations

import dataclasses
import difflib
import gc
import time
from collections.abc import Callable
from typing import Any

from trainers.common.training_schema import TRAIN_RESULT
from trainers.formats.pairs import PreferencePair
from trainers.run.fit import common_settings, fit, write_outputs
from trainers.run.job import Progress, TrainJob
from trainers.run.loading import load_model
from trainers.run.memory import first_line, is_out_of_memory
from trainers.run.objectives import Objective, ObjectiveError, check_training, find, validate
from trainers.run.save import write_json
from trainers.run.tracking import tracking
from trainers.run.train import precision, to_dataset


def train_objective(
    job: TrainJob, objective: str, pairs: list[PreferencePair], on_progress: Callable[[Progress], None]
) -> dict[str, Any]:
    """Train `job` with objective kto or orpo, resuming from its last checkpoint if there is one.

    `job.params` are the rule's, with the objective's `pref_loss`; `job.training` are fields of the objective's TRL
    configuration. KTO gets two rows a pair (see `trainers.formats.unpaired`), ORPO the pairs. Writes `log_history.json`,
    `example_metrics.parquet`, `policy/`, with LoRA `adapter/`, and last of all `train_result.json`, which is also returned.

    A micro-batch is never cut where memory runs out: KTO's KL term and ORPO's likelihood are averages over it, so the loss
    would be another one.

    Raises:
        trainers.run.objectives.ObjectiveError: settings that do not go together, or too few pairs.
        trainers.trainer.recorded.DivergedError: the loss or a gradient became NaN or infinite.
        MemoryError: memory runs out.
    """
    kind = find(objective)
    if kind.rules is None:
        raise ObjectiveError(f"objective is {objective!r}; trainers.run.train.train trains it")
    job = dataclasses.replace(job, params=validate(objective, job.rule, job.params))
    check_training(objective, job.params["pref_loss"], job.training)
    _check_fields(kind, job.training)
    if objective == "kto" and len(pairs) < 2:
        raise ObjectiveError("the data has 1 pair; KTO compares answers to different prompts: give at least 2")
    try:
        with tracking(job):
            return _train(job, objective, pairs, on_progress)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryError(
            f"out of memory ({first_line(error)}); {objective}'s loss depends on the micro-batch, so it is not cut by "
            "itself: lower per_device_train_batch_size or max_length, or use gradient_checkpointing, LoRA or a smaller model"
        ) from error


def _check_fields(kind: Objective, training: dict[str, Any]) -> None:
    known = [field.name for field in dataclasses.fields(kind.load_config_class()) if field.init]
    for key, value in training.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "remove it"
            raise ObjectiveError(f"training.{key} is {value!r}, but {kind.config_class} has no such field; {hint}")


def _arguments(job: TrainJob, kind: Objective) -> Any:
    settings = common_settings(job)
    if kind.name == "kto":
        settings["loss_type"] = job.params["pref_loss"]
        settings.setdefault("precompute_ref_log_probs", not settings.get("sync_ref_model", False))
    return kind.load_config_class()(**settings)


def _make_trainer(job: TrainJob, kind: Objective, pairs: list[PreferencePair]) -> tuple[Any, Any]:
    """The trainer, ready to run, and the tokenizer."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer, set_seed

    from trainers.formats.unpaired import row_ids, unpaired_rows
    from trainers.rules import catalogue
    from trainers.trainer.recording import ExampleRecorder

    tokenizer = AutoTokenizer.from_pretrained(job.model_path, trust_remote_code=job.trust_remote_code)
    model = load_model(job)
    rule_params = {key: value for key, value in job.params.items() if key != "pref_loss"}
    rule = catalogue.build(job.rule, rule_params, model.config.get_text_config().hidden_size)
    rule.pref_loss, rule.seed = job.params["pref_loss"], job.seed
    args = _arguments(job, kind)
    common: dict[str, Any] = {
        "model": model,
        "args": args,
        "processing_class": tokenizer,
        "peft_config": LoraConfig(**{"task_type": "CAUSAL_LM", **job.lora}) if job.lora is not None else None,
        "rule": rule,
    }
    set_seed(job.seed)  # adapters and data order start alike whatever random numbers came before
    if kind.name == "orpo":
        from trainers.trainer.orpo import DynamicBetaORPOTrainer

        recorder = ExampleRecorder(job.run_dir, job.run_id, [pair.id for pair in pairs])
        return DynamicBetaORPOTrainer(train_dataset=to_dataset(pairs), recorder=recorder, **common), tokenizer
    from trainers.trainer.kto import DynamicBetaKTOTrainer

    frozen = load_model(job) if job.lora is None and not args.precompute_ref_log_probs else None
    rows = Dataset.from_list(unpaired_rows(pairs, job.seed))
    recorder = ExampleRecorder(job.run_dir, job.run_id, row_ids(pairs))
    return DynamicBetaKTOTrainer(ref_model=frozen, train_dataset=rows, recorder=recorder, **common), tokenizer


def _train(
    job: TrainJob, objective: str, pairs: list[PreferencePair], on_progress: Callable[[Progress], None]
) -> dict[str, Any]:
    from trainers.trainer.recording import reset_peak_memory

    started = time.perf_counter()
    reset_peak_memory()
    trainer, tokenizer = _make_trainer(job, find(objective), pairs)
    prepared = time.perf_counter()
    resumed = fit(trainer, job, on_progress)
    trained = time.perf_counter()
    write_outputs(trainer, tokenizer, job)
    args = trainer.args
    offered = len(pairs) * (2 if objective == "kto" else 1)
    result = {
        "objective": objective,
        "pref_loss": job.params["pref_loss"],
        "steps": trainer.state.global_step,
        "examples": len(trainer.train_dataset),
        "dropped_examples": offered - len(trainer.train_dataset),
        "resumed_from_step": resumed,
        "reference_forwards": getattr(trainer, "reference_forwards", 0),
        "reference_in_loop": getattr(trainer, "reference_in_loop", False),
        "prefix_sharing": False,
        "prefix_sharing_reason": f"objective {objective} runs TRL's own rows",
        "precision": precision(job, args),
        "micro_batch": args.per_device_train_batch_size,
        "gradient_accumulation_steps": args.gradient_accumulation_steps,
        "seconds": {"prepare": prepared - started, "train": trained - prepared},
    }
    if trainer.accelerator.is_main_process:
        write_json(job.run_dir / TRAIN_RESULT, result)
    del trainer
    gc.collect()
    return result
