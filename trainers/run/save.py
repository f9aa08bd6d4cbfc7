"""The files of a training run: policy, JSON records, checkpoints."""

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainers.common.files import Json, read_json, write_bytes, write_json
from trainers.common.training_schema import ADAPTER_DIR, BETA_HEAD, CHECKPOINTS, EXAMPLE_PARTS, MODEL_CARD, POLICY_DIR
from trainers.rules.base import BetaRule
from trainers.run.job import TrainJob
from trainers.run.start import load_model
from trainers.trainer.recorded import is_sharded


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written completely (trainer_state.json comes last but one, so check it parses)."""
    found: list[tuple[int, Path]] = []
    for path in folder.glob("checkpoint-*"):
        state = read_json(path / "trainer_state.json")
        if isinstance(state, dict) and "global_step" in state:
            found.append((int(state["global_step"]), path))
        else:
            shutil.rmtree(path, ignore_errors=True)
    return max(found)[1] if found else None


def clean_up(run_dir: Path) -> None:
    """Remove what only a resumed run needs; call it after the run's completion is on disk."""
    for name in (CHECKPOINTS, EXAMPLE_PARTS):
        shutil.rmtree(run_dir / name, ignore_errors=True)


def whole_state(trainer: Any) -> Json | None:
    """The policy's state gathered from all processes, or None where every process has it; call it on all of them."""
    return trainer.accelerator.get_state_dict(trainer.model_wrapped) if is_sharded(trainer) else None


def sort_adapter_config(folder: Path) -> None:
    """PEFT keeps names of modules in sets and writes them in the order of this process; here they are sorted."""
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for key in ("target_modules", "modules_to_save"):
        if isinstance(config.get(key), list):
            config[key] = sorted(config[key])
    path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def save_policy(trainer: Any, job: TrainJob, state: Json | None) -> None:
    """Write the policy as one plain checkpoint (adapters merged) in the precision it was trained in, by one rename.

    The rule's state is saved beside it, with its name and parameters. `state` is what `whole_state` returned. With LoRA,
    sharded or quantised weights cannot be merged in place, so the adapter is merged into the unquantised starting weights.
    An adapter kept alone (`TrainJob.save`) gets the tokenizer beside it.
    """
    run_dir, tokenizer = job.run_dir, trainer.processing_class
    staging, target, adapter = run_dir / f".{POLICY_DIR}.tmp", run_dir / POLICY_DIR, run_dir / ADAPTER_DIR
    shutil.rmtree(staging, ignore_errors=True)
    model = trainer.accelerator.unwrap_model(trainer.model)
    if trainer.rule.state_dict():
        save_rule(trainer.rule, trainer.rule.rule_name, trainer.rule.rule_params, run_dir)
    if job.lora is not None:
        shutil.rmtree(adapter, ignore_errors=True)
        model.save_pretrained(adapter, state_dict=state)
        sort_adapter_config(adapter)
        if job.save == "adapter":
            tokenizer.save_pretrained(adapter)
            (adapter / MODEL_CARD).unlink(missing_ok=True)  # PEFT's form to fill in
            shutil.rmtree(target, ignore_errors=True)
            return
        if state is not None or getattr(model.get_base_model(), "is_quantized", False):
            from peft import PeftModel

            base = load_model(dataclasses.replace(job, quantization=None))
            model, state = PeftModel.from_pretrained(base, adapter), None
        model = model.merge_and_unload()
    model.save_pretrained(staging, state_dict=state)
    tokenizer.save_pretrained(staging)
    shutil.rmtree(target, ignore_errors=True)
    staging.rename(target)
    if job.save == "merged":
        shutil.rmtree(adapter, ignore_errors=True)


#: Lies beside the head's weights: {"rule": its name, "params": its parameters}.
HEAD_CONFIG = Path(BETA_HEAD).with_suffix(".json").name


def save_rule(rule: BetaRule, name: str, params: Mapping[str, Any], directory: Path) -> None:
    """Write a rule's weights and buffers as `beta_head.safetensors`, and its name and parameters as JSON beside it."""
    from safetensors.torch import save

    write_json(directory / HEAD_CONFIG, {"rule": name, "params": dict(params)})
    state = save({key: value.detach().cpu().contiguous() for key, value in rule.state_dict().items()})
    write_bytes(directory / BETA_HEAD, state)
