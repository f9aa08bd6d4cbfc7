"""Executors by name, or `path/to/file.py:ClassName`. Add one: write a subclass of Executor and a line here."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from pydantic import ValidationError

from harness.config import MatrixConfig, Source, explain
from harness.executors.base import Executor, Settings
from trainers.common import UserError
from trainers.common.plugins import Registry, is_file_target

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
    said = f"{source.at('executor', 'kind')} is {kind!r}"
    try:
        cls = _REGISTRY.load(source.placed(kind))
    except UserError as error:
        hint = "" if is_file_target(kind) else ", or path/to/file.py:ClassName"
        raise UserError(f"{said}; {error}{hint}") from None
    if not (isinstance(cls, type) and issubclass(cls, Executor)):
        raise UserError(f"{said}; {cls!r} must subclass harness.executors.base.Executor")
    try:
        return cls, cls.Settings.model_validate(config.executor.model_dump())
    except ValidationError as error:
        lines = [explain(one, source, cls.Settings, ("executor",)) for one in error.errors()]
        raise UserError("\n".join(lines)) from None


def executor_of(plan: Plan) -> closing[Executor]:
    """The executor of a plan, closed at the end of a `with` block."""
    cls, settings = settings_of(plan.config, plan.source)
    return closing(cls(plan, settings))
