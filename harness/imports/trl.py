"""TRL: the YAML of `trl dpo --config FILE` (script, training and model arguments in one mapping) as a matrix file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from harness.config import Source
from harness.imports.arguments import precision, take_training
from harness.imports.draft import READ_FIRST, Keys, assemble, comparison, starting_model, take_share
from trainers.common import Json, UserError
from trainers.rules.catalogue import PREF_LOSSES, SMOOTHED

_LENGTHS = "TRL has no separate limits any more: max_length is the limit of prompt and answer together"
_REFERENCE = "policy and reference start from the same weights here"
_PROCESSES = "several processes are set up by accelerate: see harness/configs/accelerate"
_LAYOUT = "rows that share a prompt are scored as one here (prefix_sharing)"

#: Keys of TRL that have no part in a matrix file, with the reason.
LEFT = {
    "dataset_streaming": READ_FIRST,
    "streaming": READ_FIRST,
    "ignore_bias_buffers": "it belongs to a way of running several processes that is not used here",
    "gradient_checkpointing_use_reentrant": "write gradient_checkpointing_kwargs: {use_reentrant: ...}",
    "max_prompt_length": _LENGTHS,
    "max_completion_length": _LENGTHS,
    "max_target_length": _LENGTHS,
    "rpo_alpha": "no SFT term is added to the preference loss here: with it the original run differs",
    "reference_free": "a DPO loss without a reference is rule alpha_dpo here",
    "force_use_ref_model": _REFERENCE,
    "ref_model_init_kwargs": _REFERENCE,
    "model_adapter_name": _REFERENCE,
    "ref_adapter_name": _REFERENCE,
    "generate_during_eval": "policies answer under evaluation.benchmarks",
    "tools": "tools are not shown to the model",
    "padding_value": "padding is the tokenizer's",
    "label_pad_token_id": "it is -100, as everywhere",
    "base_model_attribute_name": "the reference of a matrix is scored once and kept",
    "is_encoder_decoder": "causal language models are trained here",
    "lora_task_type": "it is CAUSAL_LM",
    "env": "set environment variables where the matrix is started",
    "accelerate_config": _PROCESSES,
    "config_file": _PROCESSES,
    "num_processes": _PROCESSES,
    "num_machines": _PROCESSES,
    "machine_rank": _PROCESSES,
    "main_process_port": _PROCESSES,
    "logits_to_keep": _LAYOUT,
    "use_logits_to_keep": _LAYOUT,
    "tool_format": "tools are not shown to the model",
    "bnb_4bit_quant_storage": "weights are stored in bitsandbytes' default dtype",
}


def convert(source: Source, target: Path) -> tuple[Json, list[str], list[str]]:
    """The matrix, notes on what was not imported, and hints for the head of the file.

    Args:
        target: where the matrix file will lie; data sources are written relative to it.

    Raises:
        UserError: no model or data, a loss that has no counterpart, or a value of the wrong type.
    """
    keys = Keys(source)
    original, lora, data = _original(keys), _lora(keys), _data(keys, target)
    seed, loading = keys.read("seed", int, 42), _loading(keys)
    training = take_training(keys)
    if training.get("label_smoothing") and original.get("pref_loss", "sigmoid") not in SMOOTHED:
        keys.note("label_smoothing", training.pop("label_smoothing"), "TRL's loss of this run does not read it")
    if "fp16" not in training:
        training.setdefault("bf16", True)  # TRL's default, which the harness leaves to the machine
    model = _model(keys, loading, training, lora is not None)
    keys.leave_rest(LEFT)
    matrix = assemble(
        keys, seed, comparison(original, original["pref_beta"]), model=model, data=data, training=training, lora=lora
    )
    return matrix, keys.notes, ["Settings in neither file take TRL's defaults."]


def _original(keys: Keys) -> Json:
    beta, (loss, *others) = keys.read("beta", float, 0.1), keys.read("loss_type", list) or ["sigmoid"]
    keys.leave("loss_weights", "one loss is trained here")
    if loss not in PREF_LOSSES:
        raise UserError(
            f"{keys.where('loss_type')}: loss_type is {loss!r}; these can be taken over: {', '.join(PREF_LOSSES)}"
        )
    for other in others:
        keys.note("loss_type", other, "one loss is trained here, the first: the original run differs")
    own = {} if loss == "sigmoid" else {"pref_loss": loss}
    return {"name": "original", "rule": "fixed", "pref_beta": beta, **own}


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
        for key, _, _ in _LORA.values():
            keys.leave(key, "use_peft is not true, so TRL trains all weights")
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
        dtype = precision(training, lora)
        keys.note("dtype", "auto", f"that of the weights is not known from here; written as {dtype}")
    if dtype not in ("float32", "bfloat16", "float16"):
        raise UserError(f"{keys.where('dtype')}: dtype is {dtype!r}; it must be auto, float32, bfloat16 or float16")
    attention = keys.read("attn_implementation", str, loading.get("attn_implementation"))
    model = starting_model(keys, dtype, attention, loading)
    bits = keys.mapped({key: (key, bool, None) for key in ("load_in_4bit", "load_in_8bit")})
    kind, nested = keys.read("bnb_4bit_quant_type", str, "nf4"), keys.read("use_bnb_nested_quant", bool, False)
    if "load_in_4bit" in bits:
        bits |= {"bnb_4bit_quant_type": kind, "bnb_4bit_use_double_quant": nested, "bnb_4bit_compute_dtype": dtype}
    return {**model, "quantization": bits} if bits else model


def _data(keys: Keys, target: Path) -> Json:
    name, config = keys.read("dataset_name", str), keys.read("dataset_config", str)
    train, test = keys.read("dataset_train_split", str, "train"), keys.read("dataset_test_split", str, "test")
    mixture = keys.take("datasets")
    data: Json = {}
    if mixture is not None:
        if name is not None:
            keys.note("dataset_name", name, "datasets holds, as in TRL")
        if not isinstance(mixture, list) or not all(isinstance(one, dict) and "path" in one for one in mixture):
            raise UserError(f"{keys.where('datasets')}: datasets must be a list of mappings, each with a path")
        data["train"] = [{"source": source} for one in mixture for source in _parts(one, keys, target)]
    elif name is not None:
        data["train"] = _place(name, config, train, keys, target)
        if keys.source.value.get("dataset_test_split") or keys.source.value.get("eval_strategy", "no") != "no":
            data["heldout"] = _place(name, config, test, keys, target)
    else:
        raise UserError(f"{keys.source.path}: dataset_name is missing, and so is datasets; add one of them")
    take_share(keys, "test_split_size", data)
    return data


def _parts(one: Json, keys: Keys, target: Path) -> list[str]:
    """The sources of one entry of `datasets`; a builder such as json names its files under data_files."""
    known = ("path", "name", "data_dir", "data_files", "split")
    for key in [key for key in one if key not in known and one[key] is not None]:
        keys.note("datasets", f"{one['path']}: {key}: {one[key]!r}", "every row and the columns of its format are read")
    files, folder = one.get("data_files"), one.get("data_dir")
    split = str(one.get("split") or "train")
    if one["path"] in ("json", "csv", "parquet") and files is not None:
        named = [files] if isinstance(files, str) else files
        if isinstance(named, dict):
            named = named.get(split, [])
            named = [named] if isinstance(named, str) else named
        return [_file(str(file), keys, target) for file in named]
    if files is not None:
        keys.note("datasets", f"{one['path']}: data_files: {files!r}", "the files of the split are read")
    path = f"{one['path']}/{folder}" if folder else str(one["path"])
    return [_place(path, one.get("name"), split, keys, target)]


def _place(name: str, config: str | None, split: str, keys: Keys, target: Path) -> str:
    """A source: a local file or folder if there is one of that name, else a hub id."""
    local = [place for place in (Path(name), keys.source.path.resolve().parent / name) if place.exists()]
    if local or name.startswith((".", "/", "~")):
        file = _file(name, keys, target)
        return file if Path(name).suffix else f"{file}#{split}"
    return f"hub:{name}{f':{config}' if config else ''}#{split}"


def _file(name: str, keys: Keys, target: Path) -> str:
    path = Path(name).expanduser()
    places = [path] if path.is_absolute() else [Path.cwd() / path, keys.source.path.resolve().parent / path]
    found = next((place for place in places if place.exists()), None)
    if found is None:
        keys.remark(f"the data file {name!r} is not found from here: change data.train")
        return name
    return Path(os.path.relpath(found.resolve(), target.resolve().parent)).as_posix()
