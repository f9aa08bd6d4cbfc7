"""Train one run with any objective: pairs in, a policy, log history and example rows out."""

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
import trl
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer, TrainerState, set_seed

from trainers.common.files import Json, write_json
from trainers.common.training_schema import LOG_HISTORY, TRAIN_RESULT
from trainers.formats.pairs import PreferencePair, row_ids, unpaired_rows
from trainers.formats.prompt_words import user_words
from trainers.rules.base import BetaRule
from trainers.rules.catalogue import depends_on_batch
from trainers.run.callbacks import ProgressCallback, RotateCallback, SnapshotCallback
from trainers.run.job import Progress, TrainJob
from trainers.run.memory import first_line, is_out_of_memory, next_split, release_memory
from trainers.run.objectives import Objective, ObjectiveError, check_lora, check_training, find, validate
from trainers.run.save import last_checkpoint, save_policy, whole_state
from trainers.run.start import load_model, load_rule, micro_batch, precision, training_arguments
from trainers.run.tracking import shelter, tracking
from trainers.trainer.dpo import DynamicBetaDPOTrainer
from trainers.trainer.kto import DynamicBetaKTOTrainer
from trainers.trainer.orpo import DynamicBetaORPOTrainer
from trainers.trainer.recording import ExampleRecorder, reset_peak_memory
from trainers.trainer.reference_store import ReferenceIdentity, ReferenceStore


def train(
    job: TrainJob, pairs: list[PreferencePair], on_progress: Callable[[Progress], None], objective: str = "dpo"
) -> Json:
    """Train `job` on `pairs`, resuming from its last checkpoint if there is one.

    Writes `log_history.json`, `example_metrics.parquet`, `policy/`, with LoRA `adapter/`, with a learned rule
    `beta_head.safetensors` and `beta_head.json`, and last of all `train_result.json`, which is also returned. Where memory
    runs out under DPO, the micro-batch is halved and accumulation doubled, so the global batch stays, and training resumes
    from the last checkpoint.

    Args:
        job: `params` are the rule's, with the objective's `pref_loss`; `training` are fields of the objective's TRL config.
        objective: dpo, kto (which gets two rows a pair, see `trainers.formats.pairs`) or orpo.

    Raises:
        trainers.run.objectives.ObjectiveError: settings that do not go together, or too few pairs.
        trainers.trainer.recorded.DivergedError: the loss or a gradient became NaN or infinite.
        trainers.rules.controls.ParentRunError: a control's parent has no rows, or other ones.
        MemoryError: memory runs out and the micro-batch cannot be split.
    """
    kind = find(objective)
    job = dataclasses.replace(job, params=validate(objective, job.rule, job.params))
    check_training(objective, job.params.get("pref_loss", ""), job.training)
    check_lora(job.lora)
    if objective == "kto" and len(pairs) < 2:
        raise ObjectiveError("the data has 1 pair; KTO compares answers to different prompts: give at least 2")
    split = 1
    while True:
        try:
            with tracking(job):
                return _attempt(job, kind, pairs, on_progress, split)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            split = _smaller(job, kind, split, error)
        release_memory()
        note = f"out of memory: retrying with 1/{split} of the micro-batch and {split} times the gradient accumulation"
        on_progress(Progress(0, 0, None, None, None, note))


def _smaller(job: TrainJob, kind: Objective, split: int, error: BaseException) -> int:
    """The next number of parts to cut the micro-batch into; raises where it cannot be cut."""
    message = first_line(error)
    if not kind.splits_batches or depends_on_batch(job.rule, job.params):
        what = f"rule {job.rule!r}" if kind.splits_batches else f"{kind.name}'s loss"
        raise MemoryError(
            f"out of memory ({message}); {what} depends on the micro-batch, which is therefore not split: lower "
            "per_device_train_batch_size or max_length, or use gradient_checkpointing, LoRA or a smaller model"
        ) from error
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise error  # the other processes are in the middle of a collective call
    smaller = next_split(micro_batch(job, kind), split)
    if smaller is None:
        raise MemoryError(
            f"out of memory with one pair in a micro-batch ({message}); shorten max_length, or use gradient_checkpointing, "
            "LoRA or a smaller model"
        ) from error
    return smaller


def _attempt(
    job: TrainJob, kind: Objective, pairs: list[PreferencePair], on_progress: Callable[[Progress], None], split: int
) -> Json:
    """Make the trainer, train, write all files; returns what `train_result.json` holds (times in seconds)."""
    started = time.perf_counter()
    reset_peak_memory()
    trainer = _make_trainer(job, kind, pairs, split)
    prepared = time.perf_counter()
    resumed = _fit(trainer, job, on_progress)
    trained = time.perf_counter()
    _write_outputs(trainer, job)
    args, examples = trainer.args, len(trainer.train_dataset)
    result: Json = {} if kind.name == "dpo" else {"objective": kind.name, "pref_loss": job.params["pref_loss"]}
    result |= {
        "steps": trainer.state.global_step,
        "examples": examples,
        "dropped_examples": len(pairs) * (2 if kind.name == "kto" else 1) - examples,
        "resumed_from_step": resumed,
        "reference_forwards": trainer.reference_forwards,
        "reference_in_loop": trainer.reference_in_loop,
        "prefix_sharing": trainer.prefix_sharing,
        "prefix_sharing_reason": trainer.sharing_reason,
        "reference_store_reason": trainer.store_reason,
        "precision": precision(job, args),
        "micro_batch": args.per_device_train_batch_size,
        "gradient_accumulation_steps": args.gradient_accumulation_steps,
    }
    if kind.name == "dpo":
        known = [score.prompt_nll for score in trainer.reference_scores if score.prompt_tokens > 0]
        result |= {
            "micro_batch_split_for_memory": split,
            "mean_reference_log_perplexity": sum(known) / len(known) if known else None,
            "float_noise": trainer.noise,
            "parent_mean_beta": getattr(trainer.rule, "mean_beta", None),
        }
    result["seconds"] = {"prepare": prepared - started, "train": trained - prepared}
    if trainer.accelerator.is_main_process:
        write_json(job.run_dir / TRAIN_RESULT, result)
    trainer.accelerator.wait_for_everyone()
    del trainer
    release_memory()
    return result


