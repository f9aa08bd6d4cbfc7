"""Train one run: pairs in, a policy, log history and example rows out."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

from trainers.common.files import Json
from trainers.formats.pairs import PreferencePair
from trainers.run.fit import common_settings, frozen_reference, load_start, precision, run_to_end
from trainers.run.job import Progress, TrainJob
from trainers.run.memory import first_line, is_out_of_memory, next_split, release_memory
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


def train(job: TrainJob, pairs: list[PreferencePair], on_progress: Callable[[Progress], None]) -> Json:
    """Train `job` on `pairs`, resuming from its last checkpoint if there is one.

    Writes `log_history.json`, `example_metrics.parquet`, `policy/`, with LoRA `adapter/`, with a learned rule
    `beta_head.safetensors` and `beta_head.json`, and last of all `train_result.json`, which is also returned. Where memory
    runs out, the micro-batch is halved and accumulation doubled, so the global batch stays, and training resumes from the
    last checkpoint.

    Raises:
        trainers.trainer.recorded.DivergedError: the loss or a gradient became NaN or infinite.
        trainers.rules.controls.parent_run.ParentRunError: a control's parent has no rows, or other ones.
        MemoryError: memory runs out with one pair in a micro-batch.
    """
    split = 1
    while True:
        try:
            with tracking(job):
                make = functools.partial(_make_trainer, job, pairs, split)
                return run_to_end(job, make, on_progress, len(pairs), last=functools.partial(_learned, split))
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
        note = f"out of memory: retrying with 1/{split} of the micro-batch and {split} times the gradient accumulation"
        on_progress(Progress(0, 0, None, None, None, note))


def _make_trainer(job: TrainJob, pairs: list[PreferencePair], split: int) -> tuple[Any, Any]:
    """The trainer, ready to run, and the tokenizer."""
    import torch
    import transformers
    import trl
    from transformers import set_seed

    from trainers.trainer.dpo import DynamicBetaDPOTrainer
    from trainers.trainer.recording import ExampleRecorder
    from trainers.trainer.reference_store import ReferenceIdentity, ReferenceStore

    start = load_start(job, pairs)
    rule = start.rule
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
    frozen = frozen_reference(job, args)
    set_seed(job.seed)  # adapters and data order start alike whatever random numbers the rule took
    trainer = DynamicBetaDPOTrainer(
        **start.arguments(job),
        ref_model=frozen,
        args=args,
        train_dataset=_dataset(pairs, rule, start.tokenizer),
        recorder=ExampleRecorder(job.run_dir, job.run_id, [pair.id for pair in pairs]),
        store=ReferenceStore(job.reference_root, identity),
        prefix_sharing=job.prefix_sharing,
    )
    trainer.initialise_rule()
    return trainer, start.tokenizer


def _learned(split: int, trainer: Any) -> Json:
    known = [score.prompt_nll for score in trainer.reference_scores if score.prompt_tokens > 0]
    return {
        "micro_batch_split_for_memory": split,
        "mean_reference_log_perplexity": sum(known) / len(known) if known else None,
        "parent_mean_beta": getattr(trainer.rule, "mean_beta", None),
    }
