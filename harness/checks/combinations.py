"""Checks of a matrix against its data, its model and itself, before anything is written or trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from harness.config import MatrixConfig, Path_, Source
from harness.plan.matrix import RunSpec
from trainers.common import UserError
from trainers.formats.pairs import PreferencePair
from trainers.rules import catalogue
from trainers.run.objectives import ObjectiveError, check_training

#: Losses TRL combines with an f-divergence other than reverse KL.
_DIVERGENCE_LOSSES = {"sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop"}
_OWN_LOSS = {"beta_dpo", "alpha_dpo", "weight_only", "saturation_only"}


Where = Callable[[str], str]


def check_betas(specs: Sequence[RunSpec], pairs: Sequence[PreferencePair], data_file: Path) -> None:
    """Refuse pairs without a beta where a run's rule reads it.

    Raises:
        UserError: the first such pair.
    """
    for spec in specs:
        lacking = next((pair for pair in pairs if pair.beta is None), None) if spec.rule == "dataset_beta" else None
        if lacking is not None:
            raise UserError(
                f"{lacking.source or data_file}:{lacking.line}: no 'beta' (id {lacking.id!r}); rule dataset_beta of method "
                f"{spec.method!r} needs a number above 0 in every row"
            )


def check_combinations(config: MatrixConfig, source: Source, specs: Sequence[RunSpec]) -> None:
    """Refuse settings of a run that exclude one another.

    Raises:
        UserError: the first such combination.
    """
    index_of = {method.name: i for i, method in enumerate(config.methods)}
    for spec in specs:

        def where(key: str, spec: RunSpec = spec) -> str:
            place: Path_ = ("methods", index_of[spec.method])
            if key in spec.training:
                own = key in config.methods[index_of[spec.method]].training
                place = (*place, "training", key) if own else ("training", key)
            return f"{source.where(place)}: method {spec.method!r}"

        if spec.objective != "dpo":
            _check_objective(spec, where)
            continue
        _check_loss(spec, where)
        _check_reference(spec, config, where)
        _check_batch(spec, where)


def _check_objective(spec: RunSpec, where: Where) -> None:
    try:
        check_training(spec.objective, spec.params["pref_loss"], spec.training)
    except ObjectiveError as error:
        raise UserError(f"{where('')}: {error}") from None


def _check_loss(spec: RunSpec, where: Where) -> None:
    loss, training = spec.params.get("pref_loss", "sigmoid"), spec.training
    smoothing = training.get("label_smoothing", 0.0)
    if loss == "exo_pair" and smoothing <= 0:
        raise UserError(
            f"{where('label_smoothing')}: pref_loss exo_pair needs training.label_smoothing above 0 (it is {smoothing}); "
            "the EXO paper recommends 0.001"
        )
    if loss == "robust" and not 0 <= smoothing < 0.5:
        raise UserError(
            f"{where('label_smoothing')}: pref_loss robust needs label_smoothing in [0, 0.5), not {smoothing}"
        )
    divergence = training.get("f_divergence_type", "reverse_kl")
    if divergence != "reverse_kl" and (loss not in _DIVERGENCE_LOSSES or spec.rule == "alpha_dpo"):
        what = "rule alpha_dpo" if spec.rule == "alpha_dpo" else f"pref_loss {loss}"
        raise UserError(f"{where('f_divergence_type')}: {what} has no f_divergence_type {divergence!r}; use reverse_kl")
    if training.get("use_weighting") and spec.rule in _OWN_LOSS:
        raise UserError(f"{where('use_weighting')}: rule {spec.rule} weighs pairs itself; set use_weighting to false")
    if training.get("loss_weights") is not None and list(training["loss_weights"]) != [1.0]:
        raise UserError(
            f"{where('loss_weights')}: pref_loss is a single loss here, so loss_weights has no meaning; remove it"
        )


def _check_reference(spec: RunSpec, config: MatrixConfig, where: Where) -> None:
    cached = spec.training.get("precompute_ref_log_probs")
    if cached and spec.rule in catalogue.BUILTIN and catalogue.info(spec.rule).reference_in_loop:
        raise UserError(
            f"{where('precompute_ref_log_probs')}: rule {spec.rule} needs the reference's logits in every step; remove "
            "precompute_ref_log_probs"
        )
    if spec.training.get("sync_ref_model") and config.lora is not None:
        raise UserError(f"{where('sync_ref_model')}: it needs a separate reference, which LoRA lacks; set lora to null")
    if spec.training.get("sync_ref_model") and cached:
        raise UserError(
            f"{where('sync_ref_model')}: a moving reference cannot be precomputed; remove precompute_ref_log_probs"
        )


def _check_batch(spec: RunSpec, where: Where) -> None:
    training = spec.training
    spread = spec.rule == "beta_dpo" or (spec.rule == "alpha_dpo" and spec.params["alpha"] > 0)
    if spread and training.get("per_device_train_batch_size", 8) < 2:
        raise UserError(
            f"{where('per_device_train_batch_size')}: rule {spec.rule} needs the spread of a batch; set "
            "per_device_train_batch_size to 2 or more"
        )
    if spec.params.get("ppl_tokens") == "user" and training.get("truncation_mode") == "keep_end":
        raise UserError(
            f"{where('truncation_mode')}: ppl_tokens user needs the whole prompt; set truncation_mode to keep_start"
        )
