"""Executors by name, or `path/to/file.py:ClassName`. Add one: write a subclass of Executor and a line here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pydantic import ValidationError

from harness.config import MatrixConfig, Source, explain
from harness.executors.base import Executor, Settings
from trainers.common import UserError
from trainers.common.plugins import Registry

if TYPE_CHECKING:
    from harness.plan.plan import Plan

EXECUTORS = {
    "local": "harness.executors.local:LocalExecutor",
    "ray": "harness.executors.ray:RayExecutor",
}
_REGISTRY = Registry("executor", EXECUTORS, ("dpo_beta_harness.executors",), (Executor,), UserError)


def settings_of(config: MatrixConfig, source: Source) -> tuple[type[Executor], Settings]:
    """The executor of a matrix and its checked settings.

    Raises:
        UserError: an unknown kind, or keys that it does not take.
    """
    kind = config.executor.kind
    file, where = _REGISTRY.source_file(kind), source.at("executor", "kind")
    path = (source.path.parent / file.expanduser()).resolve() if file is not None else None
    try:
        cls = _REGISTRY.load(kind if path is None else f"{path}:{kind.rpartition(':')[2]}")
    except UserError as error:
        hint = ", or path/to/file.py:ClassName" if file is None else ""
        raise UserError(f"{where} is {kind!r}; {error}{hint}") from None
    if not (isinstance(cls, type) and issubclass(cls, Executor)):
        raise UserError(f"{where} is {kind!r}; {cls!r} must subclass harness.executors.base.Executor")
    try:
        return cls, cls.Settings.model_validate(config.executor.model_dump())
    except ValidationError as error:
        lines = [explain({**one, "loc": ("executor", *one["loc"])}, source, cls.Settings) for one in error.errors()]
        raise UserError("\n".join(lines)) from None


@contextmanager
def executor_of(plan: Plan) -> Iterator[Executor]:
    """The executor of a plan, closed at the end of the block."""
    cls, settings = settings_of(plan.config, plan.source)
    executor = cls(plan, settings)
    try:
        yield executor
    finally:
        executor.close()
