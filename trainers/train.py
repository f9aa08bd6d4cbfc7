"""Train one run: pairs in, a policy, log history and example rows out."""

from __future__ import annotations

import gc
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainers.data import PreferencePair
from trainers.schema import ADAPTER_DIR, BETA_HEAD, CHECKPOINTS, EXAMPLE_PARTS, LOG_HISTORY, POLICY_DIR, TRAIN_RESULT


@dataclass(frozen=True)
class TrainJob:
    """Everything one training run needs.

    Attributes:
        training: fields of trl.DPOConfig the user set. lora: fields of peft.LoraConfig, or None for all weights.
        model_path: a checkpoint directory; weights_hash: what identifies its weights.
        reference_root: where reference scores are kept (shared by all runs of a matrix).
        prefix_sharing: score prompt + chosen + rejected as one row where the model allows it.
    """

    run_id: str
    run_dir: Path
    rule: str
    params: dict[str, Any]
    seed: int
    model_path: Path
    weights_hash: str
    dtype: str
    attn_implementation: str
    trust_remote_code: bool
    reference_root: Path
    training: dict[str, Any]
    lora: dict[str, Any] | None
    prefix_sharing: bool = True
    chat: bool = True
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """One logged step, for whoever watches."""

    step: int
    total_steps: int
    loss: float | None
    dynamic_beta: float | None
    eta_seconds: float | None


def to_dataset(pairs: list[PreferencePair]) -> Any:
    """TRL's conversational explicit-prompt format plus `example_index`."""
    from datasets import Dataset

    return Dataset.from_list(
        [
            {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected, "example_index": i}
            for i, pair in enumerate(pairs)
        ]
    )


def _arguments(job: TrainJob) -> Any:
    import torch
    from trl import DPOConfig

    defaults: dict[str, Any] = {
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": 50,
        "save_total_limit": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "use_cpu": not torch.cuda.is_available(),  # without it, bf16 is refused on CPUs that have it
    }
    if "bf16" not in job.training and "fp16" not in job.training:
        defaults["bf16"] = supports_bf16()
    settings = {**defaults, **job.training}
    settings.pop("loss_type", None)
    return DPOConfig(
        output_dir=str(job.run_dir / CHECKPOINTS),
        run_name=job.run_id,
        seed=job.seed,
        data_seed=job.seed,
        beta=float(job.params["pref_beta"]),
        loss_type=[job.params.get("pref_loss", "sigmoid")],
        precompute_ref_log_probs=True,
        **settings,
    )


