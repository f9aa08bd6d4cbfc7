"""LLaMA-Factory: a training YAML (stage dpo, foodpo or kto) as a matrix file."""

from __future__ import annotations

import os
from pathlib import Path

from harness.config.source import Source
from harness.imports.arguments import precision, take_training
from harness.imports.draft import READ_FIRST, Keys, comparison, matrix_name, take_share
from trainers.common.errors import UserError
from trainers.common.files import Json

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
        "a matrix has executors of its own",
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
    "ref_model": "policy and reference start from the same weights here",
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
    stage = keys.text("stage", "sft")
    if stage not in _STAGES:
        raise UserError(
            f"{keys.where('stage')}: stage is {stage!r}; preference training is compared here: stage {', '.join(_STAGES)}"
        )
    kind = keys.text("finetuning_type", "lora")
    if kind not in ("lora", "full"):
        raise UserError(
            f"{keys.where('finetuning_type')}: finetuning_type is {kind!r}; lora and full can be taken over"
        )
    original, training = _original(keys, str(stage))
    lora = _lora(keys) if kind == "lora" else None
    pure = keys.flag("pure_bf16")
    if pure:
        training["bf16"] = True
    data = _data(keys, target, dataset_dir)
    length = int(keys.number("cutoff_len", 2048))
    checkpointing = not keys.flag("disable_gradient_checkpointing")
    workers = keys.take("preprocessing_num_workers")
    seed = int(keys.number("seed", 42))
    given = take_training(keys)
    # what LLaMA-Factory leaves to transformers' defaults, which are not TRL's
    defaults = {"learning_rate": 5.0e-5, "num_train_epochs": 3.0, "per_device_train_batch_size": 8, "bf16": False}
    training = {**defaults, "gradient_checkpointing": checkpointing, "max_length": length, **training, **given}
    if workers:
        training["dataset_num_proc"] = int(workers)
    model = _model(keys, training, lora is not None, pure)
    _template(keys)
    keys.leave_rest(LEFT)
    beta = original["pref_beta"]
    loss = {key: original[key] for key in ("pref_loss",) if key in original}
    if original["rule"] == "alpha_dpo":
        beta, loss = 0.1, {}
        keys.remark("pref_loss simpo is rule alpha_dpo with alpha 0; the methods beside it start from beta 0.1")
    matrix = {
        "name": matrix_name(source.path),
        "model": model,
        "data": data,
        "training": training,
        **({"lora": lora} if lora is not None else {}),
        "methods": comparison(original, beta, loss),
        "seeds": [seed, seed + 1, seed + 2],
    }
    hints = ["cutoff_len is max_length here: TRL cuts the end of prompt and answer, LLaMA-Factory shares the room out."]
    return matrix, keys.notes, hints


def _original(keys: Keys, stage: str) -> tuple[Json, Json]:
    beta = float(keys.number("pref_beta", 0.1))
    where, loss = keys.where("pref_loss"), keys.text("pref_loss", "sigmoid")
    scale, gamma = keys.number("pref_beta_scale"), keys.number("simpo_gamma", 0.5)
    smoothing = keys.number("dpo_label_smoothing", 0.0)
    weights = {name: keys.number(f"kto_{name}_weight", 1.0) for name in ("chosen", "rejected")}
    training: Json = {"label_smoothing": float(smoothing)} if smoothing else {}
    method: Json = {"name": "original", "rule": "fixed", "pref_beta": beta}
    if stage == "kto":
        training |= {"desirable_weight": weights["chosen"], "undesirable_weight": weights["rejected"]}
        return {**method, "objective": "kto", "training": training}, {}
    if scale is not None and stage != "foodpo":
        keys.note("pref_beta_scale", scale, "stage is dpo, which does not scale beta; the method foodpo beside it does")
    if stage == "foodpo":
        method |= {"rule": "foodpo", "pref_beta_scale": float(0.5 if scale is None else scale)}
    if loss in ("sigmoid", "hinge", "ipo"):
        return method | ({} if loss == "sigmoid" else {"pref_loss": loss}), training
    if loss == "orpo" and stage == "dpo":
        return {**method, "objective": "orpo"}, training
    if loss == "simpo" and stage == "dpo":
        own = {"rule": "alpha_dpo", "alpha": 0.0, "gamma_beta_ratio": float(gamma) / beta}
        return {**method, **own}, training
    raise UserError(
        f"{where}: pref_loss is {loss!r} with stage {stage!r}; sigmoid, hinge, ipo, and with stage dpo orpo and simpo can be "
        "taken over"
    )


