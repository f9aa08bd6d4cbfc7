"""Quantised loading with the real bitsandbytes, which runs on CPUs too; skipped where it is not installed."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.trainers.helpers import make_job, make_pairs
from trainers.run.job import TrainJob
from trainers.run.start import load_model
from trainers.run.train import train

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"),
]
LORA = {"r": 4, "target_modules": "all-linear"}
FOUR = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "float32"}
EIGHT = {"load_in_8bit": True}


def job_of(model: Path, out: Path, bits: dict[str, Any], **changes: Any) -> TrainJob:
    return make_job(model, out, "foodpo", **{"lora": LORA, "quantization": bits, **changes})


@pytest.mark.parametrize("bits", [FOUR, EIGHT], ids=["4bit", "8bit"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_an_adapter_is_trained_over_quantised_weights(
    tmp_path: Path, bits: dict[str, Any], checkpointing: bool
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from trainers.tiny import build_tiny_model

    # as wide as a block of 4-bit weights: with AVX-512 bitsandbytes repacks them, and fails on narrower layers
    tiny_model = build_tiny_model(tmp_path / "model", hidden_size=64)
    job = job_of(tiny_model, tmp_path, bits, training={"gradient_checkpointing": checkpointing})
    loaded = load_model(job)
    kinds = {type(module).__name__ for module in loaded.modules()}
    assert loaded.is_quantized and ({"Linear4bit", "Linear8bitLt"} & kinds)
    result = train(job, make_pairs(16), lambda progress: None)
    assert result["steps"] == 4 and result["reference_forwards"] > 0 and "load_in" in result["precision"]
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    expected = PeftModel.from_pretrained(base, tmp_path / "adapter").merge_and_unload().state_dict()
    policy = load_file(tmp_path / "policy" / "model.safetensors")
    start = load_file(tiny_model / "model.safetensors")
    assert all(torch.equal(policy[key], expected[key]) for key in policy)
    assert any(not torch.equal(policy[key], start[key]) for key in policy), "something was learned"


@pytest.mark.parametrize("objective", ["dpo", "kto"])
def test_a_quantised_run_resumes_to_the_same_adapter(tiny_model: Path, tmp_path: Path, objective: str) -> None:
    """TRL trains it in bfloat16, and PEFT loads it in float32."""

    class Stopped(Exception):
        pass

    def stop(progress: Any) -> None:
        if progress.step == 3:
            raise Stopped

    def run(job: TrainJob, on_progress: Any) -> dict[str, Any]:
        if objective == "dpo":
            return train(job, make_pairs(16), on_progress)
        return train(job, make_pairs(16), on_progress, objective)

    settings = {"training": {"save_steps": 2}}
    run(job_of(tiny_model, tmp_path / "whole", EIGHT, **settings), lambda progress: None)
    job = job_of(tiny_model, tmp_path / "stopped", EIGHT, **settings)
    with pytest.raises(Stopped):
        run(job, stop)
    assert run(job, lambda progress: None)["resumed_from_step"] == 2
    first, second = (
        load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in ("whole", "stopped")
    )
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("objective", ["kto", "orpo"])
def test_other_objectives(tiny_model: Path, tmp_path: Path, objective: str) -> None:
    job = job_of(tiny_model, tmp_path, EIGHT)
    result = train(job, make_pairs(16), lambda progress: None, objective)
    assert result["steps"] == 4 and (tmp_path / "policy" / "model.safetensors").is_file()


def test_policies_on_the_way_are_kept(tiny_model: Path, tmp_path: Path) -> None:
    from evals.engine.merge import merge

    train(job_of(tiny_model, tmp_path, EIGHT, snapshots=(2,)), make_pairs(16), lambda progress: None)
    merge(tiny_model, tmp_path / "snapshots" / "step-2" / "adapter", tmp_path / "merged", "float32")
    assert (tmp_path / "merged" / "model.safetensors").is_file()
