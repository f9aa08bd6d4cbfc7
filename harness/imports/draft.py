"""A matrix file in the making: what was taken over, what was not, and the text that is written."""

import contextlib
import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from harness.config import Source, refuse
from harness.config.fields import known_fields
from trainers.common import Json, UserError

_KINDS: dict[type, tuple[Any, str]] = {
    str: (str, "a text"),
    int: ((int, float), "a number"),
    float: ((int, float), "a number"),
    bool: (bool, "true or false"),
    list: (list, "names with commas between them, or a list of names"),
}


def by_name(table: Mapping[str, str]) -> dict[str, str]:
    """The reason for each name, of a table of names (with spaces between them) by reason."""
    return {name: why for why, names in table.items() for name in names.split()}


class Keys:
    """The keys of a foreign configuration, each to be answered for once: used, or left with a reason."""

    def __init__(self, source: Source) -> None:
        self.source = source
        #: Keys nobody has asked for yet, in the file's order; and what cannot be imported as what it means.
        self.open: Json = {str(key): value for key, value in source.value.items()}
        self.problems: list[str] = []
        self._notes: dict[str, int] = {}  # a text and the line it is about
        self._older: dict[str, str] = {}
        self.seed: int = self.read("seed", int, 42)

    @property
    def notes(self) -> list[str]:
        """What was not imported, in the order of the file's lines."""
        return sorted(self._notes, key=self._notes.__getitem__)

    def rename(self, older: str, name: str) -> bool:
        """Read a key of an older version as what it is called today; whether it is there.

        Raises:
            UserError: both are.
        """
        if older not in self.open:
            return False
        if name in self.open:
            raise UserError(
                f"{self.where(older)}: {older} is the older name of {name}, which is there too; keep one of them"
            )
        self.give(name, self.open.pop(older), at=older)
        self.note(older, self.open[name], f"read as {name}, its name today")
        return True

    def take(self, key: str, default: Any = None) -> Any:
        """The value of `key`, which is now answered for; null counts as not written."""
        value = self.open.pop(key, None)
        return default if value is None else value

    def read(self, key: str, kind: type, default: Any = None) -> Any:
        """`take`, as a value of `kind`: str, int, float, bool, or list (of names: a YAML list, or a text with commas).

        A text such as 5e-6, which YAML 1.1 does not read as a number, is taken as one.

        Raises:
            UserError: it is something else.
        """
        value = self.take(key)
        if value is None:
            return default
        types, expected = _KINDS[kind]
        wanted = value
        if isinstance(value, str) and kind in (int, float):
            with contextlib.suppress(ValueError):
                wanted = float(value)
        elif isinstance(value, str) and kind is list:
            wanted = value.split(",")
        names = kind is not list or (isinstance(wanted, list) and all(isinstance(part, str) for part in wanted))
        if not isinstance(wanted, types) or (isinstance(wanted, bool) and kind is not bool) or not names:
            raise UserError(f"{self.where(key)}: {key} is {value!r}; it must be {expected}")
        return [part.strip() for part in wanted if part.strip()] if kind is list else kind(wanted)

    def mapped(self, fields: Mapping[str, tuple[str, type, Any]]) -> Json:
        """Fields that are a key under another name: field -> key, kind and default; without default only where it is set."""
        found = {field: self.read(*source) for field, source in fields.items()}
        return {
            field: value for field, value in found.items() if value is not None and value is not False and value != []
        }

    def choice(self, key: str, choices: Mapping[str, Any], default: str, expected: str = "it must be one of") -> Any:
        """What `choices` has for the value of `key`.

        Raises:
            UserError: a value that is not in there.
        """
        value = self.read(key, str, default)
        refuse((value not in choices, f"{self.where(key)}: {key} is {value!r}; {expected} {', '.join(choices)}"))
        return choices[value]

    def where(self, key: str) -> str:
        """`file:line` of a key, also under its name today."""
        return self.source.where((self._older.get(key, key),))

    def give(self, key: str, value: Any, at: str | None = None) -> None:
        """Take another value for a key: another spelling of it, or what the key `at` holds of it."""
        self.open[key] = value
        if at is not None:
            self._older[key] = at

    def refuse(self, reasons: Mapping[str, str]) -> None:
        """Answer for each key by a problem where it is there and on: without it `original` would be another run."""
        for key in [key for key in self.open if key in reasons]:
            value, written = self.open.pop(key), self._older.get(key, key)
            if str(value).lower() not in _OFF:
                why = f"{written} is {value!r}: {reasons[key]}; delete it to compare with a run without it"
                self.problems.append(f"{self.where(key)}: {why}")

    def leave(self, reasons: Mapping[str, str]) -> None:
        """Answer for each key that is there by a note that says why it has no part in the matrix file."""
        for key in [key for key in self.open if key in reasons]:
            self.note(key, self.open.pop(key), reasons[key])

    def note(self, key: str, value: Any, why: str) -> None:
        """Say of `key` why its value is not imported as it is; tokens are not repeated."""
        secret = "token" in key and key.startswith(("hub", "hf", "ms"))
        shown = "(hidden)" if secret else re.sub(r"\s+", " ", repr(value))
        line = self.source.lines.get((self._older.get(key, key),), 1)
        self._notes[f"line {line}: {key}: {shown[:80]}: {why}"] = line

    def remark(self, text: str) -> None:
        """A note that belongs to no key alone."""
        self._notes[text] = 0

    def leave_rest(self, known: Mapping[str, str]) -> None:
        """Answer for every key that is left: with its reason in `known`, or as one this project does not know.

        Raises:
            UserError: every problem, a line each; a key that is not known and by its name decides the loss is one.
        """
        self.leave(known)
        for key in list(self.open):
            if _DECIDES.search(key):
                self.refuse({key: "not known here, and by its name it may decide what is trained"})
            else:
                near = difflib.get_close_matches(key, {*known, *known_fields()["dpo"]}, n=1, cutoff=0.85)
                self.leave({key: f"not known here{f'; did you mean {near[0]}?' if near else ''}"})
        refuse((self.problems, "\n".join(self.problems)))


