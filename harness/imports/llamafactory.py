"""LLaMA-Factory: a training YAML (stage dpo, foodpo or kto) as a matrix file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from harness.config import Source
from harness.imports.arguments import half_of, precision, take_training
from harness.imports.draft import READ_FIRST, Keys, assemble, comparison, starting_model, take_share
from trainers.common import Json, UserError

_STAGES = ("dpo", "foodpo", "kto")
_ATTENTION = {
    "auto": "sdpa",
    "disabled": "eager",
    "off": "eager",
    "sdpa": "sdpa",
    "fa2": "flash_attention_2",
    "fa3": "flash_attention_3",
}
_OPTIMISER = "an optimiser or method of LLaMA-Factory's own, not available here: the original run differs"
_LOADING = "model surgery of LLaMA-Factory's own, not available here: save the changed model and name it"
_MEDIA = "only text is trained here"
_CACHE = "data are read and kept by content; there is nothing to set"
_INFERENCE = "generation is set under evaluation.engine"
_TOKENS = "tokens are read from the environment: HF_TOKEN"

#: Keys of LLaMA-Factory that have no part in a matrix file, with the reason.
LEFT = {
    **dict.fromkeys(
        ("overwrite_cache", "preprocessing_batch_size", "tokenized_path", "cache_dir", "data_shared_file_system"),
        _CACHE,
    ),
    **dict.fromkeys(
        ("use_galore", "use_apollo", "use_badam", "use_adam_mini", "use_muon", "loraplus_lr_ratio"), _OPTIMISER
    ),
    **dict.fromkeys(("use_unsloth", "use_unsloth_gc", "shift_attn", "mixture_of_depths", "use_llama_pro"), _OPTIMISER),
    **dict.fromkeys(
        ("enable_liger_kernel", "use_reentrant_gc", "upcast_layernorm", "upcast_lmhead_output"), _OPTIMISER
    ),
    **dict.fromkeys(
        ("resize_vocab", "add_tokens", "add_special_tokens", "new_special_tokens", "rope_scaling"), _LOADING
    ),
    **dict.fromkeys(("train_from_scratch", "split_special_tokens", "low_cpu_mem_usage", "moe_aux_loss_coef"), _LOADING),
    **dict.fromkeys(("image_max_pixels", "image_min_pixels", "video_max_pixels", "media_dir"), _MEDIA),
    **dict.fromkeys(("freeze_vision_tower", "freeze_multi_modal_projector", "train_mm_proj_only"), _MEDIA),
    **dict.fromkeys(
        ("infer_backend", "infer_dtype", "use_kv_cache", "max_new_tokens", "temperature", "top_p"), _INFERENCE
    ),
    **dict.fromkeys(("hf_hub_token", "ms_hub_token", "om_hub_token"), _TOKENS),
    **dict.fromkeys(
        ("ray_run_name", "ray_num_workers", "resources_per_worker", "ray_init_kwargs"),
        "a matrix names its executor under 'executor'",
    ),
    **dict.fromkeys(
        ("use_swanlab", "swanlab_project", "swanlab_run_name", "swanlab_mode"), "write training.report_to: swanlab"
    ),
    "use_fast_tokenizer": "the tokenizer is loaded as transformers does",
    "print_param_status": "it only prints",
    "include_effective_tokens_per_second": "tokens per second are always recorded",
    "streaming": READ_FIRST,
    "buffer_size": READ_FIRST,
    "mix_strategy": "sources are mixed by weight: data.train is a list of {source, weight, limit}",
    "interleave_probs": "sources are mixed by weight: data.train is a list of {source, weight, limit}",
    "max_eval_samples": "set limit of a benchmark",
    "packing": "pairs are not packed in preference training",
    "neat_packing": "pairs are not packed in preference training",
    "train_on_prompt": "the preference loss is over answers alone",
    "mask_history": "the preference loss is over the last answers alone",
    "ignore_pad_token_for_loss": "padding is never trained on",
    "tool_format": "tools are not shown to the model",
    "default_system": "put it into the rows, or into a chat template (model.chat_template)",
    "enable_thinking": "put it into a chat template (model.chat_template)",
    "pref_ftx": "no SFT term is added to the preference loss here: with pref_ftx above 0 the original run differs",
    "pref_bco_weight": "there is no BCO term here: with a weight above 0 the original run differs",
    "ref_model_adapters": "policy and reference start from the same weights here",
    "ref_model_quantization_bit": "policy and reference start from the same weights here",
    "create_new_adapter": "a named adapter is merged into the starting weights and a new one is trained",
    "disable_shuffling": "rows are shuffled by the seed",
    "early_stopping_steps": "every run trains to its last step",
    "quantization_device_map": "the model is loaded on one device",
}


def convert(source: Source, target: Path, dataset_dir: Path | None = None) -> tuple[Json, list[str], list[str]]:
    """The matrix, notes on what was not imported, and hints for the head of the file.

    Args:
        target: where the matrix file will lie; data sources are written relative to it.
        dataset_dir: the folder of dataset_info.json, where the configuration's own is not to be found from here.

    Raises:
        UserError: a stage or a kind of fine-tuning that has no counterpart, or a value of the wrong type.
    """
    keys = Keys(source)
    stage = keys.choice("stage", {name: name for name in _STAGES}, "sft", "preference training is compared here: stage")
    kinds = {"lora": True, "full": False}
    with_lora = keys.choice("finetuning_type", kinds, "lora", "these can be taken over:")
    original, own = _original(keys, stage)
    lora = _lora(keys) if with_lora else None
    pure = keys.read("pure_bf16", bool, False)
    data = _data(keys, target, dataset_dir)
    seed = keys.read("seed", int, 42)
    # what LLaMA-Factory leaves to transformers' defaults, which are not TRL's
    training = {
        **{"learning_rate": 5.0e-5, "num_train_epochs": 3.0, "per_device_train_batch_size": 8, "bf16": False},
        "gradient_checkpointing": not keys.read("disable_gradient_checkpointing", bool),
        "max_length": keys.read("cutoff_len", int, 2048),
        **own,
        **({"bf16": True} if pure else {}),
    }
    workers = keys.mapped({"dataset_num_proc": ("preprocessing_num_workers", int, None)})
    training |= {**take_training(keys), **workers}
    model = _model(keys, training, with_lora, pure)
    keys.leave("template", "the model's own chat template is used: compare them, or give model.chat_template")
    keys.leave_rest(LEFT)
    beta = original["pref_beta"]
    if original["rule"] == "alpha_dpo":
        beta = 0.1
        keys.remark("pref_loss simpo is rule alpha_dpo with alpha 0; the methods beside it start from beta 0.1")
    hints = ["cutoff_len is max_length here: TRL cuts the end of prompt and answer, LLaMA-Factory shares the room out."]
    methods = comparison(original, beta)
    return assemble(keys, seed, methods, model=model, data=data, training=training, lora=lora), keys.notes, hints


def _original(keys: Keys, stage: str) -> tuple[Json, Json]:
    """The method, and settings of every method's training."""
    method: Json = {"name": "original", "rule": "fixed", "pref_beta": keys.read("pref_beta", float, 0.1)}
    loss, scale = keys.read("pref_loss", str, "sigmoid"), keys.read("pref_beta_scale", float)
    gamma, smoothing = keys.read("simpo_gamma", float, 0.5), keys.read("dpo_label_smoothing", float)
    weights = {
        "desirable_weight": keys.read("kto_chosen_weight", float, 1.0),
        "undesirable_weight": keys.read("kto_rejected_weight", float, 1.0),
    }
    training = {"label_smoothing": smoothing} if smoothing and loss == "sigmoid" and stage != "kto" else {}
    if smoothing and not training:
        keys.note("dpo_label_smoothing", smoothing, "the loss of this run does not read it")
    if stage == "kto":
        return {**method, "objective": "kto", "training": training | weights}, {}
    if stage == "foodpo":
        method |= {"rule": "foodpo", "pref_beta_scale": 0.5 if scale is None else scale}
    elif scale is not None:
        keys.note("pref_beta_scale", scale, "stage is dpo, which does not scale beta; the method foodpo beside it does")
    losses: dict[str, Json] = {
        "sigmoid": {"pref_loss": "cdpo"} if training else {},
        "hinge": {"pref_loss": "hinge"},
        "ipo": {"pref_loss": "ipo"},
    }
    if stage == "dpo":
        simpo = {"rule": "alpha_dpo", "alpha": 0.0, "gamma_beta_ratio": gamma / method["pref_beta"]}
        losses |= {"orpo": {"objective": "orpo"}, "simpo": simpo}
    if loss not in losses:
        raise UserError(
            f"{keys.where('pref_loss')}: pref_loss is {loss!r} with stage {stage!r}; sigmoid, hinge, ipo, and with stage dpo "
            "orpo and simpo can be taken over"
        )
    return method | losses[loss], training


