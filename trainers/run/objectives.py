"""The objectives a run can train: which beta rules, losses and TRL configuration each has. Imports nothing heavy.

The beta rules were made for DPO. KTO (arXiv 2402.01306) has a beta in its sigmoid and ORPO (arXiv 2403.07691) has one, lambda
in its paper, as the weight of its odds-ratio term; there the fixed and the perplexity-scaled beta have a meaning. Rules that
need a pair's margin, a head's own optimiser or the DPO loss itself have none.
"""

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trainers.common import nearest, refuse
from trainers.rules import catalogue


class ObjectiveError(ValueError):
    """An unknown objective, or a setting it cannot be combined with; the message names key, value and the fix."""


@dataclass(frozen=True)
class Objective:
    """One objective.

    Attributes:
        config_class: the TRL configuration whose fields `training` sets, as module.Class.
        pref_losses: values of `pref_loss`, the default first.
        rules: rules it takes, or None for all, those from outside included.
        only: rule parameters that have one possible value here.
        has_reference: whether the loss compares the policy with a reference.
        splits_batches: whether a micro-batch may be split without a change of the loss. KTO's KL term and ORPO's likelihood are
            averages over it; for DPO it depends on the rule.
    """

    name: str
    summary: str
    config_class: str
    pref_losses: tuple[str, ...]
    rules: tuple[str, ...] | None = None
    only: Mapping[str, Any] = field(default_factory=dict)
    has_reference: bool = True
    splits_batches: bool = False

    def load_config_class(self) -> Any:
        """The TRL configuration class (imports TRL)."""
        return pkgutil.resolve_name(self.config_class)


_SCALED = ("fixed", "foodpo")
_PROMPT_ONLY = {"ppl_of": "prompt", "ppl_tokens": "all", "attach_ppl": False, "rescale": "none"}

OBJECTIVES: dict[str, Objective] = {
    one.name: one
    for one in (
        Objective(
            "dpo",
            "pairs against a reference (arXiv 2305.18290)",
            "trl.DPOConfig",
            catalogue.PREF_LOSSES,
            splits_batches=True,
        ),
        Objective(
            "kto",
            "single answers, desirable or not, against a reference (arXiv 2402.01306)",
            "trl.KTOConfig",
            ("kto", "apo_zero_unpaired"),
            _SCALED,
            _PROMPT_ONLY,
        ),
        Objective(
            "orpo",
            "likelihood of the chosen answer plus an odds ratio, no reference (arXiv 2403.07691)",
            "trl.experimental.orpo.ORPOConfig",
            ("orpo",),
            _SCALED,
            _PROMPT_ONLY,
            has_reference=False,
        ),
    )
}


def find(name: str) -> Objective:
    """The objective called `name`.

    Raises:
        ObjectiveError: there is none.
    """
    if name in OBJECTIVES:
        return OBJECTIVES[name]
    raise ObjectiveError(f"objective is {name!r}; {nearest(name, OBJECTIVES)}")


def validate(name: str, rule: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of `rule` under the objective `name`, checked, with defaults filled in; `pref_loss` is the objective's.

    Raises:
        ObjectiveError: a rule, a loss or a parameter that the objective does not have.
        trainers.rules.catalogue.RuleError: an unknown rule, or a parameter the rule does not take.
    """
    objective = find(name)
    if objective.rules is None:
        return catalogue.validate(rule, params)
    catalogue.info(rule)
    loss = params.get("pref_loss", objective.pref_losses[0])
    refuse(
        ObjectiveError,
        (
            rule not in objective.rules,
            f"rule {rule!r} has no meaning for objective {name!r}, whose loss takes a beta per example and nothing else; "
            f"use rule {' or '.join(objective.rules)}, or objective dpo",
        ),
        (
            loss not in objective.pref_losses,
            f"pref_loss is {loss!r}; objective {name!r} has {' and '.join(objective.pref_losses)}: remove pref_loss or change it",
        ),
    )
    filled = catalogue.validate(rule, {key: value for key, value in params.items() if key != "pref_loss"})
    refuse(
        ObjectiveError,
        *(
            (
                filled.get(key, value) != value,
                f"{key} is {filled.get(key)!r}; with objective {name!r} it can only be {value!r}: remove it",
            )
            for key, value in objective.only.items()
        ),
    )
    return {**filled, "pref_loss": loss}


def check_lora(lora: Mapping[str, Any] | None) -> None:
    """Refuse adapters that start anywhere else than at the weights without them, which are the reference.

    Raises:
        ObjectiveError: names the key, its value and what to write.
    """
    start = (lora or {}).get("init_lora_weights", True)
    if start is not True and start != "gaussian":
        raise ObjectiveError(
            f"lora.init_lora_weights is {start!r}: such an adapter changes the base weights or does not start at 0, so the model "
            "without it, which is the reference, is not the policy before training; use true or gaussian"
        )


def check_training(name: str, pref_loss: str, training: Mapping[str, Any]) -> None:
    """Refuse combinations of `training` settings that the objective's loss does not allow.

    Raises:
        ObjectiveError: names the key, its value and what to write.
    """
    estimates_kl = name == "kto" and pref_loss == "kto"
    order = training.get("train_sampling_strategy", "sequential")
    refuse(
        ObjectiveError,
        (
            name == "kto" and training.get("sync_ref_model") and training.get("precompute_ref_log_probs"),
            "precompute_ref_log_probs is true, but with sync_ref_model the reference moves: remove one of the two",
        ),
        (
            estimates_kl and training.get("per_device_train_batch_size", 2) < 2,
            "per_device_train_batch_size is 1; KTO estimates its KL term from the other answers of a micro-batch: use at "
            "least 2, or pref_loss apo_zero_unpaired, which has no such term",
        ),
        (
            estimates_kl and order != "sequential",
            f"train_sampling_strategy is {order!r}; KTO's KL term is estimated within batches of a fixed order: remove it "
            "(the rows are shuffled by the seed beforehand), or use pref_loss apo_zero_unpaired",
        ),
    )