def _make_trainer(job: TrainJob, kind: Objective, pairs: list[PreferencePair], split: int) -> Any:
    """The trainer, ready to run."""
    tokenizer = AutoTokenizer.from_pretrained(job.model_path, trust_remote_code=job.trust_remote_code)
    model = load_model(job)
    set_seed(job.seed)
    rule = load_rule(job, model.config.get_text_config(), pairs)
    args = training_arguments(job, kind, rule.perturbation is not None, split)
    ids = row_ids(pairs) if kind.name == "kto" else [pair.id for pair in pairs]
    common: Json = {
        "model": model,
        "processing_class": tokenizer,
        "peft_config": LoraConfig(**{"task_type": "CAUSAL_LM", **job.lora}) if job.lora is not None else None,
        "args": args,
        "rule": rule,
        "recorder": ExampleRecorder(job.run_dir, job.run_id, ids),
    }
    if kind.has_reference:
        # with LoRA the reference is the policy without its adapter, with all weights it is the policy before the first step
        apart = job.reference_path is not None or (job.lora is None and not args.precompute_ref_log_probs)
        common["ref_model"] = load_model(job, reference=True) if apart else None
    if kind.name == "kto":
        data = Dataset.from_list(unpaired_rows(pairs, job.seed))
    else:
        data = _dataset(pairs, rule, tokenizer)
    set_seed(job.seed)  # adapters and data order start alike whatever random numbers the rule took
    if kind.name == "kto":
        return DynamicBetaKTOTrainer(train_dataset=data, **common)
    if kind.name == "orpo":
        return DynamicBetaORPOTrainer(train_dataset=data, **common)
    identity = ReferenceIdentity(
        weights=job.reference_hash or job.weights_hash,
        precision=precision(job, args),
        attention=job.attn_implementation,
        ld_alpha=args.ld_alpha,
        forward="pair_rows" if job.prefix_sharing else "two_rows",
        ppl_tokens=rule.ppl_tokens,
        trl=trl.__version__,
        transformers=transformers.__version__,
        torch=torch.__version__,
    )
    store = ReferenceStore(job.reference_root, identity)
    trainer = DynamicBetaDPOTrainer(train_dataset=data, store=store, prefix_sharing=job.prefix_sharing, **common)
    trainer.initialise_rule()
    if not trainer.reference_in_loop:
        trainer.ref_model = None  # its scores are known
    return trainer


def to_dataset(pairs: list[PreferencePair]) -> Dataset:
    """TRL's conversational explicit-prompt format plus `example_index`."""
    return Dataset.from_list(
        [
            {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected, "example_index": i}
            for i, pair in enumerate(pairs)
        ]
    )


def _dataset(pairs: list[PreferencePair], rule: BetaRule, tokenizer: Any) -> Dataset:
    """`to_dataset` plus what the rule needs of each pair."""
    dataset = to_dataset(pairs)
    if rule.needs_pair_beta:
        lacking = next((pair for pair in pairs if pair.beta is None), None)
        if lacking is not None:
            raise ValueError(f"{lacking.place} (id {lacking.id!r}) has no beta; this rule needs one in every row")
        dataset = dataset.add_column("pair_beta", [pair.beta for pair in pairs])
    if rule.columns:
        values = [[_column(pair, name, rule) for name in rule.columns] for pair in pairs]
        dataset = dataset.add_column("rule_columns", values)
    if rule.ppl_tokens == "user":
        dataset = dataset.add_column("prompt_words", [user_words(tokenizer, pair) for pair in pairs])
    return dataset


def _column(pair: PreferencePair, name: str, rule: BetaRule) -> float:
    if name not in pair.columns:
        raise ValueError(
            f"{pair.place} (id {pair.id!r}) has no number {name!r}; rule {rule.rule_name!r} needs one in every row"
        )
    return pair.columns[name]


def _fit(trainer: Any, job: TrainJob, on_progress: Callable[[Progress], None]) -> int:
    """Train to the last step; returns the step training was resumed from, 0 for a fresh start."""
    trainer.add_callback(ProgressCallback(on_progress))
    shelter(trainer, job)
    if job.snapshots is not False:
        trainer.add_callback(SnapshotCallback(trainer, job))
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


def _write_outputs(trainer: Any, job: TrainJob) -> None:
    """Write `example_metrics.parquet`, `log_history.json`, `policy/` and with LoRA `adapter/` (see `TrainJob.save`); on the
    main process only."""
    state = whole_state(trainer)
    if not trainer.accelerator.is_main_process:
        return
    trainer.recorder.flush(trainer.state.global_step)
    trainer.recorder.finish()
    trainer.probe.write(job.run_dir, trainer.recorder.example_ids)
    write_json(job.run_dir / LOG_HISTORY, {job.run_id: trainer.state.log_history}, allow_nan=True)
    save_policy(trainer, job, state)
