"""`--set key=value`: values of the matrix file changed on the command line, checked as if they stood in the file."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from harness.config import dotted
from harness.errors import UserError
from harness.yaml_source import Path_, Source, parse_value

_PART = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


@dataclass(frozen=True)
class OverriddenSource(Source):
    """A matrix file with some values replaced; a mistake in one of these is reported at its `--set`."""

    overrides: dict[Path_, str] = field(default_factory=dict)

    def where(self, key: Path_) -> str:
        for n in range(len(key), 0, -1):
            if key[:n] in self.overrides:
                return f"--set {self.overrides[key[:n]]}"
        return super().where(key)

    def text(self) -> str:
        """The resolved matrix file, with what was changed in a comment."""
        changed = "".join(f"# --set {given}\n" for given in self.overrides.values())
        body = yaml.safe_dump(self.value, sort_keys=False, allow_unicode=True)
        return f"# {self.path.name} with\n{changed}{body}"


def override(source: Source, given: Sequence[str]) -> Source:
    """`source` with every `key=value` of `given` put in.

    Keys are dotted; a list takes an index (`methods[0].pref_beta`) or the name of an entry (`methods.foodpo.pref_beta`).
    Values are YAML: `5e-6` is a number, `[0, 1]` a list, `null` nothing.

    Raises:
        UserError: not key=value, a value that is not YAML, or a key that leads through a plain value.
    """
    if not given:
        return source
    value, places = copy.deepcopy(source.value), {}
    for text in given:
        key, equals, written = text.partition("=")
        parts: Path_ = tuple(name or int(index) for name, index in _PART.findall(key))
        if not equals or not parts or dotted_again(parts) != key.strip().replace("[", ".").replace("]", ""):
            raise UserError(f"--set {text}: write key=value with a dotted key, such as training.learning_rate=1e-6")
        parts = _put(value, parts, parse_value(written, f"--set {text}"), text)
        places[parts] = text
    return OverriddenSource(source.path, value, source.lines, places)


def dotted_again(parts: Path_) -> str:
    return ".".join(map(str, parts))


def _put(value: Any, parts: Path_, new: Any, text: str) -> Path_:
    """Set the place `parts` leads to; returns it with names of list entries turned into their indices."""
    place: list[str | int] = []
    for i, part in enumerate(parts):
        if isinstance(value, list):
            part = _index(value, part, place, text)
        elif not isinstance(value, dict):
            raise UserError(f"--set {text}: {dotted(tuple(place))} is {value!r}, which has nothing under it")
        place.append(part)
        if i == len(parts) - 1:
            value[part] = new
        elif isinstance(value, dict):
            if value.get(part) is None:  # type: ignore[call-overload]
                value[part] = {}
            value = value[part]
        else:
            value = value[part]  # type: ignore[index]
    return tuple(place)


def _index(entries: list[Any], part: str | int, place: list[str | int], text: str) -> int:
    names = [str(entry.get("name", entry.get("task"))) if isinstance(entry, dict) else "" for entry in entries]
    if isinstance(part, str) and part in names:
        return names.index(part)
    if str(part).isdigit() and int(part) < len(entries):
        return int(part)
    known = ", ".join(name for name in names if name) or "none with a name"
    raise UserError(
        f"--set {text}: {dotted(tuple(place))} has no entry {part!r}; give an index below {len(entries)} or a name: {known}"
    )
