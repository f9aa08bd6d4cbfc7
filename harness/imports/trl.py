"""TRL: the YAML of `trl dpo --config FILE` (script, training and model arguments in one mapping) as a matrix file.

Recipes of alignment-handbook and SimPO have the same keys with other data (trl_data.py), or are for another trainer
(trl_method.py).
"""

from pathlib import Path
from typing import Any

from harness.config import Source
from harness.imports.arguments import half_of, take_training
from harness.imports.draft import READ_FIRST, Keys, assemble, by_name, starting_model
from harness.imports.trl_data import take_data
from harness.imports.trl_method import take_method
from trainers.common import Json, UserError

#: Keys of TRL that have no part in a matrix file, with the reason.
LEFT = by_name(
    {
        READ_FIRST: "dataset_streaming streaming",
        "it belongs to a way of running several processes that is not used here": "ignore_bias_buffers",
        "write gradient_checkpointing_kwargs: {use_reentrant: ...}": "gradient_checkpointing_use_reentrant",
        "TRL has no separate limits any more: max_length is the limit of prompt and answer together": """
            max_prompt_length max_completion_length max_target_length""",
        "policy and reference start from the same weights here": "force_use_ref_model ref_model_init_kwargs",
        "policies answer under evaluation.benchmarks": "generate_during_eval",
        "tools are not shown to the model": "tools tool_format",
        "padding is the tokenizer's": "padding_value",
        "it is -100, as everywhere": "label_pad_token_id",
        "it is CAUSAL_LM": "lora_task_type",
        "set environment variables where the matrix is started": "env",
        "several processes are set up by accelerate: see harness/configs/accelerate": """
            accelerate_config config_file num_processes num_machines machine_rank main_process_port""",
        "rows that share a prompt are scored as one here (prefix_sharing)": "logits_to_keep use_logits_to_keep",
        "weights are stored in bitsandbytes' default dtype": "bnb_4bit_quant_storage",
        "TRL cuts the end of prompt and answer, or with truncation_mode keep_end the beginning": "truncation_side",
        "no system turn is added here: put it into the rows or a chat template": "auto_insert_empty_system_msg",
        "one revision is loaded: model_revision": "base_model_revision model_code_revision",
        "policies are uploaded by push_to_hub: {prefix: owner/name} and run-matrix --push": "hub_model_revision",
        "set limit of a benchmark": "max_eval_samples",
    }
)

#: Keys that change what is trained or on what, where they are on: without them `original` would be another run.
CHANGES = by_name(
    {
        "TRL averages the term over the tokens of a batch: write loss_type: [sigmoid, sft] with loss_weights": """
            rpo_alpha""",
        "no SFT term is added to the preference loss here": "sft_weight",
        "a DPO loss without a reference is rule alpha_dpo here, with the length-normalised loss of SimPO": """
            reference_free""",
        "policy and reference start from the same weights here": "model_adapter_name ref_adapter_name",
        "the reference of a matrix is scored once and kept": "base_model_attribute_name",
        "causal language models are trained here": "is_encoder_decoder",
        "write data.max_train_pairs into the matrix instead": "max_train_samples",
    }
)


