"""YAML with the line of every key, so that errors can point at it, and `key=value` overrides."""

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from trainers.common import UserError
from trainers.common import refuse as first_wrong
from trainers.common.plugins import is_file_target

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

    def at(self, *key: str | int) -> str:
        """`file:line: dotted key`: how a message about a value begins."""
        return f"{self.where(key)}: {dotted(key)}"

    def beside(self, name: str) -> Path:
        """A path that is relative to the matrix file, as all of its paths are."""
        return self.path.parent / Path(name).expanduser()

    def placed(self, kind: str) -> str:
        """`path/to/file.py:Class` with the path absolute; a name as it is."""
        path, _, cls = kind.rpartition(":")
        return f"{self.beside(path).resolve()}:{cls}" if is_file_target(kind) else kind


def _walk(node: yaml.Node, key: Path_, lines: dict[Path_, int], path: Path) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for name, value in node.value:
            line = name.start_mark.line + 1
            if not isinstance(name, yaml.ScalarNode):
                raise UserError(f"{path}:{line}: keys must be plain words")
            place = (*key, name.value)
            if name.value in seen:
                first = f"first on line {lines[place]}"
                raise UserError(f"{path}:{line}: key {name.value!r} is repeated ({first}); keep one of them")
            seen.add(name.value)
            lines[place] = line
            _walk(value, place, lines, path)
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


#: Raises a UserError for the first case that holds; a case is whether something is wrong, and where, the value and the fix.
refuse = partial(first_wrong, UserError)


def dotted(key: Path_) -> str:
    """A key path as people write it: evaluation.lm_eval[0].task."""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


# `--set key=value`: values of the matrix file changed on the command line, checked as if they stood in the file.


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
        if not equals or not parts or ".".join(map(str, parts)) != key.strip().replace("[", ".").replace("]", ""):
            raise UserError(f"--set {text}: write key=value with a dotted key, such as training.learning_rate=1e-6")
        try:
            places[_put(value, parts, yaml.load(written, Loader=_Loader), text)] = text
        except yaml.YAMLError as error:
            problem = getattr(error, "problem", None) or "cannot be read"
            raise UserError(f"--set {text}: the value is not YAML ({problem})") from None
    return OverriddenSource(source.path, value, source.lines, places)


def _put(value: Any, parts: Path_, new: Any, text: str) -> Path_:
    place: Path_ = ()
    for part in parts:
        if isinstance(value, list):
            part = _index(value, part, place, text)
        elif not isinstance(value, dict):
            raise UserError(f"--set {text}: {dotted(place)} is {value!r}, which has no keys below it")
        elif value.get(part) is None:  # type: ignore[call-overload]
            value[part] = {}
        holder, value, place = value, value[part], (*place, part)
    holder[place[-1]] = new
    return place


def _index(entries: list[Any], part: str | int, place: Path_, text: str) -> int:
    names = [str(entry.get("name", entry.get("task"))) if isinstance(entry, dict) else "" for entry in entries]
    if isinstance(part, str) and part in names:
        return names.index(part)
    if str(part).isdigit() and int(part) < len(entries):
        return int(part)
    known = ", ".join(name for name in names if name) or "none with a name"
    raise UserError(
        f"--set {text}: {dotted(place)} has no entry {part!r}; give an index below {len(entries)} or a name: {known}"
    )