def supports_bf16() -> bool:
    """Whether bfloat16 is worth using: a GPU that has it, or a CPU with AVX512-BF16 or AMX.

    On other CPUs it is emulated, and a backward pass was measured 30 times slower than in float32.
    """
    import torch

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written completely (trainer_state.json comes last but one, so check it parses)."""
    found: list[tuple[int, Path]] = []
    for path in folder.glob("checkpoint-*"):
        try:
            state = json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
            found.append((int(state["global_step"]), path))
        except (OSError, ValueError, KeyError):
            shutil.rmtree(path, ignore_errors=True)
    return max(found)[1] if found else None


def train(job: TrainJob, pairs: list[PreferencePair], on_progress: Callable[[Progress], None]) -> dict[str, Any]:
    """Train `job` on `pairs`, resuming from its last checkpoint if there is one.

    Writes `log_history.json`, `example_metrics.parquet`, `policy/`, with LoRA `adapter/`, with a learned rule
    `beta_head.safetensors`, and last of all `train_result.json`, which is also returned.

    Raises:
        trainers.trainer.DivergedError: the loss became NaN or infinite.
    """
    import torch
    import transformers
    import trl
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerState, set_seed

    from trainers.callbacks import ProgressCallback
    from trainers.recording import ExampleRecorder
    from trainers.reference import ReferenceIdentity, ReferenceStore
    from trainers.rules import registry
    from trainers.trainer import DynamicBetaDPOTrainer

    started = time.perf_counter()
    args = _arguments(job)
    tokenizer = AutoTokenizer.from_pretrained(job.model_path, trust_remote_code=job.trust_remote_code)
    model = AutoModelForCausalLM.from_pretrained(
        job.model_path,
        dtype=getattr(torch, job.dtype),
        attn_implementation=job.attn_implementation,
        trust_remote_code=job.trust_remote_code,
    )
    set_seed(job.seed)
    rule = registry.build(job.rule, job.params, model.config.get_text_config().hidden_size)
    set_seed(job.seed)  # adapters and data order start alike whatever random numbers the rule took
    precision = f"{job.dtype}/{'bf16' if args.bf16 else 'fp16' if args.fp16 else 'none'}"
    identity = ReferenceIdentity(
        weights=job.weights_hash,
        precision=precision,
        ld_alpha=args.ld_alpha,
        forward="pair_rows" if job.prefix_sharing else "two_rows",
        trl=trl.__version__,
        transformers=transformers.__version__,
        torch=torch.__version__,
    )
    recorder = ExampleRecorder(job.run_dir, job.run_id, [pair.id for pair in pairs])
    trainer = DynamicBetaDPOTrainer(
        model=model,
        args=args,
        processing_class=tokenizer,
        train_dataset=to_dataset(pairs),
        peft_config=LoraConfig(**{"task_type": "CAUSAL_LM", **job.lora}) if job.lora is not None else None,
        rule=rule,
        recorder=recorder,
        store=ReferenceStore(job.reference_root, identity),
        prefix_sharing=job.prefix_sharing,
    )
    # prompts of one token have no perplexity (stored as 0) and fall back to pref_beta
    log_ppl = [score.prompt_nll for score in trainer.reference_scores if score.prompt_nll > 0] or [1.0]
    rule.initialise(sum(log_ppl) / len(log_ppl))
    prepared = time.perf_counter()
    trainer.add_callback(ProgressCallback(on_progress))
    checkpoint = _last_checkpoint(job.run_dir / CHECKPOINTS)
    recorder.start(int(checkpoint.name.split("-")[1]) if checkpoint else 0)
    state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json")) if checkpoint else None
    if state is not None and state.global_step >= state.max_steps:
        # killed after the last step: Trainer would train one step more where the last epoch is not a whole one
        trainer._load_from_checkpoint(str(checkpoint))
        trainer.state = state
    else:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trained = time.perf_counter()
    recorder.flush(trainer.state.global_step)
    recorder.finish()
    _write_json(job.run_dir / LOG_HISTORY, {job.run_id: trainer.state.log_history})
    _save_policy(trainer, tokenizer, job)
    result = {
        "steps": trainer.state.global_step,
        "examples": len(trainer.train_dataset),
        "dropped_examples": len(pairs) - len(trainer.train_dataset),
        "resumed_from_step": int(checkpoint.name.split("-")[1]) if checkpoint else 0,
        "reference_forwards": trainer.reference_forwards,
        "prefix_sharing": trainer.prefix_sharing,
        "prefix_sharing_reason": trainer.sharing_reason,
        "precision": precision,
        "mean_reference_log_perplexity": sum(log_ppl) / len(log_ppl),
        "seconds": {"prepare": prepared - started, "train": trained - prepared},
    }
    _write_json(job.run_dir / TRAIN_RESULT, result)
    del trainer, model
    gc.collect()
    return result


def clean_up(run_dir: Path) -> None:
    """Remove what only a resumed run needs: call it once the run's completion is on disk."""
    for name in (CHECKPOINTS, EXAMPLE_PARTS):
        shutil.rmtree(run_dir / name, ignore_errors=True)


def _save_policy(trainer: Any, tokenizer: Any, job: TrainJob) -> None:
    """Write the policy as one plain checkpoint (adapters merged) in the precision it was trained in, by one rename."""
    from safetensors.torch import save_file

    staging, target = job.run_dir / f".{POLICY_DIR}.tmp", job.run_dir / POLICY_DIR
    shutil.rmtree(staging, ignore_errors=True)
    model = trainer.accelerator.unwrap_model(trainer.model)
    if job.lora is not None:
        model.save_pretrained(job.run_dir / ADAPTER_DIR)
        model = model.merge_and_unload()
    model.save_pretrained(staging)
    tokenizer.save_pretrained(staging)
    state = {key: value.detach().cpu().contiguous() for key, value in trainer.rule.state_dict().items()}
    if state:
        save_file(state, job.run_dir / BETA_HEAD)
    shutil.rmtree(target, ignore_errors=True)
    staging.rename(target)


def _write_json(path: Path, value: Any) -> None:
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as handle:
        json.dump(value, handle, indent=1)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(temporary, path)
