"""Train one run: pairs in, a policy, log history and example rows out."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from typing import Any

from trainers.common.training_schema import TRAIN_RESULT
from trainers.formats.pairs import PreferencePair
from trainers.run.job import Progress, TrainJob
from trainers.run.loading import load_model
from trainers.run.memory import first_line, is_out_of_memory, next_split, release_memory
from trainers.run.save import write_json
from trainers.run.tracking import tracking


def to_dataset(pairs: list[PreferencePair]) -> Any:
    """TRL's conversational explicit-prompt format plus `example_index`."""
    from datasets import Dataset

    return Dataset.from_list(
        [
            {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected, "example_index": i}
            for i, pair in enumerate(pairs)
        ]
    )


def _dataset(pairs: list[PreferencePair], rule: Any, tokenizer: Any) -> Any:
    """`to_dataset` plus what the rule needs of each pair."""
    dataset = to_dataset(pairs)
    if rule.needs_pair_beta:
        lacking = next((pair for pair in pairs if pair.beta is None), None)
        if lacking is not None:
            raise ValueError(f"line {lacking.line} (id {lacking.id!r}) has no beta; this rule needs one in every row")
        dataset = dataset.add_column("pair_beta", [pair.beta for pair in pairs])
    if rule.ppl_tokens == "user":
        from trainers.formats.prompt_words import user_words

        dataset = dataset.add_column("prompt_words", [user_words(tokenizer, pair) for pair in pairs])
    return dataset


def _arguments(job: TrainJob, in_loop: bool, split: int) -> Any:
    """DPOConfig of a job; each micro-batch cut into `split` parts, with that many times the accumulation."""
    from trl import DPOConfig

    from trainers.run.fit import common_settings

    settings = {"precompute_ref_log_probs": not in_loop, **common_settings(job)}
    if in_loop or settings.get("sync_ref_model"):
        settings["precompute_ref_log_probs"] = False
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # the sampler would fill a short last batch with pairs that were trained already
        settings.setdefault("dataloader_drop_last", True)
    settings["per_device_train_batch_size"] = _micro_batch(job) // split
    settings["gradient_accumulation_steps"] = settings.get("gradient_accumulation_steps", 1) * split
    return DPOConfig(loss_type=[job.params.get("pref_loss", "sigmoid")], **settings)


def _micro_batch(job: TrainJob) -> int:
    from trl import DPOConfig

    return int(job.training.get("per_device_train_batch_size", DPOConfig.per_device_train_batch_size))


def train(job: TrainJob, pairs: list[PreferencePair], on_progress: Callable[[Progress], None]) -> dict[str, Any]:
    """Train `job` on `pairs`, resuming from its last checkpoint if there is one.

    Writes `log_history.json`, `example_metrics.parquet`, `policy/`, with LoRA `adapter/`, with a learned rule
    `beta_head.safetensors` and `beta_head.json`, and last of all `train_result.json`, which is also returned. Where memory
    runs out, the micro-batch is halved and accumulation doubled, so the global batch stays, and training resumes from the last
    checkpoint.

    Raises:
        trainers.trainer.recorded.DivergedError: the loss or a gradient became NaN or infinite.
        trainers.rules.controls.parent_run.ParentRunError: a control's parent has no rows, or other ones.
        MemoryError: memory runs out with one pair in a micro-batch.
    """
    split = 1
    while True:
        try:
            with tracking(job):
                return _train(job, pairs, on_progress, split)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or int(os.environ.get("WORLD_SIZE", "1")) > 1:
                raise  # with several processes the others are in the middle of a collective call
            message = first_line(error)
        smaller = next_split(_micro_batch(job), split)
        if smaller is None:
            raise MemoryError(
                f"out of memory with one pair in a micro-batch ({message}); shorten max_length, or use gradient_checkpointing, "
                "LoRA or a smaller model"
            )
        split = smaller
        release_memory()
        note = f"out of memory; going on with micro-batches 1/{split} as large and {split} times the accumulation"
        on_progress(Progress(0, 0, None, None, None, note))


def _build_rule(job: TrainJob, model: Any, pairs: list[PreferencePair]) -> Any:
    from trainers.rules import catalogue
    from trainers.rules.controls.parent_run import ParentRun, ParentRunError, ReplayedRule

    config = model.config.get_text_config()
    rule = catalogue.build(job.rule, job.params, config.hidden_size)
    rule.seed, rule.vocabulary_size = job.seed, config.vocab_size
    if isinstance(rule, ReplayedRule):
        if job.parent_dir is None:
            raise ParentRunError(f"rule {job.rule!r} repeats a parent run; the job names none")
        rule.load_parent(ParentRun.read(job.parent_dir, [pair.id for pair in pairs]))
    return rule