def _lora(keys: Keys) -> Json:
    rank = keys.read("lora_rank", int, 8)
    for key in ("pissa_convert", "pissa_iter"):
        keys.leave(key, "the adapter is saved as PEFT saves it")
    fields: dict[str, tuple[str, type, Any]] = {
        "lora_alpha": ("lora_alpha", int, 2 * rank),
        "lora_dropout": ("lora_dropout", float, 0.0),
        "target_modules": ("lora_target", list, ["all"]),
        "modules_to_save": ("additional_target", list, None),
        "use_rslora": ("use_rslora", bool, None),
        "use_dora": ("use_dora", bool, None),
    }
    lora = {"r": rank, **keys.mapped(fields)}
    if lora["target_modules"] == ["all"]:
        lora["target_modules"] = "all-linear"
    if keys.read("pissa_init", bool):
        keys.note("pissa_init", True, "without such an adapter the model is not the start, which is the reference here")
    return lora


def _model(keys: Keys, training: Json, lora: bool, pure: bool) -> Json:
    attention = keys.choice("flash_attn", _ATTENTION, "auto")
    model = starting_model(keys, precision(training, lora, pure), attention, {})
    for i, adapter in enumerate(keys.read("adapter_name_or_path", list, [])):
        why = "one adapter can be the start; merge this one yourself first"
        if i == 0:
            model["adapter"] = adapter
            why = "merged into the starting weights, so that the reference has it too; LLaMA-Factory's reference is without it"
        keys.note("adapter_name_or_path", adapter, why)
    quantization = _quantization(keys, training)
    return model | ({"quantization": quantization} if quantization else {})


