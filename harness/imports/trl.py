"""TRL: the YAML of `trl dpo --config FILE` (script, training and model arguments in one mapping) as a matrix file.

Recipes of alignment-handbook and SimPO have the same keys with other data (trl_data.py), or are for another trainer: keys of one
loss alone, a comment, or the names of the file and its output tell them apart.
"""

import re
from pathlib import Path
from typing import Any

from harness.config import Source
from harness.imports.arguments import half_of, take_training
from harness.imports.draft import READ_FIRST, Keys, assemble, by_name, starting_model
from harness.imports.trl_data import take_data
from trainers.common import Json, UserError
from trainers.rules.catalogue import PREF_LOSSES

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
    if name in keys.open:
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


METHODS = ("dpo", "simpo", "orpo", "kto")
#: Other trainers of TRL.
_OTHERS = ("cpo", "sft", "grpo", "ppo", "rloo", "bco", "gkd", "xpo", "reward", "prm", "nash")
_TRAINER = re.compile(r"^\s*#.*?\b(\w+?)(?:Trainer|Config)\b", re.MULTILINE)
#: Keys of other tools, by which their files are known.
_TOOLS = {
    "axolotl": ("base_model", "rl", "sequence_len"),
    "ms-swift": ("rlhf_type", "train_type", "tuner_type"),
    "LLaMA-Factory": ("finetuning_type", "pref_beta", "cutoff_len"),
}
_WAYS = {"LLaMA-Factory": "python -m harness import-llamafactory FILE"}


def take_method(keys: Keys, chosen: str | None) -> Json:
    """The first method, called `original`.

    Args:
        chosen: one of METHODS; by default what the file says.

    Raises:
        UserError: the file is for another tool or trainer, its trainer is not sure, or its loss has no counterpart.
    """
    for tool, marks in _TOOLS.items():
        found = [key for key in marks if key in keys.open]
        if (found and "model_name_or_path" not in keys.open) or len(found) == len(marks):
            way = _WAYS.get(tool, "no importer reads it: write its settings as a YAML of `trl dpo --config`")
            raise UserError(f"{keys.where(found[0])}: {found[0]} is a key of {tool}, and this is not TRL's file; {way}")
    method = chosen or _said(keys)
    beta = keys.read("beta", float, 2.0 if method == "simpo" else 0.1)
    losses, smoothing = keys.read("loss_type", list) or [], keys.read("label_smoothing", float, 0.0)
    weights = keys.take("loss_weights")
    if method == "dpo" and len(losses) > 1 and set(losses) <= {*PREF_LOSSES, "sft"}:  # MPO, arXiv 2411.10442
        keys.give("loss_weights", weights or [1.0] * len(losses))
        return {"name": "original", "rule": "fixed", "pref_beta": beta, "pref_loss": losses}
    if len(losses) > 1 or weights not in (None, [1.0], [1]):
        keys.problems.append(
            f"{keys.where('loss_type')}: loss_type is {', '.join(losses)} with loss_weights {weights}; several are trained "
            f"with dpo alone, and are of sft, {', '.join(PREF_LOSSES)}"
        )
    settings = _METHOD_OF[method](keys, beta, losses[0] if losses else None, smoothing)
    return {"name": "original", "rule": "fixed", "pref_beta": beta, **settings}


def _said(keys: Keys) -> str:
    """The method that the file says it is for.

    Raises:
        UserError: that is none of METHODS, or its names speak of another than DPO.
    """
    if "gamma_beta_ratio" in keys.open or str(keys.source.value.get("loss_type")) == "simpo":
        return "simpo"
    if "desirable_weight" in keys.open or "undesirable_weight" in keys.open:
        return "kto"
    known = (*METHODS, *_OTHERS)
    text, path = keys.source.path.read_text(encoding="utf-8"), keys.source.path.resolve()
    found = [name for name in map(str.lower, _TRAINER.findall(text)) if name in known]
    if found and found[0] in METHODS:
        return found[0]
    output = (str(keys.source.value.get(key)) for key in ("output_dir", "run_name", "hub_model_id"))
    names = [path.stem, *(name.rstrip("/").rpartition("/")[2] for name in output)]
    words = [word for name in names for word in re.split(r"[^a-z]+", name.lower()) if word in known]
    words += [path.parent.name] if path.parent.name in known else []  # recipes/MODEL/orpo/config.yaml
    found = found or ([] if "dpo" in words else words)
    if not found:
        return "dpo"
    fix = " or ".join(f"--method {one}" for one in dict.fromkeys(("dpo", found[0])) if one in METHODS)
    raise UserError(
        f"{path}: by its names the file is for {found[0]}, by its keys it could be for DPO; say which: {fix}"
    )


def _dpo(keys: Keys, beta: float, loss: str | None, smoothing: float) -> Json:
    loss = loss or "sigmoid"
    if loss not in PREF_LOSSES:
        raise UserError(
            f"{keys.where('loss_type')}: loss_type is {loss!r}; these can be taken over: {', '.join(PREF_LOSSES)}"
        )
    keys.refuse({"cpo_alpha": "it is a setting of CPO, which is not trained here"})
    if smoothing and loss == "sigmoid":
        return {"rule": "cdpo", "label_smoothing": smoothing}
    if smoothing and loss in ("robust", "exo_pair"):
        keys.give("label_smoothing", smoothing)
    elif smoothing:
        keys.note("label_smoothing", smoothing, f"loss {loss} does not read it")
    return {} if loss == "sigmoid" else {"pref_loss": loss}


def _simpo(keys: Keys, beta: float, loss: str | None, smoothing: float) -> Json:
    ratio, gamma = keys.read("gamma_beta_ratio", float), keys.read("simpo_gamma", float, 0.5)
    if loss not in (None, "sigmoid", "simpo"):
        raise UserError(f"{keys.where('loss_type')}: loss_type is {loss!r}; SimPO is trained here with sigmoid alone")
    if loss == "simpo" and keys.read("cpo_alpha", float, 1.0):
        keys.problems.append(
            f"{keys.where('cpo_alpha')}: cpo_alpha is not 0 (TRL's default is 1): an SFT term that is not added here"
        )
    if smoothing:
        keys.problems.append(
            f"{keys.where('label_smoothing')}: label_smoothing is {smoothing}: SimPO is not smoothed here; delete it"
        )
    if ratio is None:
        ratio = 0.25 if loss != "simpo" else gamma / beta
    return {"rule": "alpha_dpo", "alpha": 0.0, "gamma_beta_ratio": ratio}


def _orpo(keys: Keys, beta: float, loss: str | None, smoothing: float) -> Json:
    return {"objective": "orpo"}


def _kto(keys: Keys, beta: float, loss: str | None, smoothing: float) -> Json:
    weights = {key: keys.read(key, float, 1.0) for key in ("desirable_weight", "undesirable_weight")}
    own = {} if loss in (None, "kto") else {"pref_loss": loss}
    return {"objective": "kto", "training": weights, **own}


_METHOD_OF = {"dpo": _dpo, "simpo": _simpo, "orpo": _orpo, "kto": _kto}
