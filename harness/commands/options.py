"""Types of command-line options: numbers within bounds, lists of them, names."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from typing import Any


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


def print_json(value: Any, **more: Any) -> None:
    """One JSON object for scripts."""
    json.dump(value, sys.stdout, indent=1, allow_nan=False, **more)
    print()
