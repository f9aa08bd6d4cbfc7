"""From sources to preference pairs: checked rows with stable ids, mixed by weight, written as one JSONL."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from trainers.common.turns import DataError, NoPreferenceError, Turns, identical, text_of
from trainers.formats.pairs import PreferencePair, parse_row
from trainers.formats.registry import Comparison, Format, checked_objects
from trainers.formats.rows import Row
from trainers.formats.source import Opened, open_source, open_stream

OnNoPreference = Literal["error", "drop"]


@dataclass(frozen=True)
class Part:
    """A source of a mixture: its share (relative to the other weights) and the most pairs taken from it."""

    source: str
    weight: float | None = None
    limit: int | None = None


@dataclass(frozen=True)
class Loaded:
    """Pairs, the names of the formats they were in, the rows dropped because they prefer nothing, and remarks."""

    pairs: list[PreferencePair]
    formats: list[str]
    dropped: list[NoPreferenceError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def content_id(prompt: Turns, chosen: Turns | None = None, rejected: Turns | None = None) -> str:
    """16 hex digits that depend on the turns alone."""
    text = json.dumps([prompt, chosen, rejected], ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _pair(row: Row, found: Comparison) -> PreferencePair:
    """The checked pair of a row; without an id it gets one from its content, without a group one from its prompt."""
    for key, turns in (("chosen", found.chosen), ("rejected", found.rejected)):
        if not any(turn["content"].strip() for turn in turns):
            raise NoPreferenceError(
                f"{row.where}: '{key}' is empty; every row needs a non-empty {key}: remove the row", "empty"
            )
    if not any(turn["content"].strip() for turn in found.prompt):
        raise DataError(f"{row.where}: 'prompt' is empty; every row needs a non-empty prompt")
    if found.chosen == found.rejected:
        raise identical(row.where)
    for key, label in (("id", found.id), ("group", found.group)):
        text_of(label or "", row.where, key)
    values: dict[str, Any] = {
        "prompt": found.prompt,
        "chosen": found.chosen,
        "rejected": found.rejected,
        "beta": found.beta,
        "group": found.group or f"prompt-{content_id(found.prompt)}",
    }
    name = found.id or content_id(found.prompt, found.chosen, found.rejected)
    return replace(parse_row({**values, "id": name}, row.where, name, row.line), source=row.file)


@dataclass(frozen=True)
class Checked:
    """What came of the rows of a source: pairs, and one error for each row that is none."""

    pairs: list[PreferencePair]
    errors: list[DataError]


def check_rows(rows: Sequence[Row], form: Format) -> Checked:
    """Every row as a pair or an error, in the order of the format's reader; ids are unique among the pairs."""
    good, outcomes = checked_objects(rows, form.keys)
    errors: list[tuple[int, DataError]] = [(row.line, found) for row, found in outcomes if isinstance(found, DataError)]
    pairs: list[PreferencePair] = []
    seen: dict[str, PreferencePair] = {}
    for row, found in form.read(good):
        try:
            if isinstance(found, DataError):
                raise found
            pair = _pair(row, found)
            if found.id is None:
                pair = _numbered(pair, seen)
            elif pair.id in seen:
                first = seen[pair.id]
                raise DataError(f"{row.where}: id {pair.id!r} was used on line {first.line}; ids must be unique")
        except DataError as error:
            errors.append((row.line, error))
            continue
        seen[pair.id] = pair
        pairs.append(pair)
    return Checked(pairs, [error for _, error in sorted(errors, key=lambda one: one[0])])


def _numbered(pair: PreferencePair, seen: dict[str, PreferencePair]) -> PreferencePair:
    """The n-th copy of a row has the id of the first and its number, whatever the order of the file."""
    name, n = pair.id, 1
    while name in seen:
        n += 1
        name = f"{pair.id}-{n}"
    return replace(pair, id=name)


@dataclass(frozen=True)
class _Accepted:
    """A source, its pairs, and the rows dropped because they prefer nothing."""

    opened: Opened
    pairs: list[PreferencePair]
    dropped: list[NoPreferenceError]

    def whole(self) -> _Accepted:
        if not self.pairs:
            raise DataError(f"{self.opened.rows[0].file}: no row prefers anything; the first: {self.dropped[0]}")
        return self


def _accepted(opened: Opened, without_preference: OnNoPreference, goes_on: bool = False) -> _Accepted:
    """`goes_on`: rows follow that were not read, so an answer without its counterpart is no mistake."""
    checked = check_rows(opened.rows, opened.form)
    none = [error for error in checked.errors if isinstance(error, NoPreferenceError)]
    dropped = [error for error in none if not (goes_on and error.kind == "one_answer")]
    for error in checked.errors:
        if not isinstance(error, NoPreferenceError) or (without_preference == "error" and error in dropped):
            raise error
    return _Accepted(opened, checked.pairs, dropped)


