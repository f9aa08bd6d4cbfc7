"""What a reader hands on, and the strict reading of other tools' files: every error names the file and the line."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reports.runs.records import ReportError


@dataclass(slots=True)
class TaskScores:
    """One lm-eval task of one policy. `items` is empty where only the aggregated result was kept."""

    task: str
    metrics: dict[str, dict[str, Any]]
    primary_metric: str
    items: list[dict[str, Any]] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class ForeignRun:
    """One run as found on disk. `own` is its directory where this project made it."""

    name: str
    directory: Path
    formats: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    synonyms: dict[str, str] = field(default_factory=dict)
    scores: dict[str, TaskScores] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    model: str | None = None
    method: str | None = None
    seed: int | None = None
    state: str = "done"
    step: int | None = None
    total_steps: int | None = None
    notes: list[str] = field(default_factory=list)
    own: Path | None = None

    @property
    def steps(self) -> list[dict[str, Any]]:
        """Logged training steps: the records that carry both `step` and `loss`."""
        return [r for r in self.history if "loss" in r and "step" in r]


def _parse(text: str, where: str, line: int = 1) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ReportError(
            f"{where}:{line + error.lineno - 1}: not valid JSON ({error.msg}); was the file copied whole?"
        ) from None
    except RecursionError:
        raise ReportError(f"{where}:{line}: JSON nested too deep to be a log") from None


def read_text(path: Path) -> str:
    """The text of a file. ReportError when it cannot be read or is not UTF-8 (a byte order mark is dropped)."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise ReportError(f"{path}:{line}: not UTF-8 text ({error.reason})") from None
    except OSError as error:
        raise ReportError(f"{path}: cannot be read ({error.strerror})") from None


def read_json(path: Path) -> Any:
    """One JSON value. ReportError naming file and line otherwise."""
    return _parse(read_text(path), str(path))


def read_object(path: Path) -> dict[str, Any]:
    """One JSON object. ReportError naming file and line otherwise."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise ReportError(f"{path}:1: expected an object, found {type(value).__name__}")
    return value


def read_lines(path: Path, torn_end: bool = False) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and object of every non-empty line of a JSONL file.

    With `torn_end` a damaged last line without a line break is left out: the file is appended to while a run lives.
    """
    try:
        with path.open("rb") as lines:
            for number, raw in enumerate(lines, start=1):
                if not raw.strip():
                    continue
                try:
                    value = _parse(raw.decode("utf-8-sig" if number == 1 else "utf-8"), str(path), number)
                except UnicodeDecodeError as error:
                    raise ReportError(f"{path}:{number}: not UTF-8 text ({error.reason})") from None
                except ReportError:
                    if torn_end and not raw.endswith(b"\n"):
                        return
                    raise
                if not isinstance(value, dict):
                    raise ReportError(f"{path}:{number}: expected an object, found {type(value).__name__}")
                yield number, value
    except OSError as error:
        raise ReportError(f"{path}: cannot be read ({error.strerror})") from None


def number(value: Any, where: str, key: str) -> float | str | None:
    """A logged figure; NaN and infinities become the words `NaN`, `Infinity`: strict JSON has no such numbers.

    ReportError when it is no number at all.
    """
    if value is None:
        return None
    if isinstance(value, (str, list, dict)):
        try:
            value = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise ReportError(f"{where}: {key!r} is {value!r}, not a number") from None
    figure = float(value)
    if math.isnan(figure):
        return "NaN"
    if math.isinf(figure):
        return "Infinity" if figure > 0 else "-Infinity"
    return figure


def whole(value: Any, where: str, key: str) -> int:
    """A step number. ReportError when it is missing, negative or not whole."""
    figure = number(value, where, key)
    if not isinstance(figure, float) or figure < 0 or figure != int(figure):
        raise ReportError(f"{where}: {key!r} is {value!r}, not a step number")
    return int(figure)


def strict(value: Any) -> Any:
    """The value with non-finite numbers as words, so that it can be written as JSON."""
    if isinstance(value, Mapping):
        return {str(k): strict(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return number(value, "", "")
    return value
