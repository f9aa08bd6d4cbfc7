"""Checks of a matrix against its data, its model and itself, before anything is written or trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness.config import MatrixConfig, Path_, Source, refuse
from harness.plan.draws import Draw
from harness.plan.matrix import RunSpec
from trainers.common import UserError
from trainers.formats.pairs import PreferencePair
from trainers.rules import catalogue
from trainers.run.objectives import ObjectiveError, check_lora, check_training

#: Losses TRL combines with an f-divergence other than reverse KL.
_DIVERGENCE_LOSSES = {"sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop"}


Where = Callable[[str], str]


def check_columns(specs: Sequence[RunSpec], drawn: Mapping[Draw, Sequence[PreferencePair]], data_file: Path) -> None:
    """Refuse pairs without a beta, or without another number, where a run's rule reads it.

    Raises:
        UserError: the first such pair.
    """
    for spec in specs:
        for name in ("beta",) if spec.rule == "dataset_beta" else spec.columns:
            pairs = drawn[spec.draw]
            lacking = next((pair for pair in pairs if {**pair.columns, "beta": pair.beta}.get(name) is None), None)
            if lacking is not None:
                raise UserError(
                    f"{lacking.where}: no {name!r} (id {lacking.id!r}); rule {spec.rule} of method {spec.method!r} needs a "
                    f"number {'above 0 ' if name == 'beta' else ''}in every row"
                )


def check_combinations(config: MatrixConfig, source: Source, specs: Sequence[RunSpec]) -> None:
    """Refuse settings of a run that exclude one another.

    Raises:
        UserError: the first such combination.
    """
    try:
        check_lora(config.lora)
    except ObjectiveError as error:
        raise UserError(f"{source.where(('lora', 'init_lora_weights'))}: {error}") from None
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
    losses, smoothing = catalogue.losses_of(spec.params), training.get("label_smoothing", 0.0)
    divergence, weights = training.get("f_divergence_type", "reverse_kl"), training.get("loss_weights")
    moving, cached = bool(training.get("sync_ref_model")), bool(training.get("precompute_ref_log_probs"))
    known = catalogue.BUILTIN.get(rule, catalogue.RuleInfo(rule, "", ""))
    spread = rule in ("beta_dpo", "alpha_dpo") and catalogue.depends_on_batch(rule, spec.params)
    undivided = [name for name in losses if name not in _DIVERGENCE_LOSSES]
    what = f"rule {rule}" if known.own == "score" else f"pref_loss {', '.join(undivided)}"
    smoothed = [name for name in losses if name in catalogue.SMOOTHED]
    return [
        (
            "exo_pair" in losses and smoothing <= 0,
            "label_smoothing",
            f"pref_loss exo_pair needs training.label_smoothing above 0 (it is {smoothing}); "
            "the EXO paper recommends 0.001",
        ),
        (
            ("robust" in losses or "cdpo" in losses) and not 0 <= smoothing < 0.5,
            "label_smoothing",
            f"pref_loss {smoothed[-1] if smoothed else ''} needs label_smoothing in [0, 0.5), not {smoothing}",
        ),
        (
            bool(smoothing) and not smoothed,
            "label_smoothing",
            f"label_smoothing {smoothing} has no effect on pref_loss {', '.join(losses)}; use pref_loss "
            f"{' or '.join(catalogue.SMOOTHED)}, or rule cdpo or robust, or remove it",
        ),
        (
            divergence != "reverse_kl" and (bool(undivided) or known.own == "score"),
            "f_divergence_type",
            f"{what} has no f_divergence_type {divergence!r}; use reverse_kl",
        ),
        (
            bool(training.get("use_weighting")) and (known.own != "" or "cdpo" in losses),
            "use_weighting",
            f"rule {rule} with pref_loss {', '.join(losses)} forms its own loss; set use_weighting to false",
        ),
        (
            weights is not None and len(weights) != len(losses),
            "loss_weights",
            f"loss_weights has {len(weights or [])} values and pref_loss {len(losses)}; give each loss its weight",
        ),
        (
            weights is not None and len(losses) == 1 and list(weights) != [1.0],
            "loss_weights",
            "pref_loss is a single loss here, so loss_weights has no meaning; remove it",
        ),
        (
            known.reads_prompt and training.get("truncation_mode") == "keep_end",
            "truncation_mode",
            f"rule {rule} reads the prompt, and keep_end cuts more of it the longer the answer is; set it to keep_start",
        ),
        (
            cached and known.reference_in_loop,
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
