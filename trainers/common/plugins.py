"""Classes by name: built in, from an entry-point group, or from a file as `path/to/file.py:ClassName`.

The one loader of every sort of plugin. Importing it loads nothing heavy.
"""

import importlib
import importlib.metadata
import importlib.util
import inspect
from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from pydantic import ConfigDict, ValidationError, validate_call

from trainers.common.errors import UserError, refuse
from trainers.common.words import nearest

Added = TypeVar("Added", bound=type)

#: Kinds of parameters that a config can name.
_NAMED = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
#: Decorator of an `__init__`: arguments must fit their annotations, types and bounds (`Registry.build` words the errors).
checked = validate_call(config=ConfigDict(strict=True, allow_inf_nan=False))


def problem_of(error: ValidationError) -> str:
    """The first problem of a validation: `name is value; it must be ...`, without the value where that is a mapping."""
    first = error.errors()[0]
    name, value = ".".join(str(part) for part in first["loc"]) or "content", first["input"]
    said = first["msg"].removeprefix("Value error, ").replace("Input should", "it must")
    said = said.replace("Field required", "it is missing").replace("Extra inputs are not permitted", "it is not known")
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


def _place(cls: type) -> tuple[str, str]:
    """File and name of a class: also of one whose module is loaded from a path and known to nobody."""
    files = [value.__code__.co_filename for value in vars(cls).values() if inspect.isfunction(value)]
    return next(iter(files), ""), cls.__qualname__


def _module(location: str, prefix: str) -> ModuleType:
    """A module by its name, or from its file, which is then known to nobody else."""
    if not location.endswith(".py"):
        return importlib.import_module(location)
    spec: Any = importlib.util.spec_from_file_location(f"{prefix}_{Path(location).stem}", location)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Registry:
    """One sort of plugin.

    Attributes:
        noun: what messages call one ("judge").
        builtin: names with their `module:Class`.
        groups: entry-point groups of installed packages.
        bases: what a class must subclass, one of them.
        error: what is raised; the message names the plugin and the fix.
        added: classes that `register` added in this process, by name.
    """

    noun: str
    builtin: Mapping[str, str]
    groups: tuple[str, ...]
    bases: tuple[type, ...]
    error: type[ValueError]
    added: dict[str, type] = field(default_factory=dict)

    def register(self, name: str) -> Callable[[Added], Added]:
        """Class decorator that adds a plugin under a name; one already taken is an error.

        A file outside the package may be loaded several times (by `path/to/file.py:Class`): its own class again is no error.
        """

        def add(cls: Added) -> Added:
            known = self.added.get(name)
            if known is not None and (known is cls or _place(known) != _place(cls)):
                raise self.error(f"{self.noun} {name!r} is already registered; choose another name")
            self.added[name] = cls
            return cls

        return add

    def file_of(self, name: str) -> Path:
        """The file that defines a plugin that `register` added."""
        return Path(_place(self.load(name))[0])

    def available(self) -> dict[str, str]:
        """Names with their targets: those of installed packages, then the built-in ones."""
        here = {name: f"{cls.__module__}:{cls.__qualname__}" for name, cls in self.added.items()}
        return dict(ChainMap(dict(self.builtin), here, *map(entry_points, self.groups)))

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
        unknown = next((key for key in params if names is not None and key not in names), None)
        hint = nearest(str(unknown), names or (), f"it takes {', '.join(names or ()) or 'none'}")
        needed = [p for p in inspect.signature(cls).parameters.values() if p.kind in _NAMED and p.default is p.empty]
        missing = [p.name for p in needed if p.name not in params]
        refuse(
            self.error,
            (unknown is not None, f"{what} has no parameter {unknown!r}; {hint}"),
            (missing, f"{what} needs the parameter {', '.join(map(repr, missing))}; add it"),
        )
        try:
            built = cls(**params)
        except (self.error, UserError) as error:
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
        if name in self.added:
            return self.added[name]
        location, _, attribute = self.target(name).rpartition(":")
        try:
            module = _module(location, self.noun.split()[0])
        except Exception as error:  # the user's own code can raise anything
            if name in self.builtin:
                raise
            said = f"{location} does not import: {type(error).__name__}: {error}"
            raise self.error(f"{self.noun} {name!r}: {said}") from error
        if not hasattr(module, attribute):
            raise self.error(f"{self.noun} {name!r}: {location} has no class {attribute!r}")
        return getattr(module, attribute)
