"""What a reader hands on, and the strict reading of other tools' files: every error names the file and the line."""

import functools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reports.runs import ReportError, records
from trainers.common.files import Json


@dataclass(slots=True)
class TaskScores:
    """One lm-eval task of one policy, as scores/<task>.json holds it. `items` is empty where only the aggregate was kept."""

    task: str
    metrics: dict[str, Json]
    primary_metric: str
    items: list[Json] = field(default_factory=list)
    facts: Json = field(default_factory=dict)


@dataclass(slots=True)
class ForeignRun:
    """One run as found on disk, and from `reports.foreign.convert.place` on with the identity it has in the analysis.

    `own` is its directory where this project made it. `known_seed` is kept where `seed` could not be used.
    """

    name: str
    directory: Path
    formats: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    history: list[Json] = field(default_factory=list)
    synonyms: dict[str, str] = field(default_factory=dict)
    scores: dict[str, TaskScores] = field(default_factory=dict)
    settings: Json = field(default_factory=dict)
    training: Json = field(default_factory=dict)
    results: dict[str, float | str | None] = field(default_factory=dict)
    model: str | None = None
    method: str | None = None
    seed: int | None = None
    state: str = "done"
    step: int | None = None
    total_steps: int | None = None
    notes: list[str] = field(default_factory=list)
    own: Path | None = None
    run_id: str = ""
    known_seed: int | None = None

    @property
    def steps(self) -> list[Json]:
        """Logged training steps: the records that carry both `step` and `loss`."""
        return list(filter(_is_step, self.history))

    def came_from(self, tool: str, path: Path) -> None:
        """Note that a file of this tool was read."""
        self.formats.append(tool)
        self.files.append(path)

    def log(self, records: Iterable[Json], names: Mapping[str, str]) -> None:
        """Take the records of a log's last training, in order of step; `names`: which logged name became which column."""
        self.history = by_step(self.last_training(list(records)))
        self.synonyms = {column: name for column, name in names.items() if column != name}

    def last_training(self, records: Sequence[Json]) -> Sequence[Json]:
        """The records of the last training in a log, with a note on what else is in it.

        A log is appended to: by another training, which begins at the first step again, by a resumed run and by several
        processes, which repeat steps.
        """
        begin = previous = 0
        logged: dict[int, list[Json]] = {}
        for position, record in enumerate(records):
            if not _is_step(record):
                continue
            step = record["step"]
            if logged and step < previous and step <= next(iter(logged)):
                totals = {one.get("total_steps") for same in logged.values() for one in same}
                if step in logged or record.get("total_steps") not in totals:
                    self.notes.append(
                        f"{len(logged)} steps of an earlier training in the same log are left out: the last one counts"
                    )
                    begin, logged = position, {}
            logged.setdefault(step, []).append(record)
            previous = step
        twice = {step: {one["loss"] for one in same} for step, same in logged.items() if len(same) > 1}
        if twice:
            differ = sum(len(losses) > 1 for losses in twice.values())
            self.notes.append(
                f"{len(twice)} steps ({min(twice)} to {max(twice)}) are logged more than once, {differ} with different losses: "
                "the later record counts (a resumed run, or several processes in one log)"
            )
        return records[begin:]


def _is_step(record: Mapping[str, Any]) -> bool:
    """Whether a record is of a training step: it carries both `step` and `loss`."""
    return "loss" in record and "step" in record


def by_step(records: Iterable[Json]) -> list[Json]:
    """Records in order of step; of two training records of one step the later one."""
    kept: dict[Any, Json] = {}
    for position, record in enumerate(records):
        key = ("step", record["step"]) if _is_step(record) else position
        kept.pop(key, None)
        kept[key] = record
    return sorted(kept.values(), key=lambda r: r.get("step", math.inf))


#: What to do about a file of another tool that is damaged.
COPIED = "was the file copied whole?"
read_text = functools.partial(records.read_text, fix=COPIED)
read_json = functools.partial(records.read_json, fix=COPIED)
read_object = functools.partial(records.read_object, fix=COPIED)


def read_lines(path: Path, torn_end: bool = False) -> Iterator[tuple[int, Json]]:
    """Line number and object of every non-empty line of a JSONL file.

    With `torn_end` a damaged last line without a line break is left out: the file is appended to while a run lives.
    """
    lines = read_text(path).split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = records.decode(line, path, COPIED, number)
        except ReportError:
            if torn_end and number == len(lines):
                return
            raise
        if not isinstance(value, dict):
            raise ReportError(f"{path}:{number}: expected an object, found {type(value).__name__}")
        yield number, value


def number(value: Any, where: str, key: str) -> float | str | None:
    """A logged figure; NaN and infinities become the words `NaN`, `Infinity`: strict JSON has no such numbers.

    ReportError when it is no number at all.
    """
    if value is None:
        return None
    try:
        figure = float(value)
    except (TypeError, ValueError):
        raise ReportError(f"{where}: {key!r} is {value!r}, not a number") from None
    return figure if math.isfinite(figure) else "NaN" if math.isnan(figure) else f"{'-' if figure < 0 else ''}Infinity"


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
