"""The job of one training run, and the progress it reports."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pydantic

from trainers.common.files import Json


@pydantic.dataclasses.dataclass(frozen=True, config=pydantic.ConfigDict(protected_namespaces=()))
class TrainJob:
    """Everything one training run needs; also read from JSON, where paths are texts and steps a list.

    Attributes:
        training: fields of trl.DPOConfig the user set. lora: fields of peft.LoraConfig, or None for all weights.
        model_path: a checkpoint directory; weights_hash: what identifies its weights.
        reference_path, reference_hash: the same of the reference, or None where it is the starting policy.
        reference_root: where reference scores are kept (shared by all runs of a matrix).
        prefix_sharing: score prompt + chosen + rejected as one row where the model allows it.
        parent_dir: the finished run whose betas a control repeats.
        quantization: arguments of transformers.BitsAndBytesConfig, or None for weights as they are.
        group: what trackers put the run under: the matrix's name.
        snapshots: keep the policy after these steps, or (True) wherever the trainer saves.
        save: what is kept of a LoRA policy: merged (`policy/`), adapter (`adapter/`) or both.
    """

    run_id: str
    run_dir: Path
    rule: str
    params: Json
    seed: int
    model_path: Path
    weights_hash: str
    dtype: str
    attn_implementation: str
    trust_remote_code: bool
    reference_root: Path
    training: Json
    lora: Json | None
    prefix_sharing: bool = True
    parent_dir: Path | None = None
    snapshots: bool | tuple[int, ...] = False
    quantization: Json | None = None
    group: str | None = None
    save: Literal["merged", "adapter", "both"] = "both"
    reference_path: Path | None = None
    reference_hash: str | None = None


@dataclass(frozen=True)
class Progress:
    """One logged step: its loss, mean beta and the estimated seconds left; `note` is a message to show instead."""

    step: int
    total_steps: int
    loss: float | None
    dynamic_beta: float | None
    eta_seconds: float | None
    note: str | None = None