def convert(source: Source, target: Path, method: str | None = None) -> tuple[Json, list[str], list[str]]:
    """The matrix, notes on what was not imported, and hints for the head of the file.

    Args:
        target: where the matrix file will lie; data sources are written relative to it.
        method: which trainer the file is for: dpo, simpo, orpo or kto; by default the file says so, or it is dpo.

    Raises:
        UserError: no model or data, a loss or setting that has no counterpart, a file for another trainer or tool, or a value
            of the wrong type.
    """
    keys = Keys(source)
    older, name = "preprocessing_num_workers", "dataset_num_proc"  # in older recipes of alignment-handbook
    if name in keys:
        keys.leave({older: f"{name} holds"})
    keys.rename(older, name)
    original, lora, data = take_method(keys, method), _lora(keys), take_data(keys, target)
    keys.refuse(CHANGES)
    if original.get("objective") == "orpo" or original["rule"] == "alpha_dpo":
        keys.leave({"ref_model_name_or_path": "the loss has no reference, so it is not read"})
    loading, training = _loading(keys), take_training(keys)
    if "fp16" not in training:
        training.setdefault("bf16", True)  # TRL's default, which the harness leaves to the machine
    if "dataset_mixer" in source.value and "optim" not in training:
        keys.remark("optim is not written: alignment-handbook up to 0.2 trained DPO with rmsprop then, TRL with AdamW")
    model = _model(keys, loading, training, lora is not None)
    matrix = assemble(keys, original, model=model, data=data, training=training, lora=lora)
    keys.leave_rest(LEFT)
    return matrix, keys.notes, ["Settings in neither file take TRL's defaults."]


#: Field of peft.LoraConfig -> TRL's key, its type, and TRL's default.
_LORA: dict[str, tuple[str, type, Any]] = {
    "r": ("lora_r", int, 16),
    "lora_alpha": ("lora_alpha", int, 32),
    "lora_dropout": ("lora_dropout", float, 0.05),
    "target_modules": ("lora_target_modules", list, None),
    "target_parameters": ("lora_target_parameters", list, None),
    "modules_to_save": ("lora_modules_to_save", list, None),
    "use_rslora": ("use_rslora", bool, None),
    "use_dora": ("use_dora", bool, None),
}


def _lora(keys: Keys) -> Json | None:
    if not keys.read("use_peft", bool):
        keys.leave({key: "use_peft is not true, so TRL trains all weights" for key, _, _ in _LORA.values()})
        return None
    lora = keys.mapped(_LORA)
    return lora | ({"target_modules": "all-linear"} if lora.get("target_modules") == ["all-linear"] else {})


def _loading(keys: Keys) -> Json:
    """`model_init_kwargs` of the training arguments, which say how the model is loaded."""
    value = keys.take("model_init_kwargs", {})
    if not isinstance(value, dict):
        raise UserError(f"{keys.where('model_init_kwargs')}: model_init_kwargs is {value!r}; it must be a mapping")
    known = ("dtype", "torch_dtype", "attn_implementation", "revision", "trust_remote_code")
    for key in [key for key in value if key not in known]:
        keys.note("model_init_kwargs", f"{key}: {value[key]!r}", "not a setting of a matrix file")
    return {key: value[key] for key in known if key in value}


def _model(keys: Keys, loading: Json, training: Json, lora: bool) -> Json:
    older, newer = keys.take("torch_dtype"), keys.take("dtype")
    dtype = newer or older or loading.get("dtype", loading.get("torch_dtype")) or "float32"
    if dtype == "auto":
        dtype = half_of(training) if lora else "float32"
        keys.note("dtype", "auto", f"that of the weights is not known from here; written as {dtype}")
    if dtype not in ("float32", "bfloat16", "float16"):
        raise UserError(f"{keys.where('dtype')}: dtype is {dtype!r}; it must be auto, float32, bfloat16 or float16")
    older_flag = "flash_attention_2" if keys.read("use_flash_attention_2", bool) else None
    attention = keys.read("attn_implementation", str, loading.get("attn_implementation", older_flag))
    model = starting_model(keys, dtype, attention, loading)
    template = keys.mapped({"chat_template": ("chat_template", str, None)})
    bits = keys.mapped({key: (key, bool, None) for key in ("load_in_4bit", "load_in_8bit")})
    kind, nested = keys.read("bnb_4bit_quant_type", str, "nf4"), keys.read("use_bnb_nested_quant", bool, False)
    if "load_in_4bit" in bits:
        bits |= {"bnb_4bit_quant_type": kind, "bnb_4bit_use_double_quant": nested, "bnb_4bit_compute_dtype": dtype}
    return {**model, **template, **({"quantization": bits} if bits else {})}
