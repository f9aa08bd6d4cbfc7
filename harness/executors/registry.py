"""Executors by name, or `path/to/file.py:ClassName`. Add one: write a subclass of Executor and a line here."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from harness.config.matrix_file import MatrixConfig, explain
from harness.config.source import Source, dotted
from harness.executors.base import Executor, Settings
from trainers.common.errors import UserError
from trainers.common.words import nearest

if TYPE_CHECKING:
    from harness.plan.plan import Plan

EXECUTORS = {
    "local": "harness.executors.local:LocalExecutor",
    "ray": "harness.executors.ray:RayExecutor",
}


def find(kind: str, base: Path) -> type[Executor]:
    """The class of `kind`; a file is looked for relative to `base` (the matrix file's folder).

    Raises:
        ValueError: unknown, not there, or no subclass of Executor.
    """
    location, _, name = EXECUTORS.get(kind, kind).rpartition(":")
    if kind not in EXECUTORS and not (location.endswith(".py") and name.isidentifier()):
        raise ValueError(f"no such executor; {nearest(kind, EXECUTORS)}, or path/to/file.py:ClassName")
    if location.endswith(".py"):
        path = (base / Path(location).expanduser()).resolve()
        spec = importlib.util.spec_from_file_location(f"executor_{path.stem}", path)
        if not path.is_file() or spec is None or spec.loader is None:
            raise ValueError(f"no such file: {path} (paths are relative to the matrix file)")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(location)
    found = getattr(module, name, None)
    if not (isinstance(found, type) and issubclass(found, Executor)):
        raise ValueError(f"{location} has no class {name} that is an Executor")
    return found


def settings_of(config: MatrixConfig, source: Source) -> tuple[type[Executor], Settings]:
    """The executor of a matrix and its checked settings.

    Raises:
        UserError: an unknown kind, or keys that it does not take.
    """
    kind = config.executor.kind
    try:
        cls = find(kind, source.path.parent)
    except ValueError as error:
        raise UserError(f"{source.where(('executor', 'kind'))}: executor.kind is {kind!r}; {error}") from None
    try:
        return cls, cls.Settings.model_validate(config.executor.model_dump())
    except ValidationError as error:
        lines = []
        for one in error.errors():
            one["loc"] = loc = ("executor", *one["loc"])
            if one["type"] == "extra_forbidden" and len(loc) == 2:
                hint = nearest(str(loc[1]), cls.Settings.model_fields)
                lines.append(f"{source.where(loc)}: unknown key {dotted(loc)} (value {one['input']!r}); {hint}")
            elif one["type"] == "value_error":
                lines.append(f"{source.where(loc)}: {dotted(loc)}: {one['ctx']['error']}")
            else:
                lines.append(explain(one, source))
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
