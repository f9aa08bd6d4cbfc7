"""Prompt templates of LLM judges, from YAML files, and the parse of the verdict: found without doubt, or not at all."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from evals.judges.base import JudgeError, Request

FOLDER = Path(__file__).parent / "templates"
_FIELD = re.compile(r"\{(\w+)\}")
_KEYS = {"compares", "max_tokens", "messages", "verdict"}
_VERDICT_KEYS = {"text": {"read", "pattern", "values", "range"}, "first_token": {"read", "values", "min_mass"}}


@dataclass(frozen=True)
class Template:
    """A judge's prompt and how to read its reply. `content` is the file's content, which is part of the judge's identity."""

    compares: bool
    max_tokens: int
    messages: tuple[Mapping[str, str], ...]
    verdict: Mapping[str, Any]
    content: Mapping[str, Any]

    @property
    def reads_logprobs(self) -> bool:
        """Whether the verdict is read from the probabilities of the first token."""
        return bool(self.verdict["read"] == "first_token")

    def fill(self, request: Request) -> list[dict[str, str]]:
        """The chat messages of one request. Braces inside prompt and answers stay as they are."""
        values = {"prompt": request.question.prompt}
        names = ("answer_a", "answer_b") if self.compares else ("answer",)
        values.update(zip(names, request.answers, strict=True))
        return [
            {"role": m["role"], "content": _FIELD.sub(lambda hit: values[hit.group(1)], m["content"])}
            for m in self.messages
        ]

    def parse_text(self, text: str) -> tuple[float | None, str | None]:
        """(value, None), or (None, reason): no verdict, verdicts that contradict one another, or one out of range."""
        found = {hit.group(1) for hit in re.finditer(self.verdict["pattern"], text)}
        if not found:
            return None, "no verdict in the reply"
        if len(found) > 1:
            return None, "contradictory verdicts in the reply"
        word = found.pop()
        if "values" in self.verdict:
            if word not in self.verdict["values"]:
                return None, "unknown verdict in the reply"
            return float(self.verdict["values"][word]), None
        try:
            number = float(word)
        except (TypeError, ValueError):
            return None, "verdict is not a number"
        low, high = self.verdict["range"]
        return (number, None) if low <= number <= high else (None, "score out of range")

    def parse_logprobs(self, alternatives: Sequence[Mapping[str, Any]]) -> tuple[float | None, str | None]:
        """Mean value of the verdict tokens under their probabilities, from `{"token", "logprob"}` of the first token.

        No verdict when the verdict tokens together have less than `min_mass` of the probability.
        """
        mass = total = 0.0
        for entry in alternatives:
            value = self.verdict["values"].get(str(entry["token"]).strip())
            if value is not None:
                p = math.exp(float(entry["logprob"]))
                mass, total = mass + p, total + p * float(value)
        if mass == 0 or mass < self.verdict["min_mass"]:
            return None, "verdict tokens too improbable"
        return min(max(total / mass, 0.0), 1.0), None


def load_template(name: str) -> Template:
    """A template by name (a file beside this module) or by the path of a YAML file.

    Raises:
        JudgeError: no such template, or a malformed one; the message names the file, the key and what is expected.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in FOLDER.glob("*.yaml"))
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}, or give the path of a .yaml file"
        raise JudgeError(f"unknown template {name!r}; {hint}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise JudgeError(f"{path}: not YAML ({' '.join(str(error).split())})") from error

    def need(condition: object, what: str) -> None:
        if not condition:
            raise JudgeError(f"{path}: {what}")

    need(isinstance(content, dict), "must be a mapping with compares, max_tokens, messages and verdict")
    need(set(content) == _KEYS, f"keys must be {sorted(_KEYS)}, got {sorted(map(str, content))}")
    compares, limit, messages, verdict = (content[k] for k in ("compares", "max_tokens", "messages", "verdict"))
    need(isinstance(compares, bool), f"compares must be true (two answers) or false (one), got {compares!r}")
    need(isinstance(limit, int) and not isinstance(limit, bool) and limit > 0, f"max_tokens is {limit!r}; give a count")
    need(isinstance(messages, list) and messages, "messages must be a non-empty list of {role, content}")
    fields: set[str] = set()
    for number, message in enumerate(messages):
        good = isinstance(message, dict) and set(message) == {"role", "content"}
        need(
            good and all(isinstance(v, str) for v in message.values()), f"messages[{number}] must have role and content"
        )
        fields |= set(_FIELD.findall(message["content"]))
    expected = {"prompt", "answer_a", "answer_b"} if compares else {"prompt", "answer"}
    need(fields == expected, f"messages must use exactly the fields {sorted(expected)}, found {sorted(fields)}")
    _check_verdict(verdict, compares, need)
    return Template(compares, limit, tuple(messages), verdict, content)


def _check_verdict(verdict: Any, compares: bool, need: Any) -> None:
    need(isinstance(verdict, dict) and verdict.get("read") in _VERDICT_KEYS, "verdict.read must be text or first_token")
    unknown = sorted(set(verdict) - _VERDICT_KEYS[verdict["read"]])
    need(not unknown, f"verdict has unknown keys {unknown}")
    if verdict["read"] == "text":
        try:
            groups = re.compile(str(verdict.get("pattern", ""))).groups
        except re.error as error:
            groups = 0
            need(False, f"verdict.pattern is not a regular expression ({error})")
        need(groups == 1, "verdict.pattern must have exactly one group, the verdict")
        need(("values" in verdict) != ("range" in verdict), "verdict needs either values or range")
    else:
        mass = verdict.get("min_mass")
        need(isinstance(mass, int | float) and 0 <= mass <= 1, f"verdict.min_mass must be in 0..1, got {mass!r}")
        need("values" in verdict, "verdict.values must give the value of each verdict token")
    if "values" in verdict:
        values = verdict["values"]
        good = isinstance(values, dict) and values and all(isinstance(v, int | float) for v in values.values())
        need(
            good and all(isinstance(k, str) for k in values), "verdict.values must map texts to numbers (quote yes, no)"
        )
        need(not compares or all(0 <= v <= 1 for v in values.values()), "preferences in verdict.values must be in 0..1")
    else:
        bounds = verdict["range"]
        good = isinstance(bounds, list) and len(bounds) == 2 and all(isinstance(v, int | float) for v in bounds)
        need(good and bounds[0] < bounds[1], f"verdict.range must be [low, high], got {bounds!r}")
        need(not compares or (bounds[0] >= 0 and bounds[1] <= 1), "a preference must be in 0..1: verdict.range")
