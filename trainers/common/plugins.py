"""Classes by name: built in, from an entry-point group, or from a file as `path/to/file.py:ClassName`.

The one loader of every sort of plugin. Importing it loads nothing heavy.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import inspect
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ConfigDict, ValidationError, validate_call

from trainers.common.words import nearest

#: Kinds of parameters that a config can name.
_NAMED = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
#: Decorator of an `__init__`: arguments must fit their annotations, types and bounds (`Registry.build` words the errors).
checked = validate_call(config=ConfigDict(strict=True, allow_inf_nan=False))


def problem_of(error: ValidationError) -> str:
    """The first problem of a validation: `name is value; it must be ...`, without the value where that is a mapping."""
    first = error.errors()[0]
    name, value = ".".join(str(part) for part in first["loc"]) or "content", first["input"]
    said = first["msg"].removeprefix("Value error, ").replace("Input should", "it must")
    said = said.replace("greater than or equal to", "at least").replace("greater than", "above")
    return f"{name}: {said}" if isinstance(value, Mapping) else f"{name} is {value!r}; {said}"


@lru_cache(maxsize=8)
def entry_points(group: str) -> dict[str, str]:
    """Names and targets that installed packages register in an entry-point group."""
    return {point.name: point.value for point in importlib.metadata.entry_points(group=group)}


def is_file_target(name: str) -> bool:
    """Whether `name` is written as `path/to/file.py:ClassName`."""
    path, _, cls = name.rpartition(":")
    return path.endswith(".py") and cls.isidentifier()


@dataclass(frozen=True)
class Registry:
    """One sort of plugin.

    Attributes:
        noun: what messages call one ("judge").
        builtin: names with their `module:Class`.
        groups: entry-point groups of installed packages.
        bases: what a class must subclass, one of them.
        error: what is raised; the message names the plugin and the fix.
    """

    noun: str
    builtin: Mapping[str, str]
    groups: tuple[str, ...]
    bases: tuple[type, ...]
    error: type[ValueError]

    def available(self) -> dict[str, str]:
        """Names with their targets: those of installed packages, then the built-in ones."""
        return dict(ChainMap(dict(self.builtin), *map(entry_points, self.groups)))

    def source_file(self, name: str) -> Path | None:
        """The file of a plugin written as `path/to/file.py:ClassName`; None for one with a name."""
        location, _, _ = name.rpartition(":")
        return Path(location) if name not in self.available() and location.endswith(".py") else None

    def parameters(self, plugin: str | type) -> list[str] | None:
        """Names of a plugin's own parameters (by its name or class); None if it takes any."""
        found = inspect.signature(self.load(plugin) if isinstance(plugin, str) else plugin).parameters.values()
        return None if any(p.kind is p.VAR_KEYWORD for p in found) else [p.name for p in found if p.kind in _NAMED]

    def build(self, name: str, params: Mapping[str, Any] | None = None) -> Any:
        """The plugin, its parameters checked: unknown, missing or refused ones are errors with the nearest known name."""
        cls, what = self.load(name), f"{self.noun} {name!r}"
        params, names = dict(params or {}), self.parameters(cls)
        unknown = [key for key in params if names is not None and key not in names]
        if unknown and names is not None:
            hint = nearest(unknown[0], names, f"it takes {', '.join(names) or 'none'}")
            raise self.error(f"{what} has no parameter {unknown[0]!r}; {hint}")
        for parameter in inspect.signature(cls).parameters.values():
            if parameter.kind in _NAMED and parameter.default is parameter.empty and parameter.name not in params:
                raise self.error(f"{what} needs the parameter {parameter.name!r}; add it")
        try:
            built = cls(**params)
        except self.error as error:
            raise self.error(f"{what}: {error}") from error
        except ValidationError as error:
            raise self.error(f"{what}: {problem_of(error)}") from None
        except Exception as error:  # a plugin from outside can raise anything
            raise self.error(f"{what} refuses its parameters: {type(error).__name__}: {error}") from error
        if not isinstance(built, self.bases):
            known = " or ".join(f"{base.__module__}.{base.__name__}" for base in self.bases)
            raise self.error(f"{what}: {cls.__name__} must subclass {known}")
        return built

    def target(self, name: str) -> str:
        """`module:Class` or `path/to/file.py:Class` of a plugin; an unknown name or a missing file is an error."""
        targets = self.available()
        if name in targets:
            return targets[name]
        path = name.rpartition(":")[0]
        if not is_file_target(name):
            hint = nearest(name, targets, f"known {self.noun}s: {', '.join(sorted(targets))}")
            raise self.error(f"unknown {self.noun} {name!r}; {hint}")
        if not Path(path).is_file():
            raise self.error(f"{self.noun} {name!r}: no such file {path}; write path/to/file.py:ClassName")
        return name

    def load(self, name: str) -> Any:
        """The class, not yet checked against `bases`."""
        location, _, attribute = self.target(name).rpartition(":")
        file = location.endswith(".py")
        try:
            module = self._load_file(name, Path(location)) if file else importlib.import_module(location)
        except ImportError as error:
            if name in self.builtin:
                raise
            raise self.error(f"{self.noun} {name!r}: {location} does not import: {error}") from error
        try:
            return getattr(module, attribute)
        except AttributeError:
            raise self.error(f"{self.noun} {name!r}: {location} has no class {attribute!r}") from None

    def _load_file(self, name: str, path: Path) -> ModuleType:
        what = f"{self.noun} {name!r}"
        spec = importlib.util.spec_from_file_location(f"{self.noun.split()[0]}_{path.stem}", path)
        assert spec is not None and spec.loader is not None, "the name ends in .py"
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except Exception as error:  # the user's own code can raise anything
            raise self.error(f"{what}: {path} does not import: {type(error).__name__}: {error}") from error
        return module
