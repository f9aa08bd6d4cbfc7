"""Train one run with any objective: pairs in, the files of `trainers.run.train.train` out."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

from trainers.common.files import Json
from trainers.common.words import nearest
from trainers.formats.pairs import PreferencePair
from trainers.run.fit import common_settings, frozen_reference, load_start, run_to_end
from trainers.run.job import Progress, TrainJob
from trainers.run.memory import first_line, is_out_of_memory
from trainers.run.objectives import Objective, ObjectiveError, check_training, find, validate
from trainers.run.tracking import tracking
from trainers.run.train import to_dataset, train


def train_objective(
    job: TrainJob, objective: str, pairs: list[PreferencePair], on_progress: Callable[[Progress], None]
) -> Json:
    """Train `job` with an objective (dpo, kto or orpo), resuming from its last checkpoint if there is one.

    `job.params` are the rule's, with the objective's `pref_loss`; `job.training` are fields of the objective's TRL
    configuration. KTO gets two rows a pair (see `trainers.formats.unpaired`), ORPO the pairs. Writes `log_history.json`,
    `example_metrics.parquet`, `policy/`, with LoRA `adapter/`, and last of all `train_result.json`, which is also returned.

    With kto and orpo a micro-batch is never split when memory runs out: KTO's KL term and ORPO's likelihood are averages over
    it, so the loss would change.

    Raises:
        trainers.run.objectives.ObjectiveError: settings that do not go together, or too few pairs.
        trainers.trainer.recorded.DivergedError: the loss or a gradient became NaN or infinite.
        MemoryError: memory runs out.
    """
    kind = find(objective)
    if kind.rules is None:
        return train(job, pairs, on_progress)
    job = dataclasses.replace(job, params=validate(objective, job.rule, job.params))
    check_training(objective, job.params["pref_loss"], job.training)
    _check_fields(kind, job.training)
    if objective == "kto" and len(pairs) < 2:
        raise ObjectiveError("the data has 1 pair; KTO compares answers to different prompts: give at least 2")
    try:
        with tracking(job):
            make = functools.partial(_make_trainer, job, kind, pairs)
            offered = len(pairs) * (2 if objective == "kto" else 1)
            named = {"objective": objective, "pref_loss": job.params["pref_loss"]}
            return run_to_end(job, make, on_progress, offered, named)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryError(
            f"out of memory ({first_line(error)}); {objective}'s loss depends on the micro-batch, which is therefore not "
            "split: lower per_device_train_batch_size or max_length, or use gradient_checkpointing, LoRA or a smaller model"
        ) from error


def _check_fields(kind: Objective, training: Mapping[str, Any]) -> None:
    known = [field.name for field in dataclasses.fields(kind.load_config_class()) if field.init]
    for key, value in training.items():
        if key not in known:
            hint = nearest(key, known, "remove it")
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
    from transformers import set_seed

    from trainers.formats.unpaired import row_ids, unpaired_rows
    from trainers.trainer.kto import DynamicBetaKTOTrainer
    from trainers.trainer.orpo import DynamicBetaORPOTrainer
    from trainers.trainer.recording import ExampleRecorder

    start = load_start(job, pairs)
    args = _arguments(job, kind)
    common = {**start.arguments(job), "args": args}
    if kind.name == "orpo":
        set_seed(job.seed)  # adapters and data order start alike whatever random numbers came before
        recorder = ExampleRecorder(job.run_dir, job.run_id, [pair.id for pair in pairs])
        return DynamicBetaORPOTrainer(train_dataset=to_dataset(pairs), recorder=recorder, **common), start.tokenizer
    frozen = frozen_reference(job, args)
    rows = Dataset.from_list(unpaired_rows(pairs, job.seed))
    recorder = ExampleRecorder(job.run_dir, job.run_id, row_ids(pairs))
    set_seed(job.seed)
    return DynamicBetaKTOTrainer(ref_model=frozen, train_dataset=rows, recorder=recorder, **common), start.tokenizer
