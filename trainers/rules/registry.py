"""Names of beta rules, their parameters and defaults. Imports nothing heavy: rule modules load when built.

A rule from outside the package is reached as `path/to/file.py:ClassName` or through the entry-point group
`dpo_beta_harness.rules`; its parameters are the keyword arguments of its `__init__`.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import importlib.util
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

ENTRY_POINT_GROUP = "dpo_beta_harness.rules"


class RuleError(ValueError):
    """An unknown rule, or a parameter it does not take; the message says what it takes."""


def _positive(value: Any) -> str | None:
    return None if _is_number(value) and value > 0 else "a number above 0"


def _number(value: Any) -> str | None:
    return None if _is_number(value) else "a finite number"


def _non_negative(value: Any) -> str | None:
    return None if _is_number(value) and value >= 0 else "a number of at least 0"


def _boolean(value: Any) -> str | None:
    return None if isinstance(value, bool) else "true or false"


def _count(value: Any) -> str | None:
    return None if isinstance(value, int) and not isinstance(value, bool) and value > 0 else "a whole number above 0"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def one_of(*choices: str) -> Callable[[Any], str | None]:
    """A check that a value is one of `choices`."""
    return lambda value: None if value in choices else "one of " + ", ".join(choices)


@dataclass(frozen=True)
class Param:
    """One parameter: its default and a check that returns what was expected, or None if the value is good."""

    default: Any
    check: Callable[[Any], str | None]
    help: str


@dataclass(frozen=True)
class RuleInfo:
    """What the configuration needs to know of a rule without importing torch."""

    name: str
    target: str
    summary: str
    params: Mapping[str, Param] = field(default_factory=dict)
    learned: bool = False
    dynamic: bool = True


PREF_BETA = Param(0.1, _positive, "the fixed beta, or the beta a dynamic rule starts from")
PREF_LOSS = Param("sigmoid", one_of("sigmoid", "hinge", "ipo"), "TRL's loss_type")

_LEARNED: dict[str, Param] = {
    "head_learning_rate": Param(1e-3, _positive, "learning rate of the head, apart from the policy's"),
    "anchor": Param(0.1, _non_negative, "lambda of the penalty lambda * (log beta / pref_beta)^2; 0 switches it off"),
    "beta_min_ratio": Param(0.1, _positive, "lower bound of beta, as a multiple of pref_beta"),
    "beta_max_ratio": Param(10.0, _positive, "upper bound of beta, as a multiple of pref_beta"),
    "aggregation": Param(
        "last_prompt_token",
        one_of("last_prompt_token", "mean_prompt", "last_completion_token"),
        "which hidden states the head reads; last_completion_token sees the chosen answer (flagged in the report)",
    ),
    "head_gradient_to_policy": Param(False, _boolean, "let the head's gradient reach the policy"),
}

BUILTIN: dict[str, RuleInfo] = {
    info.name: info
    for info in (
        RuleInfo(
            "fixed",
            "trainers.rules.fixed:Fixed",
            "beta = pref_beta (DPO, arXiv 2305.18290)",
            {"pref_beta": PREF_BETA, "pref_loss": PREF_LOSS},
            dynamic=False,
        ),
        RuleInfo(
            "foodpo",
            "trainers.rules.foodpo:FooDPO",
            "beta(x) = c * log(max(PPL(x), 1)) * pref_beta",
            {
                "pref_beta": PREF_BETA,
                "pref_loss": PREF_LOSS,
                "pref_beta_scale": Param(0.5, _number, "c; c <= 0 falls back to the fixed beta"),
                "attach_ppl": Param(False, _boolean, "let the gradient flow through the perplexity"),
            },
        ),
        RuleInfo(
            "beta_head",
            "trainers.rules.beta_head:BetaHead",
            "beta(x) = softplus(v(h)), h the policy's last hidden state",
            {"pref_beta": PREF_BETA, "pref_loss": PREF_LOSS, **_LEARNED},
            learned=True,
        ),
        RuleInfo(
            "learnable",
            "trainers.rules.learnable:Learnable",
            "beta(x) = w * log PPL(x) * (1 + eps * tanh(NN(h)))",
            {
                "pref_beta": PREF_BETA,
                "pref_loss": PREF_LOSS,
                **_LEARNED,
                "epsilon": Param(0.3, _non_negative, "eps, the largest relative change that f(x) makes"),
                "network": Param("mlp", one_of("linear", "mlp", "transformer"), "the shape of NN"),
                "width": Param(64, _count, "width of the MLP or transformer"),
            },
            learned=True,
        ),
    )
}


@lru_cache(maxsize=1)
def _entry_points() -> dict[str, str]:
    return {point.name: point.value for point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)}


def available() -> dict[str, RuleInfo]:
    """All rules known by name: the built-in ones and those of installed packages."""
    rules = dict(BUILTIN)
    for name, target in _entry_points().items():
        rules.setdefault(name, RuleInfo(name, target, f"from {target}"))
    return rules


def is_external(rule: str) -> bool:
    """Whether `rule` is written as `path/to/file.py:ClassName`."""
    path, _, cls = rule.rpartition(":")
    return path.endswith(".py") and cls.isidentifier()


def info(rule: str) -> RuleInfo:
    """What is known of `rule`.

    Raises:
        RuleError: unknown name (with the nearest one), or a file that does not exist.
    """
    rules = available()
    if rule in rules:
        return rules[rule]
    if is_external(rule):
        path = rule.rpartition(":")[0]
        if not Path(path).is_file():
            raise RuleError(f"rule {rule!r}: no such file {path}; write path/to/file.py:ClassName")
        return RuleInfo(rule, rule, f"from {rule}")
    near = difflib.get_close_matches(rule, rules, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known rules: {', '.join(sorted(rules))}"
    raise RuleError(f"unknown rule {rule!r}; {hint}")


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
            near = difflib.get_close_matches(key, known.params, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(known.params)}"
            raise RuleError(f"rule {rule!r} has no parameter {key!r}; {hint}")
        expected = known.params[key].check(value)
        if expected is not None:
            raise RuleError(f"{key} of rule {rule!r} is {value!r}; it must be {expected}")
    filled = {key: params.get(key, param.default) for key, param in known.params.items()}
    if known.learned and not filled["beta_min_ratio"] < 1 < filled["beta_max_ratio"]:
        raise RuleError(f"rule {rule!r}: beta_min_ratio must be below 1 and beta_max_ratio above 1")
    return filled


def _load_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"beta_rule_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise RuleError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(rule: str, params: Mapping[str, Any], hidden_size: int) -> Any:
    """Instantiate a rule (`trainers.rules.base.BetaRule`) for a policy with hidden states of width `hidden_size`.

    Raises:
        RuleError: unknown rule or parameters it does not take.
    """
    filled = validate(rule, params)
    target = info(rule).target
    location, _, class_name = target.rpartition(":")
    module = _load_file(Path(location)) if location.endswith(".py") else importlib.import_module(location)
    try:
        cls = getattr(module, class_name)
    except AttributeError:
        raise RuleError(f"{location} has no class {class_name!r}") from None
    try:
        return cls(hidden_size=hidden_size, **filled)
    except TypeError as error:
        raise RuleError(f"rule {rule!r}: {error}") from None
