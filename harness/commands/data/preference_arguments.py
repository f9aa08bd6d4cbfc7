"""What build-preferences can be told, which of it goes together, and the command line that says it again."""

import argparse
import contextlib
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from evals.judges.registry import JUDGES
from evals.preferences.flips import COLUMNS
from evals.preferences.pairs import PAIRINGS
from evals.preferences.rejected import STRATEGIES
from evals.rewards.registry import available
from harness.commands.options import DEFAULT_MODEL, argument, number, whole
from harness.config import refuse

#: What the shipped data was built with.
TRAIN_PROMPTS, HELDOUT_PROMPTS = 896, 288


def _shares(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: give a share as in 0.3, or three as in 0.4,0.2,0") from None


def _named_shares(text: str) -> dict[str, float]:
    try:
        pairs = [part.partition(":") for part in text.split(",")]
        return {name.strip(): float(share) for name, _, share in pairs}
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: give names and shares, as in train:0.7,dev:0.1,test:0.2") from None


def _param(text: str) -> tuple[str, Any]:
    name, mark, value = text.partition("=")
    with contextlib.suppress(yaml.YAMLError):
        if mark and name.strip():
            return name.strip(), yaml.safe_load(value)
    raise argparse.ArgumentTypeError(f"{text!r}: give KEY=VALUE, as in model=path/to/checkpoint")


_STRATEGIES = sorted(STRATEGIES.available())
_NAMED = ", ".join(name for name in available() if name not in JUDGES.available())

ARGUMENTS = (
    argument("--out", type=Path, required=True, help="folder (of --pairs and --chosen-only: the file) to write"),
    argument("--model", default=DEFAULT_MODEL, help="policy to sample (default: %(default)s)"),
    argument(
        "--prompts-from", metavar="SOURCE", help="prompts to answer (default: a bank of prompts with constraints)"
    ),
    argument("--prompts", type=whole(1), help=f"training prompts (default: {TRAIN_PROMPTS}, or all of SOURCE)"),
    argument(
        "--heldout", type=whole(1), help=f"prompts of other splits (default: {HELDOUT_PROMPTS}, or all of SOURCE)"
    ),
    argument(
        "--split-by", metavar="COLUMN", help="split SOURCE so that no value of COLUMN, say topic, is in two splits"
    ),
    argument(
        "--split-shares",
        type=_named_shares,
        metavar="NAME:SHARE,...",
        help="with --split-by (default: train:0.7,dev:0.1,test:0.2)",
    ),
    argument("--reward", default="constraints", metavar="NAME", help=f"{_NAMED}, a judge, FILE.py:Class"),
    argument(
        "--reward-param",
        type=_param,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="of the reward; repeatable",
    ),
    argument("--k", type=int, default=4, help="answers sampled a prompt (default: %(default)s)"),
    argument("--pairing", choices=PAIRINGS, default="best-worst", help="which answers to pair (default: %(default)s)"),
    argument("--min-gap", type=number(0), default=0.0, metavar="GAP", help="least difference in score (default: any)"),
    argument("--seed", type=int, default=0, help="of sampling, ties, splits and flips (default: %(default)s)"),
    argument("--max-new-tokens", type=int, default=64, help="default: %(default)s"),
    argument("--temperature", type=float, default=1.0, help="default: %(default)s"),
    argument("--top-p", type=float, default=1.0, help="default: %(default)s"),
    argument("--backend", choices=("auto", "vllm", "transformers"), default="auto"),
    argument("--pairs", metavar="SOURCE", help="flip these pairs instead of sampling new ones; needs --flip"),
    argument("--flip", type=_shares, metavar="SHARE", help="share of training pairs to flip; three with --flip-by"),
    argument(
        "--flip-by", choices=tuple(COLUMNS), help="a share for each tercile of prompt perplexity: low,middle,high"
    ),
    argument(
        "--flip-beta-ratio",
        type=float,
        default=30.0,
        metavar="R",
        help="beta of clean pairs over that of flipped ones (default: 30)",
    ),
    argument(
        "--pref-beta", type=float, default=0.1, help="with --flip, mean of the column beta (default: %(default)s)"
    ),
    argument("--chosen-only", type=Path, metavar="FILE", help="prompts with one answer each: make the rejected one"),
    argument(
        "--strategy",
        metavar="NAME",
        choices=_STRATEGIES,
        help=f"with --chosen-only, how: {', '.join(_STRATEGIES)}",
    ),
)


def check_together(options: argparse.Namespace) -> None:
    """Refuse options that exclude one another.

    Raises:
        UserError: the first such options, with the fix.
    """
    given = [flag for flag in ("chosen_only", "pairs", "prompts_from") if getattr(options, flag)]
    names = " and ".join("--" + flag.replace("_", "-") for flag in given)
    flips = options.flip is not None
    refuse(
        (
            bool(options.chosen_only) != bool(options.strategy),
            "--chosen-only and --strategy belong together; give both",
        ),
        (len(given) > 1, f"{names} are different sources of pairs; give one of them"),
        (bool(options.pairs) and not flips, "--pairs needs --flip, the share of pairs to flip; add it"),
        (
            bool(options.chosen_only) and flips,
            "--flip does not go with --chosen-only; flip the finished file with --pairs FILE --flip SHARE",
        ),
        (bool(options.flip_by) and not flips, "--flip-by needs --flip with three shares, as in --flip 0.4,0.2,0"),
        (
            bool(options.split_by) and not options.prompts_from,
            "--split-by splits the prompts of --prompts-from; add that, or remove it",
        ),
        (bool(options.split_shares) and not options.split_by, "--split-shares needs --split-by COLUMN"),
    )


def command_line(options: argparse.Namespace, sets: Mapping[str, Sequence[Any]]) -> str:
    """The command that makes the same files again."""
    numbers: tuple[tuple[str, Any], ...] = (("--prompts", options.prompts), ("--heldout", options.heldout))
    if options.prompts_from is None:
        numbers = (("--prompts", len(sets["train"])), ("--heldout", len(sets["heldout"])))
    shares = ",".join(f"{name}:{share:g}" for name, share in (options.split_shares or {}).items())
    more: list[tuple[str, Any]] = [
        ("--prompts-from", options.prompts_from),
        ("--split-by", options.split_by),
        ("--split-shares", shares or None),
        ("--reward", options.reward if options.reward != "constraints" else None),
        *(("--reward-param", f"{key}={json.dumps(value)}") for key, value in options.reward_param),
        ("--pairing", options.pairing if options.pairing != "best-worst" else None),
        ("--min-gap", options.min_gap or None),
    ]
    if options.flip is not None:
        more += [("--flip", ",".join(f"{share:g}" for share in options.flip)), ("--flip-by", options.flip_by)]
        more += [("--flip-beta-ratio", options.flip_beta_ratio), ("--pref-beta", options.pref_beta)]
    always = [
        ("--k", options.k),
        ("--seed", options.seed),
        ("--max-new-tokens", options.max_new_tokens),
        ("--temperature", options.temperature),
        ("--top-p", options.top_p),
    ]
    words = [("--model", options.model), *numbers, *more, *always, ("--out", options.out)]
    given = " ".join(f"{flag} {shlex.quote(str(value))}" for flag, value in words if value is not None)
    return f"python -m harness build-preferences {given}"