def _quantization(keys: Keys, training: Json) -> Json | None:
    bits, method = keys.take("quantization_bit"), keys.read("quantization_method", str, "bnb")
    kind, double = keys.read("quantization_type", str, "nf4"), keys.read("double_quantization", bool, True)
    if bits is None:
        return None
    if method not in ("bnb", "bitsandbytes") or bits not in (4, 8):
        raise UserError(
            f"{keys.where('quantization_bit')}: quantization_bit is {bits!r} by {method!r}; 4 and 8 bits by bnb can be taken over"
        )
    if bits == 8:
        return {"load_in_8bit": True}
    own = {"bnb_4bit_quant_type": kind, "bnb_4bit_use_double_quant": double}
    return {"load_in_4bit": True, **own, "bnb_4bit_compute_dtype": half_of(training)}


def _data(keys: Keys, target: Path, given: Path | None) -> Json:
    names, limit = keys.read("dataset", list), keys.read("max_samples", int)
    if not names:
        raise UserError(f"{keys.where('dataset')}: dataset is missing; name the data sets of dataset_info.json")
    folder = keys.read("dataset_dir", str, "data")
    sources = [_source(name, folder, keys, target, given) for name in names]
    listed = [{"source": one} | ({"limit": limit} if limit else {}) for one in sources]
    data: Json = {"train": sources[0] if len(sources) == 1 and limit is None else listed}
    held, *others = keys.read("eval_dataset", list) or [None]
    if held is not None:
        data["heldout"] = _source(held, folder, keys, target, given)
    for other in others:
        keys.note("eval_dataset", other, "one held-out source can be named; join the files")
    take_share(keys, "val_size", data)
    # LLaMA-Factory skips such rows with a warning
    return {**data, "without_preference": "drop"}


def _source(name: str, folder: str, keys: Keys, target: Path, given: Path | None) -> str:
    if folder.upper() == "ONLINE" and given is None:
        return f"hub:{name}"
    if folder.startswith("REMOTE:") and given is None:
        raise UserError(f"{keys.where('dataset_dir')}: dataset_dir is {folder!r}; download it and give --dataset-dir")
    base = keys.source.path.resolve().parent
    # LLaMA-Factory reads it relative to where it is started, mostly the folder that holds examples/ and data/
    places = [given] if given is not None else [Path(folder), *(parent / folder for parent in (base, *base.parents))]
    found = next((place.resolve() for place in places if (place / "dataset_info.json").is_file()), None)
    if found is None:
        if given is not None:
            raise UserError(f"--dataset-dir {given}: no dataset_info.json there; give the folder that holds it")
        keys.remark(
            f"dataset_dir {folder!r} with {name!r} is not found from here: give --dataset-dir, or change data.train"
        )
        return f"{folder}/dataset_info.json#{name}"
    return f"{Path(os.path.relpath(found, target.resolve().parent)).as_posix()}/dataset_info.json#{name}"
