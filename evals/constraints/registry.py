"""Registry of verifiable constraints: each kind has a natural-language instruction and an exact check.

A constraint is plain data, ``{"kind": str, "args": {...}}``, so it travels in JSONL. New kinds are added from outside:

    @register("no_emoji")
    class NoEmoji(Constraint):
        def describe(self, args): return "Do not use emoji."
        def check(self, text, args): return not EMOJI.search(text)
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from evals.constraints.text import is_empty
from trainers.common import Json, Registry, UserError, file_hash, problem_of

RULE = "gold_reward/1: share of the prompt's constraints satisfied by exact checks; an empty answer satisfies none"
"""Text and version of the rule, kept with every pair it decided."""
_STRICT = ConfigDict(extra="forbid", strict=True)
Args = Mapping[str, Any]
#: Name -> (type, default), as pydantic's create_model takes them; `...` for an argument that must be given.
Arguments = Mapping[str, Any]
_Text = Annotated[str, Field(pattern=r"\S", description="a non-empty string")]


class ConstraintError(UserError):
    """A constraint that cannot be checked: unknown kind, or missing, unknown or ill-typed arguments."""


def count_arg() -> tuple[Any, Any]:
    """An integer of at least 1."""
    return Annotated[int, Field(ge=1, description="an integer >= 1")], ...


def text_arg() -> tuple[Any, Any]:
    """A string with at least one visible character."""
    return _Text, ...


def texts_arg(required: bool = True) -> tuple[Any, Any]:
    """A non-empty list of non-empty strings."""
    texts = Annotated[list[_Text], Field(min_length=1, description="a non-empty list of non-empty strings")]
    return texts, ... if required else None


def choice_arg(*options: str) -> tuple[Any, Any]:
    """One of the given strings."""
    return Annotated[Literal[options], Field(description=f"one of {', '.join(options)}")], ...


class Constraint(ABC):
    """One kind of constraint. ``arguments`` declares its arguments; both methods get validated ones."""

    arguments: ClassVar[Arguments] = {}
    #: What ``describe`` fills in where a kind has no method of its own: its arguments by name, and {s} for more than one.
    instruction: ClassVar[str]

    def describe(self, args: Args) -> str:
        """The instruction to put into a prompt, one English sentence."""
        relation = str(args.get("relation")).replace("_", " ")
        return self.instruction.format_map({**args, "relation": relation, "s": "" if args.get("n") == 1 else "s"})

    @abstractmethod
    def check(self, text: str, args: Args) -> bool:
        """Whether ``text`` obeys the instruction. Never called for an empty answer."""


KINDS = Registry("constraint kind", {}, (), (Constraint,), ConstraintError)
register = KINDS.register
Holds = Callable[[str, Args], bool]


def builtin(instruction: str | Callable[[Args], str], **arguments: Any) -> Callable[[Holds], Holds]:
    """Decorator that makes a function a kind of its name: it gets an answer that is not empty, and validated arguments.

    Args:
        instruction: as `Constraint.instruction`, or a function of the arguments that gives it.
        arguments: as `Constraint.arguments`.
    """

    def add(holds: Holds) -> Holds:
        said = {"describe": lambda self, args: instruction(args)} if callable(instruction) else {}
        members = {name: getattr(holds, name) for name in ("__module__", "__doc__")} | said
        members |= {"arguments": arguments, "instruction": instruction, "check": staticmethod(holds)}
        register(holds.__name__)(type(holds.__name__, (Constraint,), members))
        return holds

    return add


class _Spec(BaseModel):
    """A constraint as it is written."""

    model_config = _STRICT
    kind: str
    args: Json | None = None


def kinds() -> tuple[str, ...]:
    """The registered kinds, sorted."""
    return tuple(sorted(KINDS.added))


_hash_of = cache(file_hash)  # asked for with every answer


def code_of(kind: str) -> str | None:
    """SHA-256 (hex) of the file that defines a kind from outside the package; None for the package's own.

    Raises:
        ConstraintError: unknown kind.
    """
    file = KINDS.file_of(kind)
    outside = not KINDS.load(kind).__module__.startswith("evals.")
    return _hash_of(file) if outside and file.is_file() else None


@cache
def _settings(cls: type[Constraint]) -> type[BaseModel]:
    return create_model(cls.__name__, __config__=_STRICT, **cls.arguments)


def resolve(constraint: Mapping[str, Any]) -> tuple[str, Constraint, Args]:
    """Validate ``{"kind", "args"}`` and return (kind, checker, args).

    Raises:
        ConstraintError: not a mapping, unknown kind, or arguments that are missing, unknown or of the wrong type.
    """
    try:
        spec = _Spec.model_validate(constraint)
    except ValidationError as error:
        raise ConstraintError(
            f"a constraint is a mapping with 'kind' and 'args', got {constraint!r} ({problem_of(error)}); its arguments "
            "belong under 'args'"
        ) from None
    cls = KINDS.load(spec.kind)
    try:
        args = _settings(cls).model_validate(spec.args or {})
    except ValidationError as error:
        takes = ", ".join(f"{name} ({found.description})" for name, found in _settings(cls).model_fields.items())
        raise ConstraintError(f"constraint {spec.kind!r}: {problem_of(error)}; it takes: {takes or 'none'}") from None
    return spec.kind, cls(), args.model_dump(exclude_unset=True)


def describe(constraint: Mapping[str, Any]) -> str:
    """The English instruction of a constraint (raises ``ConstraintError`` where it is malformed)."""
    _, checker, args = resolve(constraint)
    return checker.describe(args)


def check(text: str, constraint: Mapping[str, Any]) -> bool:
    """Whether ``text`` obeys the constraint. An answer without a letter or digit obeys none."""
    _, checker, args = resolve(constraint)
    return not is_empty(text) and checker.check(text, args)


@dataclass(frozen=True)
class Check:
    """One constraint of a prompt, checked: its kind, its English instruction, and whether the answer obeys it."""

    constraint: str
    instruction: str
    passed: bool


@dataclass(frozen=True)
class Result:
    """Score in [0, 1] (share of constraints satisfied), whether all are, and the single checks in order."""

    score: float
    all_satisfied: bool
    checks: tuple[Check, ...]


def gold_reward(text: str, constraints: Sequence[Mapping[str, Any]]) -> Result:
    """Check an answer against the constraints of its prompt.

    Args:
        text: the answer.
        constraints: at least one ``{"kind", "args"}``.

    Raises:
        ConstraintError: no constraints, or a malformed one.
    """
    if not constraints:
        raise ConstraintError("a gold reward needs at least one constraint; the prompt has none")
    empty = is_empty(text)
    checks = []
    for constraint in constraints:
        kind, checker, args = resolve(constraint)
        checks.append(Check(kind, checker.describe(args), not empty and checker.check(text, args)))
    passed = sum(check.passed for check in checks)
    return Result(passed / len(checks), passed == len(checks), tuple(checks))
