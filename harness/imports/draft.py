"""A matrix file in the making: what was taken over, what was not, and the text that is written."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from harness.config.source import Source
from trainers.common.errors import UserError
from trainers.common.files import Json


@dataclass
class Keys:
    """The keys of a foreign configuration, each to be answered for once: used, or left with a reason."""

    source: Source
    _notes: list[tuple[int, str]] = field(default_factory=list)
    _open: Json = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._open = {str(key): value for key, value in self.source.value.items()}

    def __contains__(self, key: str) -> bool:
        return key in self._open

    @property
    def notes(self) -> list[str]:
        """What was not imported, in the order of the file's lines."""
        return [text for _, text in sorted(self._notes, key=lambda note: note[0])]

    def remark(self, text: str) -> None:
        """A note that belongs to no key alone; said once."""
        if text not in self.notes:
            self._notes.append((0, text))

    @property
    def left(self) -> list[str]:
        """Keys nobody has asked for yet, in the file's order."""
        return list(self._open)

    def take(self, key: str, default: Any = None) -> Any:
        """The value of `key`, which is now answered for; null counts as not written."""
        value = self._open.pop(key, None)
        return default if value is None else value

    def text(self, key: str, default: str | None = None) -> str | None:
        """`take`, and it must be a text.

        Raises:
            UserError: it is something else.
        """
        return self._typed(key, default, str, "a text")

    def number(self, key: str, default: float | None = None) -> Any:
        """`take`, and it must be a number; a text such as 5e-6, which YAML 1.1 does not read as one, is taken as one.

        Raises:
            UserError: it is something else.
        """
        value = self._open.get(key)
        if isinstance(value, str):
            with contextlib.suppress(ValueError):
                self._open[key] = float(value)
        return self._typed(key, default, (int, float), "a number")

    def flag(self, key: str, default: bool = False) -> bool:
        """`take`, and it must be true or false.

        Raises:
            UserError: it is something else.
        """
        return bool(self._typed(key, default, bool, "true or false"))

    def _typed(self, key: str, default: Any, kinds: Any, expected: str) -> Any:
        value = self._open.get(key)
        wrong = value is not None and (not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool))
        if wrong:
            raise UserError(f"{self.where(key)}: {key} is {value!r}; it must be {expected}")
        return self.take(key, default)

    def names(self, key: str) -> list[str]:
        """`take`, as a list: a YAML list, or a text with commas.

        Raises:
            UserError: it is something else.
        """
        where, value = self.where(key), self.take(key, [])
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
            raise UserError(
                f"{where}: {key} is {value!r}; it must be names with commas between them, or a list of names"
            )
        return [part.strip() for part in parts if part.strip()]

    def where(self, key: str) -> str:
        return self.source.where((key,))

    def leave(self, key: str, why: str) -> None:
        """Answer for `key`, if it is there, by a note that says why it has no part in the matrix file."""
        if key in self._open:
            value = self._open.pop(key)
            self.note(key, value, why)

    def note(self, key: str, value: Any, why: str) -> None:
        shown = re.sub(
            r"\s+", " ", "(hidden)" if "token" in key and key.startswith(("hub", "hf", "ms")) else repr(value)
        )
        line = self.source.lines.get((key,), 1)
        self._notes.append((line, f"line {line}: {key}: {shown[:80]}: {why}"))

    def leave_rest(self, known: Mapping[str, str]) -> None:
        """Answer for every key that is left: with its reason in `known`, or as one this project does not know."""
        for key in self.left:
            self.leave(key, known.get(key, "not known here"))


#: Why a stream is not imported.
READ_FIRST = "every run sees the same pairs, read before it starts; data.streaming and a limit read so many and no more"


def take_share(keys: Keys, key: str, share: float, data: Json) -> None:
    """Held-out pairs as a share of the training data, where the configuration says so and names no set of its own."""
    if "heldout" in data:
        keys.note(key, share, "the held-out set that is named is taken")
    elif 0 < share < 1:
        data["heldout_share"] = float(share)
        keys.note(key, share, "held out as data.heldout_share: by prompt, not by row, so these are other pairs")
    else:
        keys.note(key, share, "a number of pairs: set data.heldout_share, between 0 and 1")


def matrix_name(path: Path) -> str:
    """A matrix name made of a file's name."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._")[:64]
    return name or "imported"


#: The methods an imported run is compared with, at equal settings: name -> what a matrix file says of it.
def comparison(original: Json, beta: float, loss: Json) -> list[Json]:
    """The original and the methods to compare it with, at its beta.

    Args:
        original: the first method, called `original`. beta: its pref_beta. loss: {"pref_loss": ...} where it is not sigmoid.
    """
    methods = [original]
    if original["rule"] != "fixed":
        methods.append({"name": "fixed", "rule": "fixed", "pref_beta": beta, **loss})
    dynamic = original["name"]
    if original["rule"] != "foodpo":
        dynamic = "foodpo"
        methods.append({"name": "foodpo", "rule": "foodpo", "pref_beta": beta, "pref_beta_scale": 0.5, **loss})
    if original.get("objective", "dpo") != "dpo":  # it has no head and no controls
        own = {key: original[key] for key in ("objective", "training") if key in original}
        return [method | own for method in methods]
    methods.append({"name": "learnable", "rule": "learnable", "pref_beta": beta, **loss})
    methods.append({"name": "beta_head", "rule": "beta_head", "pref_beta": beta, **loss})
    # controls: the same mean beta, and the same betas on other pairs
    methods += [{"name": rule, "rule": rule, "parent": dynamic} for rule in ("matched_mean", "permuted")]
    return methods


class _Dumper(yaml.SafeDumper):
    """Block style, with short lists and mappings of plain values on one line, and numbers as YAML 1.2 reads them."""


def _float(dumper: yaml.SafeDumper, value: float) -> yaml.Node:
    text = repr(value)
    if "e" in text and "." not in text:
        text = text.replace("e", ".0e")
    return dumper.represent_scalar("tag:yaml.org,2002:float", text)


def _list(dumper: yaml.SafeDumper, value: list[Any]) -> yaml.Node:
    plain = all(isinstance(item, str | int | float | None) for item in value)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=plain)


_Dumper.add_representer(float, _float)
_Dumper.add_representer(list, _list)


def render(matrix: Json, notes: list[str], origin: Path, tool: str, hints: list[str]) -> str:
    """The matrix file: where it comes from, what was not imported, then one section after another."""
    head = [f"# Made from {origin.name} ({tool}); the method `original` is that run, the others differ in beta alone."]
    head += [f"# {hint}" for hint in hints]
    if notes:
        head += ["#", "# Not imported, or changed, with the line in that file:"]
        head += [f"#   {note}" for note in notes]
    else:
        head += ["# Every key of that file was imported."]
    sections = []
    for key, value in matrix.items():
        text = yaml.dump({key: value}, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
        sections.append(text.rstrip())
    return "\n".join(head) + "\n" + "\n\n".join(sections) + "\n"
