"""Registry of verifiable constraints: each kind has a natural-language instruction and an exact check.

A constraint is plain data, ``{"kind": str, "args": {...}}``, so it travels in JSONL. New kinds are added from outside:

    @register("no_emoji")
    class NoEmoji(Constraint):
        def describe(self, args): return "Do not use emoji."
        def check(self, text, args): return not EMOJI.search(text)
"""

from __future__ import annotations

import difflib
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, TypeVar

from evals.constraints.text import is_empty

Args = Mapping[str, Any]
Arguments = Mapping[str, "Arg"]


class ConstraintError(ValueError):
    """A constraint that cannot be checked: unknown kind, or missing, unknown or ill-typed arguments."""


@dataclass(frozen=True)
class Arg:
    """One argument of a constraint: a predicate on its value and the words that say what is expected."""

    valid: Callable[[Any], bool]
    expected: str
    required: bool = True


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_texts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(_is_text(item) for item in value)


def count_arg() -> Arg:
    """An integer of at least 1."""
    return Arg(_is_count, "an integer >= 1")


def text_arg() -> Arg:
    """A string with at least one visible character."""
    return Arg(_is_text, "a non-empty string")


def texts_arg(required: bool = True) -> Arg:
    """A non-empty list of non-empty strings."""
    return Arg(_is_texts, "a non-empty list of non-empty strings", required)


def choice_arg(*options: str) -> Arg:
    """One of the given strings."""
    return Arg(lambda value: isinstance(value, str) and value in options, "one of " + ", ".join(options))


class Constraint(ABC):
    """One kind of constraint. ``arguments`` declares its arguments; both methods get validated ones."""

    arguments: ClassVar[Arguments] = {}

    @abstractmethod
    def describe(self, args: Args) -> str:
        """The instruction to put into a prompt, one English sentence."""

    @abstractmethod
    def check(self, text: str, args: Args) -> bool:
        """Whether ``text`` obeys the instruction. Never called for an empty answer."""


C = TypeVar("C", bound=type[Constraint])
_KINDS: dict[str, Constraint] = {}


def register(kind: str) -> Callable[[C], C]:
    """Class decorator that adds a constraint kind; a name already taken is an error.

    A file outside the package may be loaded several times (by `path/to/file.py:Class`): its own class again is no error.
    """

    def add(cls: C) -> C:
        known = _KINDS.get(kind)
        if known is not None and (type(known) is cls or _place(type(known)) != _place(cls)):
            raise ConstraintError(f"constraint kind {kind!r} is already registered; choose another name")
        _KINDS[kind] = cls()
        return cls

    return add


def _place(cls: type[Constraint]) -> tuple[str, str]:
    return cls.check.__code__.co_filename, cls.__qualname__


def kinds() -> tuple[str, ...]:
    """The registered kinds, sorted."""
    return tuple(sorted(_KINDS))


def get(kind: Any) -> Constraint:
    """The constraint of that kind.

    Raises:
        ConstraintError: unknown kind; the message names the nearest known one.
    """
    if isinstance(kind, str) and kind in _KINDS:
        return _KINDS[kind]
    near = difflib.get_close_matches(str(kind), _KINDS, n=1, cutoff=0.0)
    raise ConstraintError(f"unknown constraint kind {kind!r}; the nearest is {near[0]!r}, all: {', '.join(kinds())}")


def code_of(kind: str) -> str | None:
    """SHA-256 (hex) of the file that defines a kind from outside the package; None for the package's own.

    Raises:
        ConstraintError: unknown kind.
    """
    cls = type(get(kind))
    return None if cls.__module__.partition(".")[0] == "evals" else _file_hash(_place(cls)[0])


@lru_cache
def _file_hash(path: str) -> str | None:
    try:
        with open(path, "rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError:  # defined in a console
        return None


def resolve(constraint: Mapping[str, Any]) -> tuple[str, Constraint, dict[str, Any]]:
    """Validate ``{"kind", "args"}`` and return (kind, checker, args).

    Raises:
        ConstraintError: not a mapping, unknown kind, or arguments that are missing, unknown or of the wrong type.
    """
    if not isinstance(constraint, Mapping) or "kind" not in constraint:
        raise ConstraintError(f"a constraint is a mapping with 'kind' and 'args', got {constraint!r}")
    extra = sorted(set(constraint) - {"kind", "args"})
    if extra:
        raise ConstraintError(f"constraint {constraint['kind']!r} has unknown keys {extra}; put them under 'args'")
    kind = constraint["kind"]
    checker = get(kind)
    raw = constraint.get("args")
    args = {} if raw is None else raw
    if not isinstance(args, Mapping):
        raise ConstraintError(f"constraint {kind!r}: 'args' must be a mapping, got {args!r}")
    for name in args:
        if name not in checker.arguments:
            known = ", ".join(checker.arguments) or "none"
            raise ConstraintError(f"constraint {kind!r}: unknown argument {name!r}; it takes: {known}")
    for name, arg in checker.arguments.items():
        if name not in args:
            if arg.required:
                raise ConstraintError(f"constraint {kind!r}: argument {name!r} is missing; give {arg.expected}")
        elif not arg.valid(args[name]):
            raise ConstraintError(f"constraint {kind!r}: {name}={args[name]!r} is not {arg.expected}")
    return str(kind), checker, dict(args)


def describe(constraint: Mapping[str, Any]) -> str:
    """The English instruction of a constraint (raises ``ConstraintError`` where it is malformed)."""
    _, checker, args = resolve(constraint)
    return checker.describe(args)


def check(text: str, constraint: Mapping[str, Any]) -> bool:
    """Whether ``text`` obeys the constraint. An answer without a letter or digit obeys none."""
    _, checker, args = resolve(constraint)
    return not is_empty(text) and checker.check(text, args)
