"""Names of beta rules, their parameters and defaults. Imports nothing heavy: rule modules load when built.

A rule from outside the package is reached as `path/to/file.py:ClassName` or through the entry-point group
`dpo_beta_harness.rules`; its parameters are the keyword arguments of its `__init__`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trainers.common.plugins import Registry, entry_points
from trainers.common.words import nearest

if TYPE_CHECKING:
    from trainers.rules.base import BetaRule

ENTRY_POINT_GROUP = "dpo_beta_harness.rules"


class RuleError(ValueError):
    """An unknown rule, or a parameter it does not take; the message says what it takes."""


Check = Callable[[Any], str | None]


def _expect(expected: str, good: Callable[[Any], bool]) -> Check:
    """A check that returns `expected` for a value that is not good, else None."""
    return lambda value: None if good(value) else expected


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def one_of(*choices: str) -> Check:
    """A check that a value is one of `choices`."""
    return _expect("one of " + ", ".join(choices), lambda value: value in choices)


_number = _expect("a finite number", _is_number)
_positive = _expect("a number above 0", lambda value: _is_number(value) and value > 0)
_optional_positive = _expect("a number above 0, or null", lambda value: value is None or _positive(value) is None)
_non_negative = _expect("a number of at least 0", lambda value: _is_number(value) and value >= 0)
_below_one = _expect("a number of at least 0, below 1", lambda value: _is_number(value) and 0 <= value < 1)
_share = _expect("a number above 0, at most 1", lambda value: _is_number(value) and 0 < value <= 1)
_boolean = _expect("true or false", lambda value: isinstance(value, bool))
_count = _expect("a whole number above 0", lambda value: type(value) is int and value > 0)


@dataclass(frozen=True)
class Param:
    """One parameter: its default and a check that returns what was expected, or None if the value is good."""

    default: Any
    check: Callable[[Any], str | None]
    help: str


@dataclass(frozen=True)
class RuleInfo:
    """What the configuration needs to know of a rule without importing torch.

    Attributes:
        control: None, "run" for a control that repeats the betas of a parent run, or "formula" for one that only takes a
            parent's parameters.
        reference_in_loop: whether the reference must run in every step.
    """

    name: str
    target: str
    summary: str
    params: Mapping[str, Param] = field(default_factory=dict)
    learned: bool = False
    dynamic: bool = True
    control: str | None = None
    reference_in_loop: bool = False


#: TRL's losses that multiply by beta pair by pair. `aot` and `aot_unpaired` sort the batch first, `sft` has no beta.
PREF_LOSSES = (
    "sigmoid",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "apo_zero",
    "apo_down",
    "discopop",
    "sigmoid_norm",
)


def _pref_loss(value: Any) -> str | None:
    if value in ("aot", "aot_unpaired"):
        return f"another loss: {value} sorts the pairs of a batch, so a beta would not stay with its pair"
    return one_of(*PREF_LOSSES)(value)


PREF_BETA = Param(0.1, _positive, "the fixed beta, or the beta a dynamic rule starts from")
_PREF_LOSS = Param("sigmoid", _pref_loss, "TRL's loss_type")
_SIGMOID = Param("sigmoid", one_of("sigmoid"), "the loss this method is defined for")
_BOTH = {"pref_beta": PREF_BETA, "pref_loss": _PREF_LOSS}

_PPL: dict[str, Param] = {
    "ppl_of": Param("prompt", one_of("prompt", "response", "both"), "whose perplexity"),
    "ppl_tokens": Param(
        "all", one_of("all", "user"), "prompt tokens that count: all, or the user's words without the chat template"
    ),
}

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

_CONTROL: dict[str, Param] = {
    "pref_beta": Param(0.1, _positive, "beta0 that losses are compared at; the parent's unless given"),
    "pref_loss": _PREF_LOSS,
}

BUILTIN: dict[str, RuleInfo] = {
    info.name: info
    for info in (
        RuleInfo(
            "fixed",
            "trainers.rules.published.constant:Fixed",
            "beta = pref_beta (DPO, arXiv 2305.18290)",
            _BOTH,
            dynamic=False,
        ),
        RuleInfo(
            "foodpo",
            "trainers.rules.published.foodpo:FooDPO",
            "beta(x) = c * log(max(PPL(x), 1)) * pref_beta",
            {
                **_BOTH,
                "pref_beta_scale": Param(0.5, _number, "c; c <= 0 falls back to the fixed beta"),
                "scale_schedule": Param(
                    "constant", one_of("constant", "linear", "cosine"), "how c moves over training"
                ),
                "pref_beta_scale_end": Param(None, _optional_positive, "c at the end of a linear or cosine schedule"),
                **_PPL,
                "attach_ppl": Param(False, _boolean, "let the gradient flow through the perplexity"),
            },
        ),
        RuleInfo(
            "beta_head",
            "trainers.rules.learned:BetaHead",
            "beta(x) = softplus(v(h)), h the policy's last hidden state",
            {**_BOTH, **_LEARNED},
            learned=True,
        ),
        RuleInfo(
            "learnable",
            "trainers.rules.learned:Learnable",
            "beta(x) = w * log PPL(x) * (1 + eps * tanh(NN(h)))",
            {
                **_BOTH,
                **_LEARNED,
                "epsilon": Param(0.3, _non_negative, "eps, the largest relative change that f(x) makes"),
                "network": Param("mlp", one_of("linear", "mlp", "transformer"), "the shape of NN"),
                "width": Param(64, _count, "width of the MLP or transformer"),
                **_PPL,
            },
            learned=True,
        ),
        RuleInfo("dataset_beta", "trainers.rules.published.constant:DatasetBeta", "the dataset's column beta", _BOTH),
        RuleInfo(
            "beta_dpo",
            "trainers.rules.published.beta_dpo:BetaDPO",
            "one beta per batch from its margins, outliers filtered (arXiv 2407.08639)",
            {
                "pref_beta": PREF_BETA,
                "pref_loss": _SIGMOID,
                "a": Param(0.6, _non_negative, "how strongly beta follows the batch's margin"),
                "keep": Param(0.8, _share, "share of the pairs that is kept"),
                "momentum": Param(0.9, _below_one, "of the moving averages"),
                "beta_min": Param(1e-3, _positive, "lower bound of beta"),
            },
        ),
        RuleInfo(
            "epsilon_dpo",
            "trainers.rules.published.epsilon_dpo:EpsilonDPO",
            "beta / (1 + eps * step) from perturbed logits (arXiv 2502.13177); runs the reference in every step",
            {
                "pref_beta": Param(0.01, _positive, "beta at the first step"),
                "pref_loss": _SIGMOID,
                "epsilon": Param(0.01, _below_one, "size of the perturbation"),
            },
            reference_in_loop=True,
        ),
        RuleInfo(
            "mallows",
            "trainers.rules.published.mallows:Mallows",
            "beta from the entropy of the reference's answers (MallowsPO-theta, arXiv 2405.14953)",
            {**_BOTH, "phi": Param(0.29, _positive, "phi of beta * (-phi * log H)")},
        ),
        RuleInfo(
            "alpha_dpo",
            "trainers.rules.published.alpha_dpo:AlphaDPO",
            "length-averaged scores, a margin that follows the reference (arXiv 2410.10148)",
            {
                "pref_beta": Param(2.5, _positive, "beta of the length-averaged scores"),
                "pref_loss": _SIGMOID,
                "gamma_beta_ratio": Param(0.6, _non_negative, "gamma / beta"),
                "alpha": Param(0.2, _non_negative, "weight of the standardised log-ratio margin"),
                "momentum": Param(0.9, _below_one, "of the moving averages"),
            },
            dynamic=False,
        ),
        RuleInfo(
            "inverse",
            "trainers.rules.controls:Inverse",
            "control: beta proportional to 1 / log PPL(x), FooDPO's mean",
            {**_BOTH, "pref_beta_scale": Param(0.5, _positive, "c of the FooDPO whose mean it has"), **_PPL},
            control="formula",
        ),
        RuleInfo(
            "matched_mean",
            "trainers.rules.controls:MatchedMean",
            "control: fixed beta = the parent run's mean beta",
            _CONTROL,
            dynamic=False,
            control="run",
        ),
        RuleInfo(
            "permuted",
            "trainers.rules.controls:Permuted",
            "control: the parent's betas shuffled across examples",
            {**_CONTROL, "window": Param(64, _count, "steps shuffled together where a step has one pair")},
            control="run",
        ),
        RuleInfo(
            "weight_only",
            "trainers.rules.controls:WeightOnly",
            "control: constant beta, loss weighted by the parent's beta_i / mean",
            _CONTROL,
            dynamic=False,
            control="run",
        ),
        RuleInfo(
            "saturation_only",
            "trainers.rules.controls:SaturationOnly",
            "control: the parent's beta_i in the sigmoid, loss divided by beta_i / mean",
            _CONTROL,
            control="run",
        ),
    )
}


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
    if known.learned and not filled["beta_min_ratio"] < 1 < filled["beta_max_ratio"]:
        raise RuleError(f"rule {rule!r}: beta_min_ratio must be below 1 and beta_max_ratio above 1")
    if "scale_schedule" in filled:
        _check_schedule(rule, filled["scale_schedule"], filled["pref_beta_scale"], filled["pref_beta_scale_end"])
    return filled


def _check_schedule(rule: str, schedule: str, start: float, end: float | None) -> None:
    moves = schedule != "constant"
    if moves and end is None:
        raise RuleError(f"rule {rule!r}: scale_schedule {schedule!r} needs pref_beta_scale_end")
    if moves and start <= 0:
        raise RuleError(f"rule {rule!r}: pref_beta_scale must be above 0 where scale_schedule moves it")
    if not moves and end is not None:
        raise RuleError(f"rule {rule!r}: pref_beta_scale_end has no effect unless scale_schedule is linear or cosine")


def build(rule: str, params: Mapping[str, Any], hidden_size: int) -> BetaRule:
    """Instantiate a rule for a policy with hidden states of width `hidden_size`.

    Raises:
        RuleError: unknown rule or parameters it does not take.
    """
    from trainers.rules.base import BetaRule

    filled = validate(rule, params)
    built: BetaRule = _registry(BetaRule).build(rule, {"hidden_size": hidden_size, **filled})
    built.rule_name, built.rule_params = rule, filled
    return built
