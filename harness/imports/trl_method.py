"""Which trainer a configuration with TRL's keys is for, and the first method of its matrix.

The file of a DPO run and that of an ORPO run can have the same keys; keys of one loss alone, a comment, or the names of the
file and its output tell them apart.
"""

import re

from harness.imports.draft import Keys
from trainers.common import Json, UserError
from trainers.rules.catalogue import PREF_LOSSES

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
        found = [key for key in marks if key in keys]
        if (found and "model_name_or_path" not in keys) or len(found) == len(marks):
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
        keys.problem(
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
    if "gamma_beta_ratio" in keys or str(keys.source.value.get("loss_type")) == "simpo":
        return "simpo"
    if "desirable_weight" in keys or "undesirable_weight" in keys:
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
        keys.problem(
            f"{keys.where('cpo_alpha')}: cpo_alpha is not 0 (TRL's default is 1): an SFT term that is not added here"
        )
    if smoothing:
        keys.problem(
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
