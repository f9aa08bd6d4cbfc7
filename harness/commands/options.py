"""How a verb is declared, and the types of its options: numbers within bounds, lists of them, names."""

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

DEFAULT_OUTPUT = "output/dpo_metrics"
#: Sampled, or measured, where no --model is given.
DEFAULT_MODEL = "embedded:smollm2-135m-instruct"


class Argument(NamedTuple):
    """An option or positional argument: what `ArgumentParser.add_argument` is told."""

    names: tuple[str, ...]
    settings: Mapping[str, Any]


def argument(*names: str, **settings: Any) -> Argument:
    """An argument, written as for `ArgumentParser.add_argument`."""
    return Argument(names, settings)


class Verb(NamedTuple):
    """A verb of the command line.

    Attributes:
        module: its `run(options)`, or the function after `:`, does the work and returns the exit code; imported for that alone.
        help: one line. epilog: what stands below the options, with examples.
        arguments: of the verb, or a function that lists them where that needs imports.
        anywhere: it works in any environment: it computes nothing with the libraries, or says what is wrong with them.
    """

    module: str
    help: str
    epilog: str
    arguments: Sequence[Argument] | Callable[[], Sequence[Argument]] = ()
    anywhere: bool = False


def examples(*lines: str) -> str:
    """The epilog of a verb whose options say the rest: what comes after `python -m harness`, a line each."""
    return "\n".join(["examples:", *(f"  python -m harness {line}" for line in lines)])


OUTPUT = argument("--output", type=Path, default=Path(DEFAULT_OUTPUT), help="default: %(default)s")
JSON = argument("--json", action="store_true", help="one JSON object for scripts")
SET = argument(
    "--set", action="append", default=[], metavar="KEY=VALUE", help="change a value of the matrix file; dotted key"
)
RETRY = argument("--retry-failed", action="store_true", help="try runs again that failed for a lasting reason")


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """A whole number from `least`, up to `most`."""

    def read(text: str) -> int:
        value = int(text) if text.strip().isdecimal() else -1
        if value < least or (most is not None and value > most):
            bounds = f"of at least {least}" if most is None else f"of {least} to {most}"
            raise argparse.ArgumentTypeError(f"{text!r}: give a whole number {bounds}")
        return value

    return read


def wholes(least: int, most: int | None = None) -> Callable[[str], list[int]]:
    """Whole numbers with commas between them."""
    one = whole(least, most)
    return lambda text: [one(part) for part in text.split(",")]


def number(least: float, most: float = math.inf, above: bool = False) -> Callable[[str], float]:
    """A finite number from `least` to `most`; not `least` itself with `above`."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and least <= value <= most and not (above and value == least)):
            upper = "" if most == math.inf else f", at most {most:g}"
            raise argparse.ArgumentTypeError(
                f"{text!r}: give a number {'above' if above else 'of at least'} {least:g}{upper}"
            )
        return value

    return read


def names(text: str) -> tuple[str, ...]:
    """Names with commas between them."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def pair(text: str) -> tuple[str, str]:
    """Two names with a comma between them."""
    found = names(text)
    if len(set(found)) != 2:
        raise argparse.ArgumentTypeError(f"{text!r}: give two names with a comma between them")
    return found[0], found[1]


def short(path: Path) -> str:
    """A path relative to the working directory where that is shorter."""
    relative = os.path.relpath(path)
    return relative if not relative.startswith("..") else str(path)


def print_json(value: Any, **more: Any) -> None:
    """One JSON object for scripts."""
    json.dump(value, sys.stdout, indent=1, allow_nan=False, **more)
    print()
