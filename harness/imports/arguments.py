"""Training arguments that LLaMA-Factory and TRL both take from transformers, as the matrix file's `training`."""

import contextlib

from harness.config.fields import OWNED, check_fields, known_fields
from harness.imports.draft import Keys, by_name
from trainers.common import Json

_BEST = "the policy after the last step is the one that is compared, and not the best on held-out data"

#: Arguments of transformers that have no part in a matrix file, with the reason.
LEFT = by_name(
    {
        "policies are evaluated after training, by the benchmarks under evaluation": """
            do_eval do_predict eval_strategy evaluation_strategy eval_steps eval_delay eval_on_start
            per_device_eval_batch_size eval_accumulation_steps batch_eval_metrics include_for_metrics prediction_loss_only
            bf16_full_eval fp16_full_eval predict_with_generate compute_accuracy""",
        "the last policy is the one that is compared": "metric_for_best_model greater_is_better",
        "several processes are set up by accelerate: see harness/configs/accelerate": """
            deepspeed fsdp fsdp_config accelerator_config parallelism_config local_rank""",
        "policies are uploaded by push_to_hub: {prefix: owner/name} and run-matrix --push": """
            push_to_hub hub_model_id hub_token hub_strategy hub_private_repo hub_always_push hub_revision
            push_to_hub_model_id push_to_hub_organization push_to_hub_token""",
        "a restarted matrix resumes automatically, which needs complete checkpoints": """
            save_only_model ignore_data_skip save_safetensors""",
        "training is what a matrix does": "do_train",
        "an output directory belongs to one matrix and is never overwritten": "overwrite_output_dir",
        "each tracker has its own folder in the output directory": "logging_dir",
        "the report draws curves of every run": "plot_loss",
        "the trainer needs its own columns": "label_names",
    }
)


def take_training(keys: Keys) -> Json:
    """Every key that is a field of DPOConfig, checked; what has no part here is noted.

    Raises:
        trainers.common.errors.UserError: a value of the wrong type, with its line.
    """
    training: Json = {}
    if "warmup_ratio" in keys.open:
        ratio = keys.read("warmup_ratio", float, 0.0)
        if ratio and not keys.source.value.get("warmup_steps"):
            keys.leave({"warmup_steps": "0: warmup_ratio holds"})
            training["warmup_steps"] = ratio  # below 1 it is a share of all steps
    fields = known_fields()["dpo"]
    keys.refuse({"load_best_model_at_end": _BEST})
    keys.leave(LEFT)
    keys.leave({key: why for key, why in OWNED.items() if key in fields})
    for key in [key for key in keys.open if key in fields and key != "trust_remote_code"]:  # that is the model's here
        value = keys.take(key)
        if value is not None:  # null is what an argument is that nobody sets
            if isinstance(value, str) and "float" in fields[key] and "str" not in fields[key]:
                with contextlib.suppress(ValueError):
                    value = float(value)
            check_fields("training", {key: value}, keys.source, ())
            training[key] = value
    return training


def half_of(training: Json) -> str:
    """The dtype of the computation."""
    return "bfloat16" if training.get("bf16") else "float16" if training.get("fp16") else "float32"
