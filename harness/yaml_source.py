"""YAML read safely, with the line of every key, so that errors can point at it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.errors import UserError

Path_ = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 5e-6 as a number, as YAML 1.2 and everyone else does."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


@dataclass(frozen=True)
class Source:
    """Decoded YAML with the file it came from and the line of each key path."""

    path: Path
    value: Any
    lines: dict[Path_, int]

    def where(self, key: Path_) -> str:
        """`file:line` of the deepest known part of `key`."""
        while key and key not in self.lines:
            key = key[:-1]
        return f"{self.path}:{self.lines.get(key, 1)}"


def _walk(node: yaml.Node, key: Path_, lines: dict[Path_, int], path: Path) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for name, value in node.value:
            line = name.start_mark.line + 1
            if not isinstance(name, yaml.ScalarNode):
                raise UserError(f"{path}:{line}: keys must be plain words")
            if name.value in seen:
                raise UserError(
                    f"{path}:{line}: key {name.value!r} stands here and on line {seen[name.value]}; keep one of them"
                )
            seen[name.value] = line
            lines[(*key, name.value)] = line
            _walk(value, (*key, name.value), lines, path)
    elif isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            lines[(*key, i)] = item.start_mark.line + 1
            _walk(item, (*key, i), lines, path)


def load(path: Path) -> Source:
    """Read a YAML file.

    Raises:
        UserError: missing, not UTF-8, not YAML, or a repeated key; with file and line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the path of a matrix file (YAML)") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a directory; give the path of a matrix file (YAML)") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text; re-save it as UTF-8") from None
    lines: dict[Path_, int] = {}
    try:
        node = yaml.compose(text, Loader=_Loader)
        if node is not None:
            _walk(node, (), lines, path)
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        problem = getattr(error, "problem", None) or "cannot be read"
        raise UserError(f"{path}:{line}: not valid YAML ({problem}); check indentation, colons and quotes") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}:1: a matrix file is a mapping of keys such as name, model, data, methods")
    return Source(path, value, lines)


def parse_value(text: str, where: str) -> Any:
    """One YAML value, read as in a matrix file.

    Raises:
        UserError: not YAML; begins with `where`.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise UserError(
            f"{where}: the value is not YAML ({getattr(error, 'problem', None) or 'cannot be read'})"
        ) from None