#: Values of a setting that is off, in lower case.
_OFF = ("", "none", "false", "no", "off", "0", "0.0", "[]", "{}")
#: Names of settings that decide the loss or what it is compared with.
_DECIDES = re.compile(
    r"beta(?!s)|loss|gamma|smooth|margin|ftx|lambda|diverg|dpo|orpo|kto|^ref_|reference", re.IGNORECASE
)

#: Why a stream is not imported.
READ_FIRST = "every run sees the same pairs, read before it starts; data.streaming and a limit read so many and no more"


def take_share(keys: Keys, key: str, data: Json) -> None:
    """Held-out pairs as a share of the training data, where the configuration says so and names no set of its own."""
    share = keys.read(key, float)
    if share and "heldout" in data:
        keys.note(key, share, "the held-out set that is named is taken")
    elif share and 0 < share < 1:
        data["heldout_share"] = share
        keys.note(key, share, "held out as data.heldout_share: by prompt, not by row, so these are other pairs")
    elif share:
        keys.note(key, int(share), "a number of pairs: set data.heldout_share, between 0 and 1")


def assemble(keys: Keys, original: Json, **sections: Json | None) -> Json:
    """The matrix: its sections (None where there is none), the methods, and three seeds from the original's on."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", keys.source.path.stem).strip("-._")[:64]
    given = {name: section for name, section in sections.items() if section is not None}
    beta = original["pref_beta"]
    if original["rule"] == "alpha_dpo":
        beta = 0.1
        keys.remark("SimPO is rule alpha_dpo with alpha 0; the methods beside it start from beta 0.1")
    seeds = [keys.seed + i for i in range(3)]
    return {"name": name or "imported", **given, "methods": comparison(original, beta), "seeds": seeds}


def starting_model(keys: Keys, dtype: str, attention: str | None, loading: Json) -> Json:
    """The section `model`, as far as LLaMA-Factory and TRL have the same keys for it.

    Args:
        loading: what is said of the model elsewhere (revision, trust_remote_code), where these keys are not written.

    Raises:
        UserError: no model is named.
    """
    name = keys.read("model_name_or_path", str)
    if name is None:
        raise UserError(f"{keys.source.path}: model_name_or_path is missing; add it")
    revision = keys.read("model_revision", str, loading.get("revision", "main"))
    trusted = keys.read("trust_remote_code", bool) or loading.get("trust_remote_code")
    # LLaMA-Factory's and TRL's names of a reference other than the start
    reference = keys.read("ref_model", str) or keys.read("ref_model_name_or_path", str)
    more = {
        "revision": revision if revision != "main" else None,
        "attn_implementation": attention,
        "trust_remote_code": True if trusted else None,
        "reference": reference if reference != name else None,
    }
    return {"name_or_path": name, "dtype": dtype} | {key: value for key, value in more.items() if value is not None}


def comparison(original: Json, beta: float) -> list[Json]:
    """The original and the methods to compare it with, at equal settings.

    Args:
        original: the first method, called `original`. beta: pref_beta of the others.
    """
    loss = {"pref_loss": original["pref_loss"]} if "pref_loss" in original else {}
    rivals: dict[str, Json] = {"fixed": {}, "foodpo": {"pref_beta_scale": 0.5}}
    methods = [original]
    for rule, own in rivals.items():
        if original["rule"] != rule:
            methods.append({"name": rule, "rule": rule, "pref_beta": beta, **own, **loss})
    if original.get("objective", "dpo") != "dpo":  # it has no head and no controls
        own = {key: original[key] for key in ("objective", "training") if key in original}
        return [method | own for method in methods]
    methods += [{"name": rule, "rule": rule, "pref_beta": beta, **loss} for rule in ("learnable", "beta_head")]
    dynamic = next(method["name"] for method in methods if method["rule"] == "foodpo")
    # controls: the same mean beta, and the same betas on other pairs
    methods += [{"name": rule, "rule": rule, "parent": dynamic} for rule in ("matched_mean", "permuted")]
    return methods


class _Dumper(yaml.SafeDumper):
    """Block style, with lists of plain values on one line."""


def _list(dumper: yaml.SafeDumper, value: list[Any]) -> yaml.Node:
    plain = all(isinstance(item, str | int | float | None) for item in value)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=plain)


_Dumper.add_representer(list, _list)


def render(matrix: Json, notes: list[str], origin: Path, tool: str, hints: list[str]) -> str:
    """The matrix file: where it comes from, what was not imported, then one section after another."""
    left = ["#", "# Not imported, or changed, with the line in that file:", *(f"#   {note}" for note in notes)]
    head = [
        f"# Made from {origin.name} ({tool}); the method `original` is that run, the others differ in beta alone.",
        *(f"# {hint}" for hint in hints),
        *(left if notes else ["# Every key of that file was imported."]),
    ]
    sections = [
        yaml.dump({key: value}, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000).rstrip()
        for key, value in matrix.items()
    ]
    return "\n".join(head) + "\n" + "\n\n".join(sections) + "\n"