def _lora(keys: Keys) -> Json:
    rank = int(keys.number("lora_rank", 8))
    targets = keys.names("lora_target") or ["all"]
    lora: Json = {
        "r": rank,
        "lora_alpha": int(keys.number("lora_alpha", 2 * rank)),
        "lora_dropout": float(keys.number("lora_dropout", 0.0)),
        "target_modules": "all-linear" if targets == ["all"] else targets,
    }
    saved = keys.names("additional_target")
    if saved:
        lora["modules_to_save"] = saved
    for key in ("use_rslora", "use_dora"):
        if keys.flag(key):
            lora[key] = True
    steps = int(keys.number("pissa_iter", 16))
    keys.leave("pissa_convert", "the adapter is saved as PEFT saves it")
    if keys.flag("pissa_init"):
        lora["init_lora_weights"] = "pissa" if steps < 0 else f"pissa_niter_{steps}"
    return lora


def _model(keys: Keys, training: Json, lora: bool, pure: bool) -> Json:
    name = keys.text("model_name_or_path")
    if name is None:
        raise UserError(f"{keys.source.path}: model_name_or_path is missing; add it")
    model: Json = {"name_or_path": name, "dtype": precision(training, lora, pure)}
    revision = keys.text("model_revision", "main")
    if revision != "main":
        model["revision"] = revision
    where, attention = keys.where("flash_attn"), keys.text("flash_attn", "auto")
    if attention not in _ATTENTION:
        raise UserError(f"{where}: flash_attn is {attention!r}; it must be one of {', '.join(_ATTENTION)}")
    model["attn_implementation"] = _ATTENTION[attention]
    if keys.flag("trust_remote_code"):
        model["trust_remote_code"] = True
    adapters = keys.names("adapter_name_or_path")
    if adapters:
        model["adapter"] = adapters[0]
        why = "merged into the starting weights, so that the reference has it too; LLaMA-Factory's reference is without it"
        keys.note("adapter_name_or_path", adapters[0], why)
        for other in adapters[1:]:
            keys.note("adapter_name_or_path", other, "one adapter can be the start; merge this one yourself first")
    quantization = _quantization(keys, training)
    return model | ({"quantization": quantization} if quantization else {})


def _quantization(keys: Keys, training: Json) -> Json | None:
    where, bits = keys.where("quantization_bit"), keys.take("quantization_bit")
    method, kind = keys.text("quantization_method", "bnb"), keys.text("quantization_type", "nf4")
    double = keys.flag("double_quantization", True)
    if bits is None:
        return None
    if method not in ("bnb", "bitsandbytes") or bits not in (4, 8):
        raise UserError(f"{where}: quantization_bit is {bits!r} by {method!r}; 4 and 8 bits by bnb can be taken over")
    if bits == 8:
        return {"load_in_8bit": True}
    compute = "bfloat16" if training.get("bf16") else "float16" if training.get("fp16") else "float32"
    return {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": kind,
        "bnb_4bit_use_double_quant": double,
        "bnb_4bit_compute_dtype": compute,
    }


def _template(keys: Keys) -> None:
    name = keys.take("template")
    if name is not None:
        why = "the model's own chat template is used: compare them, or give model.chat_template"
        keys.note("template", name, why)


def _data(keys: Keys, target: Path, given: Path | None) -> Json:
    where, names = keys.where("dataset"), keys.names("dataset")
    if not names:
        raise UserError(f"{where}: dataset is missing; name the data sets of dataset_info.json")
    limit = keys.number("max_samples")
    written = keys.text("dataset_dir", "data")
    folder = str(written)
    sources = [_source(name, folder, keys, target, given) for name in names]
    data: Json
    if len(sources) == 1 and limit is None:
        data = {"train": sources[0]}
    else:
        data = {"train": [{"source": one} | ({"limit": int(limit)} if limit else {}) for one in sources]}
    held = keys.names("eval_dataset")
    if held:
        data["heldout"] = _source(held[0], folder, keys, target, given)
        for other in held[1:]:
            keys.note("eval_dataset", other, "one held-out source can be named; join the files")
    share = keys.number("val_size")
    if share:
        take_share(keys, "val_size", share, data)
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