def _make_trainer(job: TrainJob, pairs: list[PreferencePair], split: int) -> tuple[Any, Any]:
    """The trainer, ready to run, and the tokenizer."""
    import torch
    import transformers
    import trl
    from peft import LoraConfig
    from transformers import AutoTokenizer, set_seed

    from trainers.trainer.dpo import DynamicBetaDPOTrainer
    from trainers.trainer.recording import ExampleRecorder
    from trainers.trainer.reference_store import ReferenceIdentity, ReferenceStore

    tokenizer = AutoTokenizer.from_pretrained(job.model_path, trust_remote_code=job.trust_remote_code)
    model = load_model(job)
    set_seed(job.seed)
    rule = _build_rule(job, model, pairs)
    args = _arguments(job, rule.perturbation is not None, split)
    identity = ReferenceIdentity(
        weights=job.weights_hash,
        precision=precision(job, args),
        attention=job.attn_implementation,
        ld_alpha=args.ld_alpha,
        forward="pair_rows" if job.prefix_sharing else "two_rows",
        ppl_tokens=rule.ppl_tokens,
        trl=trl.__version__,
        transformers=transformers.__version__,
        torch=torch.__version__,
    )
    frozen = load_model(job) if job.lora is None and not args.precompute_ref_log_probs else None
    set_seed(job.seed)  # adapters and data order start alike whatever random numbers the rule took
    trainer = DynamicBetaDPOTrainer(
        model=model,
        ref_model=frozen,
        args=args,
        processing_class=tokenizer,
        train_dataset=_dataset(pairs, rule, tokenizer),
        peft_config=LoraConfig(**{"task_type": "CAUSAL_LM", **job.lora}) if job.lora is not None else None,
        rule=rule,
        recorder=ExampleRecorder(job.run_dir, job.run_id, [pair.id for pair in pairs]),
        store=ReferenceStore(job.reference_root, identity),
        prefix_sharing=job.prefix_sharing,
    )
    return trainer, tokenizer


def precision(job: TrainJob, args: Any) -> str:
    """The weights' precision, quantised or not, and that of the arithmetic."""
    weights = job.dtype if job.quantization is None else f"{job.dtype}+{sorted(job.quantization.items())}"
    return f"{weights}/{'bf16' if args.bf16 else 'fp16' if args.fp16 else 'none'}"


def _train(
    job: TrainJob, pairs: list[PreferencePair], on_progress: Callable[[Progress], None], split: int
) -> dict[str, Any]:
    from trainers.run.fit import fit, write_outputs
    from trainers.trainer.recording import reset_peak_memory

    started = time.perf_counter()
    reset_peak_memory()
    trainer, tokenizer = _make_trainer(job, pairs, split)
    trainer.initialise_rule()
    prepared = time.perf_counter()
    resumed = fit(trainer, job, on_progress)
    trained = time.perf_counter()
    write_outputs(trainer, tokenizer, job)
    known = [score.prompt_nll for score in trainer.reference_scores if score.prompt_tokens > 0]
    args = trainer.args
    result = {
        "steps": trainer.state.global_step,
        "examples": len(trainer.train_dataset),
        "dropped_examples": len(pairs) - len(trainer.train_dataset),
        "resumed_from_step": resumed,
        "reference_forwards": trainer.reference_forwards,
        "reference_in_loop": trainer.reference_in_loop,
        "prefix_sharing": trainer.prefix_sharing,
        "prefix_sharing_reason": trainer.sharing_reason,
        "precision": precision(job, args),
        "micro_batch": args.per_device_train_batch_size,
        "gradient_accumulation_steps": args.gradient_accumulation_steps,
        "micro_batch_split_for_memory": split,
        "mean_reference_log_perplexity": sum(known) / len(known) if known else None,
        "parent_mean_beta": getattr(trainer.rule, "mean_beta", None),
        "seconds": {"prepare": prepared - started, "train": trained - prepared},
    }
    if trainer.accelerator.is_main_process:
        trainer.probe.write(job.run_dir, trainer.recorder.example_ids)
        write_json(job.run_dir / TRAIN_RESULT, result)
    trainer.accelerator.wait_for_everyone()
    del trainer
    gc.collect()
    return result
