"""LLaMA-Factory: a training YAML (stage dpo, foodpo, kto or, up to 0.7, orpo) as a matrix file."""

import os
from pathlib import Path
from typing import Any

from harness.config import Source, refuse
from harness.imports.arguments import half_of, take_training
from harness.imports.draft import Keys, assemble, starting_model, take_share
from harness.imports.llamafactory_keys import ATTENTION, CHANGES, CHANGES_REFERENCE, LEFT, OLDER
from reports.foreign.trainer_logs import RENAMED
from trainers.common import Json, UserError

_STAGES = ("dpo", "foodpo", "kto", "orpo")


def convert(source: Source, target: Path, dataset_dir: Path | None = None) -> tuple[Json, list[str], list[str]]:
    """The matrix, notes on what was not imported, and hints for the head of the file.

    Args:
        target: where the matrix file will lie; data sources are written relative to it.
        dataset_dir: the folder of dataset_info.json, where the configuration's own is not to be found from here.

    Raises:
        UserError: a stage, a kind of fine-tuning or a setting that changes what is trained and has no counterpart, or a value
            of the wrong type.
    """
    keys = Keys(source)
    if "stage" not in keys.open:
        raise UserError(
            f"{source.path}: stage is missing (LLaMA-Factory takes it for sft); write stage: dpo, kto or orpo"
        )
    stage = keys.choice("stage", {name: name for name in _STAGES}, "", "preference training is compared here: stage")
    before_08 = _renamed(keys, stage)
    kinds = {"lora": True, "full": False}
    with_lora = keys.choice("finetuning_type", kinds, "lora", "these can be taken over:")
    original = _original(keys, stage)
    keys.refuse(
        {key: why for key, why in CHANGES.items() if (key, source.value.get(key)) != ("mix_strategy", "concat")}
    )
    if original.get("objective") == "orpo" or original["rule"] == "alpha_dpo":
        keys.leave(dict.fromkeys(("ref_model", *CHANGES_REFERENCE), "the loss has no reference, so it is not read"))
    keys.refuse(CHANGES_REFERENCE)
    lora = _lora(keys) if with_lora else None
    pure = keys.read("pure_bf16", bool, False)
    data = _data(keys, target, dataset_dir)
    # what LLaMA-Factory leaves to transformers' defaults, which are not TRL's
    training = {
        **{"learning_rate": 5.0e-5, "num_train_epochs": 3.0, "per_device_train_batch_size": 8, "bf16": False},
        "gradient_checkpointing": not keys.read("disable_gradient_checkpointing", bool),
        "max_length": keys.read("cutoff_len", int, 1024 if before_08 else 2048),
        **({"bf16": True} if pure else {}),
    }
    workers = keys.mapped({"dataset_num_proc": ("preprocessing_num_workers", int, None)})
    training |= {**take_training(keys), **workers}
    model = _model(keys, training, with_lora, pure)
    matrix = assemble(keys, original, model=model, data=data, training=training, lora=lora)
    keys.leave_rest(LEFT)
    hints = ["cutoff_len is max_length here: TRL cuts the end of prompt and answer, LLaMA-Factory shares the room out."]
    return matrix, keys.notes, hints


def _renamed(keys: Keys, stage: str) -> bool:
    """Read keys up to 0.7 under their names today; whether one is there that 0.8 does not know."""
    own = "orpo" if stage == "orpo" else "dpo"
    keys.leave({older: f"stage {stage} does not read it" for older in RENAMED if not older.startswith(own)})
    found = [keys.rename(older, name) for older, name in (RENAMED | OLDER).items()]
    if "resume_lora_training" in keys.open:  # up to 0.3, and the other way round
        keys.rename("resume_lora_training", "create_new_adapter")
        keys.give("create_new_adapter", not keys.source.value["resume_lora_training"])
        found.append(True)
    return any(found) or stage == "orpo"


def _original(keys: Keys, stage: str) -> Json:
    """The first method of the matrix."""
    method: Json = {"name": "original", "rule": "fixed", "pref_beta": keys.read("pref_beta", float, 0.1)}
    loss, scale = keys.read("pref_loss", str, "sigmoid"), keys.read("pref_beta_scale", float)
    gamma, smoothing = keys.read("simpo_gamma", float, 0.5), keys.read("dpo_label_smoothing", float)
    weights = {
        "desirable_weight": keys.read("kto_chosen_weight", float, 1.0),
        "undesirable_weight": keys.read("kto_rejected_weight", float, 1.0),
    }
    term = keys.read("pref_ftx", float) if loss == "sigmoid" and stage == "dpo" and not smoothing else None
    own: Json = {}
    if term:  # the chosen answer's negative log-likelihood per token
        own = {"rule": "rpo", "nll": term}
    elif smoothing and loss == "sigmoid" and stage == "dpo":
        own = {"rule": "cdpo", "label_smoothing": smoothing}
    elif smoothing and loss == "sigmoid" and stage == "foodpo":
        keys.problems.append(
            f"{keys.where('dpo_label_smoothing')}: dpo_label_smoothing is {smoothing}: no rule here has both"
        )
    elif smoothing:
        keys.note("dpo_label_smoothing", smoothing, "the loss of this run does not read it")
    if stage == "kto":
        return {**method, "objective": "kto", "training": weights}
    if stage == "orpo":
        return {**method, "objective": "orpo"}
    if stage == "foodpo":
        method |= {"rule": "foodpo", "pref_beta_scale": 0.5 if scale is None else scale}
    elif scale is not None:
        keys.note("pref_beta_scale", scale, "stage is dpo, which does not scale beta; the method foodpo beside it does")
    losses: dict[str, Json] = {"sigmoid": {}, "hinge": {"pref_loss": "hinge"}, "ipo": {"pref_loss": "ipo"}}
    if stage == "dpo":
        simpo = {"rule": "alpha_dpo", "alpha": 0.0, "gamma_beta_ratio": gamma / method["pref_beta"]}
        losses |= {"orpo": {"objective": "orpo"}, "simpo": simpo}
    if loss not in losses:
        raise UserError(
            f"{keys.where('pref_loss')}: pref_loss is {loss!r} with stage {stage!r}; sigmoid, hinge, ipo, and with stage dpo "
            "orpo and simpo can be taken over"
        )
    return method | losses[loss] | own


