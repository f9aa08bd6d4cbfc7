"""Checks of a matrix against its data, its model and itself, before anything is written or trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from harness.config import MatrixConfig, Path_, Source, refuse
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
                f"{lacking.where}: no 'beta' (id {lacking.id!r}); rule dataset_beta of method "
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
        refuse(*((wrong, f"{where(key)}: {text}") for wrong, key, text in _refused(spec, config)))


def _check_objective(spec: RunSpec, where: Where) -> None:
    try:
        check_training(spec.objective, spec.params["pref_loss"], spec.training)
    except ObjectiveError as error:
        raise UserError(f"{where('')}: {error}") from None


def _refused(spec: RunSpec, config: MatrixConfig) -> list[tuple[bool, str, str]]:
    """Whether a run has settings that exclude one another, the key to point at, and what to say."""
    training, rule = spec.training, spec.rule
    loss, smoothing = spec.params.get("pref_loss", "sigmoid"), training.get("label_smoothing", 0.0)
    divergence, weights = training.get("f_divergence_type", "reverse_kl"), training.get("loss_weights")
    moving, cached = bool(training.get("sync_ref_model")), bool(training.get("precompute_ref_log_probs"))
    in_loop = rule in catalogue.BUILTIN and catalogue.info(rule).reference_in_loop
    spread = rule == "beta_dpo" or (rule == "alpha_dpo" and spec.params["alpha"] > 0)
    what = "rule alpha_dpo" if rule == "alpha_dpo" else f"pref_loss {loss}"
    return [
        (
            loss == "exo_pair" and smoothing <= 0,
            "label_smoothing",
            f"pref_loss exo_pair needs training.label_smoothing above 0 (it is {smoothing}); "
            "the EXO paper recommends 0.001",
        ),
        (
            loss == "robust" and not 0 <= smoothing < 0.5,
            "label_smoothing",
            f"pref_loss robust needs label_smoothing in [0, 0.5), not {smoothing}",
        ),
        (
            divergence != "reverse_kl" and (loss not in _DIVERGENCE_LOSSES or rule == "alpha_dpo"),
            "f_divergence_type",
            f"{what} has no f_divergence_type {divergence!r}; use reverse_kl",
        ),
        (
            bool(training.get("use_weighting")) and rule in _OWN_LOSS,
            "use_weighting",
            f"rule {rule} weighs pairs itself; set use_weighting to false",
        ),
        (
            weights is not None and list(weights) != [1.0],
            "loss_weights",
            "pref_loss is a single loss here, so loss_weights has no meaning; remove it",
        ),
        (
            cached and in_loop,
            "precompute_ref_log_probs",
            f"rule {rule} needs the reference's logits in every step; remove precompute_ref_log_probs",
        ),
        (
            moving and config.lora is not None,
            "sync_ref_model",
            "it needs a separate reference, which LoRA lacks; set lora to null",
        ),
        (
            moving and cached,
            "sync_ref_model",
            "a moving reference cannot be precomputed; remove precompute_ref_log_probs",
        ),
        (
            spread and training.get("per_device_train_batch_size", 8) < 2,
            "per_device_train_batch_size",
            f"rule {rule} needs the spread of a batch; set per_device_train_batch_size to 2 or more",
        ),
        (
            spec.params.get("ppl_tokens") == "user" and training.get("truncation_mode") == "keep_end",
            "truncation_mode",
            "ppl_tokens user needs the whole prompt; set truncation_mode to keep_start",
        ),
    ]
