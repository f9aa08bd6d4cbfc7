"""What a rule's entry in the catalogue is made of: parameters with their checks, and sets of them that rules share."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Check = Callable[[Any], str | None]


def _expect(expected: str, good: Callable[[Any], bool]) -> Check:
    """A check that returns `expected` for a value that is not good, else None."""
    return lambda value: None if good(value) else expected


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def one_of(*choices: str) -> Check:
    """A check that a value is one of `choices`."""
    return _expect("one of " + ", ".join(choices), lambda value: value in choices)


NUMBER = _expect("a finite number", _is_number)
POSITIVE = _expect("a number above 0", lambda value: _is_number(value) and value > 0)
OPTIONAL_POSITIVE = _expect("a number above 0, or null", lambda value: value is None or POSITIVE(value) is None)
NON_NEGATIVE = _expect("a number of at least 0", lambda value: _is_number(value) and value >= 0)
BELOW_ONE = _expect("a number of at least 0, below 1", lambda value: _is_number(value) and 0 <= value < 1)
SHARE = _expect("a number above 0, at most 1", lambda value: _is_number(value) and 0 < value <= 1)
BOOLEAN = _expect("true or false", lambda value: isinstance(value, bool))
COUNT = _expect("a whole number above 0", lambda value: type(value) is int and value > 0)
HALF = _expect("a number of at least 0, below 0.5", lambda value: _is_number(value) and 0 <= value < 0.5)
COLUMN = _expect("the name of a column of numbers", lambda value: isinstance(value, str) and bool(value.strip()))


@dataclass(frozen=True)
class Param:
    """One parameter: its default and a check that returns what was expected, or None if the value is good.

    `later`: it came after runs were trained, and at its default it is not part of their identity.
    """

    default: Any
    check: Callable[[Any], str | None]
    help: str
    later: bool = False


@dataclass(frozen=True)
class RuleInfo:
    """What the configuration needs to know of a rule without importing torch.

    Attributes:
        control: None, "run" for a control that repeats the betas of a parent run, or "formula" for one that only takes a
            parent's parameters.
        reference_in_loop: whether the reference must run in every step.
        own: what it has of its own beside a beta: "loss" (weights, masks or adds to the pairs' losses), or "score" (replaces
            the log-ratio margin too, so an f-divergence has no part in it).
        batch_statistics: whether a pair's loss depends on the others of its micro-batch (unless its parameter `alpha` is 0).
        reads_prompt: whether its betas depend on the prompt's tokens as the policy reads them.
        version: raised where the numbers of its runs change; part of their identity from 2 on.
    """

    name: str
    target: str
    summary: str
    params: Mapping[str, Param] = field(default_factory=dict)
    learned: bool = False
    dynamic: bool = True
    control: str | None = None
    reference_in_loop: bool = False
    own: str = ""
    batch_statistics: bool = False
    reads_prompt: bool = False
    version: int = 1


#: TRL's losses that multiply by beta pair by pair, and cDPO, which TRL lacks. `aot` and `aot_unpaired` sort the batch first,
#: `sft` has no beta: it only goes beside others.
PREF_LOSSES = (
    "sigmoid",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "cdpo",
    "robust",
    "bco_pair",
    "sppo_hard",
    "apo_zero",
    "apo_down",
    "discopop",
    "sigmoid_norm",
)


#: Losses that read training.label_smoothing.
SMOOTHED = ("exo_pair", "cdpo", "robust")
LOSSES_EXPECTED = f"one of {', '.join(PREF_LOSSES)}, or a list of several, sft among them, with training.loss_weights"


def _pref_loss(value: Any) -> str | None:
    names = value if isinstance(value, list) else [value]
    if value in ("aot", "aot_unpaired"):
        return f"another loss: {value} sorts the pairs of a batch, so a beta would not stay with its pair"
    good = all(name in PREF_LOSSES or (name == "sft" and len(names) > 1) for name in names)
    return None if good and len({*map(str, names)}) == len(names) > 0 else LOSSES_EXPECTED


def losses_of(params: Mapping[str, Any]) -> list[str]:
    """The names under `pref_loss`, which is one or a list."""
    loss = params.get("pref_loss", "sigmoid")
    return list(loss) if isinstance(loss, list) else [loss]


PREF_BETA = Param(0.1, POSITIVE, "the fixed beta, or the beta a dynamic rule starts from")
PREF_LOSS = Param("sigmoid", _pref_loss, "TRL's loss_type")
SIGMOID = Param("sigmoid", one_of("sigmoid"), "the loss this method is defined for")
BOTH = {"pref_beta": PREF_BETA, "pref_loss": PREF_LOSS}

PPL: dict[str, Param] = {
    "ppl_of": Param("prompt", one_of("prompt", "response", "both"), "whose perplexity"),
    "ppl_tokens": Param(
        "all", one_of("all", "user"), "prompt tokens that count: all, or the user's words without the chat template"
    ),
}

LEARNED: dict[str, Param] = {
    "head_learning_rate": Param(1e-3, POSITIVE, "learning rate of the head, apart from the policy's"),
    "anchor": Param(0.1, NON_NEGATIVE, "lambda of the penalty lambda * (log beta / pref_beta)^2; 0 switches it off"),
    "beta_min_ratio": Param(0.1, POSITIVE, "lower bound of beta, as a multiple of pref_beta"),
    "beta_max_ratio": Param(10.0, POSITIVE, "upper bound of beta, as a multiple of pref_beta"),
    "aggregation": Param(
        "last_prompt_token",
        one_of("last_prompt_token", "mean_prompt", "last_completion_token"),
        "which hidden states the head reads; last_completion_token sees the chosen answer (flagged in the report)",
    ),
    "head_gradient_to_policy": Param(False, BOOLEAN, "let the head's gradient reach the policy"),
}

SCHEDULE: dict[str, Param] = {
    "scale_schedule": Param("constant", one_of("constant", "linear", "cosine"), "how c moves over training"),
    "pref_beta_scale_end": Param(None, OPTIONAL_POSITIVE, "c at the end of a linear or cosine schedule"),
}
SHAPE: dict[str, Param] = {
    "power": Param(1.0, POSITIVE, "k of (log PPL)^k: the spread of log beta grows with it", later=True),
    "rescale": Param(
        "none", one_of("none", "mean"), "mean: pref_beta is the mean of beta over the training prompts", later=True
    ),
}
START = Param(
    "zero",
    one_of("zero", "first"),
    "where moving averages start: at 0 (the authors' code) or the first batch",
    later=True,
)
SMOOTHING = Param(0.1, HALF, "share of labels taken to be flipped")


def sigmoid_only(**params: Param) -> dict[str, Param]:
    return {"pref_beta": PREF_BETA, "pref_loss": SIGMOID, **params}


CONTROL: dict[str, Param] = {
    "pref_beta": Param(0.1, POSITIVE, "beta0 that losses are compared at; the parent's unless given"),
    "pref_loss": PREF_LOSS,
}