def _lora(keys: Keys) -> Json:
    rank = keys.read("lora_rank", int, 8)
    fields: dict[str, tuple[str, type, Any]] = {
        "lora_alpha": ("lora_alpha", int, 2 * rank),
        "lora_dropout": ("lora_dropout", float, 0.0),
        "target_modules": ("lora_target", list, ["all"]),
        "modules_to_save": ("additional_target", list, None),
        "use_rslora": ("use_rslora", bool, None),
        "use_dora": ("use_dora", bool, None),
    }
    lora = {"r": rank, **keys.mapped(fields)}
    return {**lora, "target_modules": "all-linear" if lora["target_modules"] == ["all"] else lora["target_modules"]}


def _model(keys: Keys, training: Json, lora: bool, pure: bool) -> Json:
    flag = keys.source.value.get("flash_attn")
    if isinstance(flag, bool):  # up to 0.6; `off` of today is a boolean to YAML, too
        keys.give("flash_attn", str(flag).lower())
    attention = keys.choice("flash_attn", ATTENTION, "auto")
    # weights that stay frozen, or are trained in it, are loaded in the dtype of the computation
    model = starting_model(keys, half_of(training) if lora or pure else "float32", attention, {})
    fresh, adapters = keys.read("create_new_adapter", bool, False), keys.read("adapter_name_or_path", list, [])
    where = f"{keys.where('adapter_name_or_path')}: adapter_name_or_path is {', '.join(adapters)!r}"
    if len(adapters) > 1:
        keys.problems.append(f"{where}: one adapter can be the start here; merge them into the model and name that")
    elif adapters and lora and not fresh:
        keys.problems.append(
            f"{where}: LLaMA-Factory trains it further against a reference without it, and here both start from it; merge it "
            "into the model, or write create_new_adapter: true to compare from the merged model on"
        )
    elif adapters:
        model["adapter"] = adapters[0]
        keys.note(
            "adapter_name_or_path", adapters[0], "merged into the starting weights, for policy and reference alike"
        )
    return {**model, **_quantization(keys, training)}


def _quantization(keys: Keys, training: Json) -> Json:
    bits, method = keys.take("quantization_bit"), keys.read("quantization_method", str, "bnb")
    four = {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": keys.read("quantization_type", str, "nf4"),
        "bnb_4bit_use_double_quant": keys.read("double_quantization", bool, True),
        "bnb_4bit_compute_dtype": half_of(training),
    }
    if bits is None:
        return {}
    if method not in ("bnb", "bitsandbytes") or bits not in (4, 8):
        raise UserError(
            f"{keys.where('quantization_bit')}: quantization_bit is {bits!r} by {method!r}; 4 and 8 bits by bnb can be taken over"
        )
    return {"quantization": four if bits == 4 else {"load_in_8bit": True}}


def _data(keys: Keys, target: Path, given: Path | None) -> Json:
    names, limit = keys.read("dataset", list), keys.read("max_samples", int)
    refuse((not names, f"{keys.where('dataset')}: dataset is missing; name the data sets of dataset_info.json"))
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
    # LLaMA-Factory reads it relative to where it is started, mostly the folder that holds examples/ and data/
    places = (
        [given] if given is not None else [parent / folder for parent in (Path(), *keys.source.path.resolve().parents)]
    )
    found = next((place.resolve() for place in places if (place / "dataset_info.json").is_file()), None)
    if found is not None:
        return f"{Path(os.path.relpath(found, target.resolve().parent)).as_posix()}/dataset_info.json#{name}"
    refuse(
        (given is not None, f"--dataset-dir {given}: no dataset_info.json there; give the folder that holds it"),
        (
            folder.startswith("REMOTE:"),
            f"{keys.where('dataset_dir')}: dataset_dir is {folder!r}; download it and give --dataset-dir",
        ),
    )
    keys.remark(
        f"dataset_dir {folder!r} with {name!r} is not found from here: give --dataset-dir, or change data.train"
    )
    return f"{folder}/dataset_info.json#{name}"
