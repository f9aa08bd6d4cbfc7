"""Names of beta rules, their parameters and defaults. Imports nothing heavy: rule modules load when built.

A rule from outside the package is reached as `path/to/file.py:ClassName` or through the entry-point group
`dpo_beta_harness.rules`; its parameters are the keyword arguments of its `__init__`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainers.common import Registry, entry_points, first_fault, nearest
from trainers.rules.builtin import BETA_RULES
from trainers.rules.builtin_losses import LOSS_RULES
from trainers.rules.parameters import COLUMN, PREF_BETA, PREF_LOSSES, SMOOTHED, Param, RuleInfo, losses_of, one_of

if TYPE_CHECKING:
    from trainers.rules.base import BetaRule

ENTRY_POINT_GROUP = "dpo_beta_harness.rules"


class RuleError(ValueError):
    """An unknown rule, or a parameter it does not take; the message says what it takes."""


BUILTIN: dict[str, RuleInfo] = {**BETA_RULES, **LOSS_RULES}
__all__ = ["BUILTIN", "PREF_LOSSES", "SMOOTHED", "Param", "RuleError", "RuleInfo", "losses_of", "one_of"]


def available() -> dict[str, RuleInfo]:
    """All rules known by name: the built-in ones and those of installed packages."""
    installed = entry_points(ENTRY_POINT_GROUP)
    return {name: RuleInfo(name, target, f"from {target}") for name, target in installed.items()} | BUILTIN


def _registry(*bases: type) -> Registry:
    return Registry(
        "rule", {name: rule.target for name, rule in BUILTIN.items()}, (ENTRY_POINT_GROUP,), bases, RuleError
    )


def info(rule: str) -> RuleInfo:
    """The catalogue's entry of `rule`.

    Raises:
        RuleError: unknown name (with the nearest one), or a file that does not exist.
    """
    target = _registry().target(rule)
    return available().get(rule) or RuleInfo(rule, target, f"from {target}")


def validate(rule: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in defaults and check every parameter of a built-in rule.

    Parameters of outside rules are checked against their `__init__` when built; here they pass as they are.

    Raises:
        RuleError: an unknown rule, key or value, with what was expected.
    """
    known = info(rule)
    if rule not in BUILTIN:
        return {"pref_beta": PREF_BETA.default, **params}
    for key, value in params.items():
        if key not in known.params:
            hint = nearest(key, known.params, f"it takes {', '.join(known.params)}")
            raise RuleError(f"rule {rule!r} has no parameter {key!r}; {hint}")
        expected = known.params[key].check(value)
        if expected is not None:
            raise RuleError(f"{key} of rule {rule!r} is {value!r}; it must be {expected}")
    filled = {key: params.get(key, param.default) for key, param in known.params.items()}
    schedule, end = filled.get("scale_schedule", "constant"), filled.get("pref_beta_scale_end")
    scaled = ("pref_beta_scale", "scale_schedule") if filled.get("rescale") == "mean" else ()
    moved = [key for key in scaled if filled[key] != known.params[key].default]
    fault = first_fault(
        (
            known.learned and not filled["beta_min_ratio"] < 1 < filled["beta_max_ratio"],
            "beta_min_ratio must be below 1 and beta_max_ratio above 1",
        ),
        (schedule != "constant" and end is None, f"scale_schedule {schedule!r} needs pref_beta_scale_end"),
        (
            schedule != "constant" and filled["pref_beta_scale"] <= 0,
            "pref_beta_scale must be above 0 where scale_schedule moves it",
        ),
        (
            schedule == "constant" and end is not None,
            "pref_beta_scale_end has no effect unless scale_schedule is linear or cosine",
        ),
        (moved, f"{''.join(moved[:1])} has no effect with rescale: mean; remove one of the two"),
        (rule == "madpo" and not filled["c_min"] < 1 < filled["c_max"], "c_min must be below 1 and c_max above 1"),
        (
            rule == "risk_beta"
            and not (filled["beta_min"] <= filled["pref_beta"] <= filled["beta_max"] and filled["delta"] < 1),
            "pref_beta must lie between beta_min and beta_max, and delta below 1",
        ),
    )
    if fault is not None:
        raise RuleError(f"rule {rule!r}: {fault}")
    return filled


def identity(rule: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """What of a rule's version and parameters identifies a run: later parameters at their defaults do not."""
    known = BUILTIN.get(rule)
    if known is None:
        return {"params": dict(params)}
    later = {key: param.default for key, param in known.params.items() if param.later}
    kept = {key: value for key, value in params.items() if key not in later or value != later[key]}
    return {"params": kept, **({"rule_version": known.version} if known.version > 1 else {})}


def columns(rule: str, params: Mapping[str, Any]) -> tuple[str, ...]:
    """The columns of numbers that a built-in rule reads from the data; rules from outside are asked when they are built."""
    known = BUILTIN.get(rule)
    named = () if known is None else [key for key, param in known.params.items() if param.check is COLUMN]
    return tuple(params[key] for key in named)


def depends_on_batch(rule: str, params: Mapping[str, Any]) -> bool:
    """Whether a pair's loss depends on the others of its micro-batch, so that this cannot be split (imports an outside rule)."""
    if rule not in BUILTIN:
        return bool(getattr(_registry().load(rule), "batch_statistics", False))
    return BUILTIN[rule].batch_statistics and params.get("alpha") != 0


def build(rule: str, params: Mapping[str, Any], hidden_size: int) -> "BetaRule":
    """Instantiate a rule for a policy with hidden states of width `hidden_size`.

    Raises:
        RuleError: unknown rule or parameters it does not take.
    """
    from trainers.rules.base import BetaRule

    filled = validate(rule, params)
    built: BetaRule = _registry(BetaRule).build(rule, {"hidden_size": hidden_size, **filled})
    built.rule_name, built.rule_params = rule, filled
    built.columns = columns(rule, filled) or built.columns
    return built
