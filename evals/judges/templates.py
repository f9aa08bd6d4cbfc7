"""Prompt templates of LLM judges, from YAML files, and the parse of the verdict: found without doubt, or not at all."""

import math
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, PrivateAttr, ValidationError, model_validator

from evals.judges.base import JudgeError, Request
from trainers.common import Json, nearest, problem_of, refuse

FOLDER = Path(__file__).parent / "templates"
_FIELD = re.compile(r"\{(\w+)\}")
_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


Found = tuple[float | None, str | None]
"""A value, or None and the reason."""


class TextVerdict(BaseModel):
    """A verdict found in the reply: the one group of `pattern` is a key of `values`, or a number within `range`."""

    model_config = _STRICT
    read: Literal["text"]
    pattern: str
    values: dict[str, float] | None = Field(None, min_length=1)
    range: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        low, high = self.range or (0, 1)
        refuse(
            ValueError,
            (re.compile(self.pattern).groups != 1, "pattern must have exactly one group, the verdict"),
            ((self.values is None) == (self.range is None), "give either values or range"),
            (low >= high, "range must be [low, high], with low below high"),
        )
        return self

    @property
    def numbers(self) -> Collection[float]:
        """Every value it can give, or the ends of its range."""
        return self.values.values() if self.values is not None else self.range or ()

    def of(self, text: str, choice: Mapping[str, Any]) -> Found:
        """From the text of a reply: no verdict, verdicts that contradict one another, or one out of range have a reason."""
        found = {hit.group(1) for hit in re.finditer(self.pattern, text)}
        if len(found) != 1:
            return None, "contradictory verdicts in the reply" if found else "no verdict in the reply"
        word = found.pop()
        if self.values is not None:
            return self.values.get(word), None if word in self.values else "unknown verdict in the reply"
        try:
            number = float(word)
        except (TypeError, ValueError):
            return None, "verdict is not a number"
        low, high = self.numbers
        return (number, None) if low <= number <= high else (None, "score out of range")


class TokenVerdict(BaseModel):
    """A verdict read from the probabilities of the first token; `values` of tokens that have at least `min_mass` together."""

    model_config = _STRICT
    read: Literal["first_token"]
    values: dict[str, float] = Field(min_length=1)
    min_mass: float = Field(ge=0, le=1)

    @property
    def numbers(self) -> Collection[float]:
        """Every value it can give."""
        return self.values.values()

    def of(self, text: str, choice: Mapping[str, Any]) -> Found:
        """Mean value of the verdict tokens under their probabilities, from `{"token", "logprob"}` of the first token.

        No verdict when the verdict tokens together have less than `min_mass` of the probability.
        """
        mass = total = 0.0
        try:
            for entry in choice["logprobs"]["content"][0]["top_logprobs"]:
                value = self.values.get(str(entry["token"]).strip())
                if value is not None:
                    p = math.exp(float(entry["logprob"]))
                    mass, total = mass + p, total + p * value
        except (KeyError, IndexError, TypeError):
            return None, "the server returned no log-probs"
        if mass == 0 or mass < self.min_mass:
            return None, "verdict tokens too improbable"
        return min(max(total / mass, 0.0), 1.0), None


class Message(BaseModel):
    """One chat message; `{prompt}`, `{answer}`, `{answer_a}` and `{answer_b}` are filled in."""

    model_config = _STRICT
    role: str
    content: str


class Template(BaseModel):
    """A judge's prompt and how to read its reply; `max_tokens` limits the reply."""

    model_config = _STRICT
    compares: bool
    max_tokens: PositiveInt
    messages: list[Message] = Field(min_length=1)
    verdict: Annotated[TextVerdict | TokenVerdict, Field(discriminator="read")]
    _content: Any = PrivateAttr()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        expected = {"prompt", "answer_a", "answer_b"} if self.compares else {"prompt", "answer"}
        fields = {field for message in self.messages for field in _FIELD.findall(message.content)}
        refuse(
            ValueError,
            (fields != expected, f"messages must use exactly the fields {sorted(expected)}, found {sorted(fields)}"),
            (
                self.compares and not all(0 <= number <= 1 for number in self.verdict.numbers),
                "a preference must be in 0..1: verdict.values or verdict.range",
            ),
        )
        return self

    @property
    def content(self) -> Json:
        """What the file holds, which is part of the judge's identity."""
        return dict(self._content)

    @property
    def reads_logprobs(self) -> bool:
        """Whether the verdict is read from the probabilities of the first token."""
        return isinstance(self.verdict, TokenVerdict)

    def fill(self, request: Request) -> list[dict[str, str]]:
        """The chat messages of one request. Braces inside prompt and answers stay as they are."""
        values = {"prompt": request.question.prompt}
        names = ("answer_a", "answer_b") if self.compares else ("answer",)
        values.update(zip(names, request.answers, strict=True))
        return [
            {"role": m.role, "content": _FIELD.sub(lambda hit: values[hit.group(1)], m.content)} for m in self.messages
        ]


def load_template(name: str) -> Template:
    """A template by name (a file beside this module) or by the path of a YAML file.

    Raises:
        JudgeError: no such template, or a malformed one; the message names the file, the key and what is expected.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = (p.stem for p in FOLDER.glob("*.yaml"))
        raise JudgeError(f"unknown template {name!r}; {nearest(name, known)}; or give the path of a .yaml file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise JudgeError(f"{path}: not YAML ({' '.join(str(error).split())})") from error

    try:
        template = Template.model_validate(content)
    except (ValidationError, re.error) as error:
        problem = problem_of(error) if isinstance(error, ValidationError) else f"verdict.pattern: {error}"
        raise JudgeError(f"{path}: {problem}") from None
    template._content = content
    return template