def _streamed(part: Part, base: Path, without_preference: OnNoPreference) -> _Accepted:
    """The first pairs of a source, as many as its limit says.

    So many rows are read; where some of them are no pairs, more, and a larger part each time, since all are checked together.

    Raises:
        DataError: no limit, or a row that cannot be used.
    """
    stream = open_stream(part.source, base)
    wanted = min((limit for limit in (part.limit, stream.limit) if limit is not None), default=None)
    if wanted is None:
        raise DataError(f"{part.source}: streaming, but nothing says how many pairs to read; give a limit")
    rows: list[Row] = []
    while True:
        size = max(wanted, len(rows) // 2)
        more = list(itertools.islice(stream.rows, size))
        rows += more
        found = _accepted(stream.opened(rows), without_preference, goes_on=len(more) == size)
        if len(found.pairs) >= wanted or len(more) < size:
            return replace(found, pairs=found.pairs[:wanted])


def load_source(text: str, base: Path = Path(), without_preference: OnNoPreference = "error") -> Loaded:
    """The pairs of one source; see `open_source` for how sources are written.

    Raises:
        DataError: the first row that cannot be used, with file, line, key and the fix.
    """
    return load_mixture([Part(text)], base, 0, without_preference)


def load_mixture(
    parts: Sequence[Part],
    base: Path = Path(),
    seed: int = 0,
    without_preference: OnNoPreference = "error",
    streaming: bool = False,
) -> Loaded:
    """The pairs of several sources.

    With weights, the largest mixture of these proportions is drawn in which no pair is repeated; without, everything is taken.
    Draws go by a hash of seed and content, so they depend neither on the order of rows nor on the other sources, and a larger
    draw holds a smaller one. Ids and groups of several sources begin with the source's name.

    With `streaming` each source is read row by row, up to its limit and no further: its first pairs, not a draw from all.

    Raises:
        DataError: no sources, weights on some of them only, or a row that cannot be used.
    """
    if not parts:
        raise DataError("no sources; name at least one")
    weights = [part.weight for part in parts]
    if any(weight is None for weight in weights) and any(weight is not None for weight in weights):
        lacking = next(part.source for part in parts if part.weight is None)
        raise DataError(f"{lacking}: no weight, but other sources have one; give every source a weight, or none")
    drawn: list[list[PreferencePair]] = []
    result = Loaded([], [])
    names: list[str] = []
    for part in parts:
        if streaming:
            found = _streamed(part, base, without_preference).whole()
        else:
            found = _accepted(open_source(part.source, base), without_preference).whole()
        opened, pairs = found.opened, found.pairs
        result.dropped.extend(found.dropped)
        result.notes.extend(opened.notes)
        result.formats.append(opened.form.name)
        for limit in (opened.limit, part.limit):
            if limit is not None and limit > len(pairs):
                result.notes.append(f"{part.source}: {limit} pairs asked for, {len(pairs)} there; none is repeated")
            pairs = draw(pairs, limit, seed)
        names.append(opened.name if opened.name not in names else f"{opened.name}-{len(names) + 1}")
        drawn.append(pairs)
    if len(parts) == 1:
        result.pairs.extend(drawn[0])
        return result
    given = [weight for weight in weights if weight is not None]
    counts = _shares([len(pairs) for pairs in drawn], given) if given else [len(pairs) for pairs in drawn]
    for name, pairs, count in zip(names, drawn, counts, strict=True):
        if count == 0:
            raise DataError(f"{name}: its weight leaves no pair in the mixture; raise it, or remove the source")
        for pair in draw(pairs, count, seed):
            group = pair.group if pair.group.startswith("prompt-") else f"{name}/{pair.group}"
            result.pairs.append(replace(pair, id=f"{name}/{pair.id}", group=group))
    return result


def _shares(sizes: Sequence[int], weights: Sequence[float]) -> list[int]:
    """How many of each fit into the largest mixture of these proportions."""
    scale = min(size / weight for size, weight in zip(sizes, weights, strict=True))
    return [min(size, round(scale * weight)) for size, weight in zip(sizes, weights, strict=True)]


def draw(pairs: Sequence[PreferencePair], count: int | None, seed: int) -> list[PreferencePair]:
    """At most `count` pairs by a seeded hash of their content, in their order."""
    if count is None or count >= len(pairs):
        return list(pairs)

    def rank(pair: PreferencePair) -> tuple[str, str]:
        content = content_id(pair.prompt, pair.chosen, pair.rejected)
        return hashlib.sha256(f"{seed}:{content}".encode()).hexdigest(), pair.id

    kept = {pair.id for pair in sorted(pairs, key=rank)[:count]}
    return [pair for pair in pairs if pair.id in kept]


def to_jsonl(pairs: Sequence[PreferencePair]) -> str:
    """The pairs as JSONL that `trainers.formats.pairs.load_pairs` and `load_source` read back as they are."""
    lines = []
    for pair in pairs:
        row: dict[str, Any] = {
            "id": pair.id,
            "group": pair.group,
            "prompt": pair.prompt,
            "chosen": pair.chosen,
            "rejected": pair.rejected,
        }
        if pair.beta is not None:
            row["beta"] = pair.beta
        lines.append(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
    return "".join(lines)
