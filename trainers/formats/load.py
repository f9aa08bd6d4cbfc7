"""From sources to preference pairs: checked rows with stable ids, mixed by weight, written as one JSONL."""

import hashlib
import itertools
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from trainers.common import DataError, NoPreferenceError, Row, Turns, dump, not_an_object, refuse, text_of
from trainers.formats.pairs import PreferencePair, checked_pair, numbers_of, subset
from trainers.formats.registry import Comparison, Format, Values, unread
from trainers.formats.source import format_of, open_stream

#: Columns of what is no text.
MEDIA = ("images", "image", "videos", "video", "audios", "audio")
OnNoPreference = Literal["error", "drop"]


@dataclass(frozen=True)
class Part:
    """A source of a mixture: its weight relative to the others', the most pairs taken from it, and the part that is taken."""

    source: str
    weight: float | None = None
    limit: int | None = None
    share: float | None = None


@dataclass(frozen=True)
class Loaded:
    """Pairs, the names of the formats they were in, the rows dropped for want of a preference, and remarks."""

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
    for key, label in (("id", found.id), ("group", found.group)):
        text_of(label or "", row.where, key)
    media = next((key for key in MEDIA if row.value.get(key)), None)
    if media is not None:
        raise DataError(f"{row.where}: column {media!r} is set, but only text is trained here; remove the row")
    turns = (found.prompt, found.chosen, found.rejected)
    group = found.group or f"prompt-{content_id(found.prompt)}"
    place = (row.line, row.file, row.number)
    pair = PreferencePair(found.id or content_id(*turns), *turns, group, found.beta, found.flipped, *place)
    return checked_pair(replace(pair, columns=numbers_of(row.value)))


@dataclass(frozen=True)
class Checked:
    """The checked rows of a source: pairs, one error for each row that is not a pair, and remarks on what was not read."""

    pairs: list[PreferencePair]
    errors: list[DataError]
    notes: list[str] = field(default_factory=list)


def check_rows(rows: Sequence[Row], form: Format) -> Checked:
    """Every row as a pair or an error, in the order of the format's reader; ids are unique among the pairs."""
    good = [row for row in rows if isinstance(row.value, dict)]
    errors = [(row.line, row.number, not_an_object(row, form.keys)) for row in rows if not isinstance(row.value, dict)]
    pairs: list[PreferencePair] = []
    seen: dict[str, PreferencePair] = {}
    remarks: Counter[str] = Counter()
    for row, found in form.read(good):
        try:
            if isinstance(found, DataError):
                raise found
            pair = _pair(row, found)
            remarks.update(_remarks(row.value, found, form))
            if found.id is None:
                pair = _numbered(pair, seen)
            elif pair.id in seen:
                first = seen[pair.id]
                raise DataError(f"{row.where}: id {pair.id!r} was used on {first.place}; ids must be unique")
        except DataError as error:
            errors.append((row.line, row.number, error))
            continue
        seen[pair.id] = pair
        pairs.append(pair)
    told = ", ".join(f"{remark} ({count:,} of {len(rows):,} rows)" for remark, count in remarks.items())
    notes = [f"{rows[0].file}: not read: {told}"] if told else []
    return Checked(pairs, [error for *_, error in sorted(errors, key=lambda one: one[:2])], notes)


def _remarks(row: Values, found: Comparison, form: Format) -> list[str]:
    """What of a row is not read, and what its reader left out."""
    system, own = row.get("system"), [turn["content"] for turn in found.prompt if turn["role"] == "system"]
    columns = unread(row, form.used)
    if "system" in form.used and system and system not in own:
        columns.append("system, as the conversation has its own")
    return [*columns, found.note] if found.note else columns


def _numbered(pair: PreferencePair, seen: dict[str, PreferencePair]) -> PreferencePair:
    """The n-th copy of a row has the id of the first and its number, whatever the order of the file."""
    names = itertools.chain([pair.id], (f"{pair.id}-{n}" for n in itertools.count(2)))
    return replace(pair, id=next(name for name in names if name not in seen))


def _accepted(
    checked: Checked, without_preference: OnNoPreference, goes_on: bool
) -> tuple[list[PreferencePair], list[NoPreferenceError]]:
    """The pairs, and the rows to drop. `goes_on`: more rows follow, so an answer may still find its counterpart."""
    none = [error for error in checked.errors if isinstance(error, NoPreferenceError)]
    dropped = [error for error in none if not (goes_on and error.kind == "one_answer")]
    for error in checked.errors:
        if not isinstance(error, NoPreferenceError) or (without_preference == "error" and error in dropped):
            raise error
    return checked.pairs, dropped


def _load(part: Part, base: Path, seed: int, without_preference: OnNoPreference, streaming: bool) -> tuple[str, Loaded]:
    """The name of a source, and its pairs up to its limit: drawn from all of them, or with `streaming` the first ones.

    A stream reads as many rows as the limit; where some of them are no pairs, it reads on in growing steps, since all rows are
    checked together.

    Raises:
        DataError: streaming without a limit, or a row that cannot be used.
    """
    stream = open_stream(part.source, base, lazily=streaming)
    limits = [limit for limit in (stream.limit, part.limit) if limit is not None]
    if streaming and not limits:
        raise DataError(f"{part.source}: streaming, but nothing says how many pairs to read; give a limit")
    wanted = min(limits) if streaming else sys.maxsize
    rows: list[Row] = []
    while True:
        size = max(wanted, len(rows) // 2)
        more = list(itertools.islice(stream.rows, size))
        rows += more
        form = format_of(stream, rows)
        checked = check_rows(rows, form)
        pairs, dropped = _accepted(checked, without_preference, goes_on=len(more) == size)
        if len(pairs) >= wanted or len(more) < size:
            break
    pairs, notes = pairs[:wanted], [*stream.notes, *checked.notes]
    if not pairs:
        raise DataError(f"{rows[0].file}: no row has a preference; the first: {dropped[0]}")
    if part.share is not None:
        limits.append(max(int(part.share * len(pairs)), 1))
    for limit in limits:
        if limit > len(pairs):
            notes.append(f"{part.source}: {limit} pairs requested, {len(pairs)} available; pairs are not repeated")
        pairs = draw(pairs, limit, seed)
    return stream.name, Loaded(pairs, [form.name], dropped, notes)


def load_source(text: str, base: Path = Path(), without_preference: OnNoPreference = "error") -> Loaded:
    """The pairs of one source; see `trainers.formats.source.open_stream` for how sources are written.

    Raises:
        DataError: the first row that cannot be used, with file, line, key and the fix.
    """
    return load_mixture([Part(text)], base, 0, without_preference)


def load_pairs(path: Path, limit: int | None = None, seed: int = 0) -> list[PreferencePair]:
    """The pairs of a file, at most `limit` of them, drawn by a hash of seed and id.

    The draw does not depend on the order of the file, and a larger limit keeps the rows of a smaller one.

    Raises:
        DataError: see `load_source`.
    """
    return subset(load_source(str(path)).pairs, limit, seed)


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
    weights = [part.weight for part in parts if part.weight is not None]
    lacking = [part.source for part in parts if part.weight is None and weights]
    refuse(
        DataError,
        (not parts, "no sources; name at least one"),
        (
            lacking,
            f"{''.join(lacking[:1])}: no weight, but other sources have one; give every source a weight, or none",
        ),
    )
    named = [_load(part, base, seed, without_preference, streaming) for part in parts]
    loaded = [one for _, one in named]
    if len(parts) == 1:
        return loaded[0]
    sizes = [len(one.pairs) for one in loaded]
    shares = weights or sizes  # without weights all of each
    scale = min(size / share for size, share in zip(sizes, shares, strict=True))
    counts = [min(size, round(scale * share)) for size, share in zip(sizes, shares, strict=True)]
    mixed: list[PreferencePair] = []
    names: list[str] = []
    for (name, one), count in zip(named, counts, strict=True):
        names.append(name if name not in names else f"{name}-{len(names) + 1}")
        if count == 0:
            raise DataError(f"{names[-1]}: its weight leaves no pair in the mixture; raise it, or remove the source")
        for pair in draw(one.pairs, count, seed):
            group = pair.group if pair.group.startswith("prompt-") else f"{names[-1]}/{pair.group}"
            mixed.append(replace(pair, id=f"{names[-1]}/{pair.id}", group=group))
    return Loaded(
        mixed,
        [name for one in loaded for name in one.formats],
        [error for one in loaded for error in one.dropped],
        [note for one in loaded for note in one.notes],
    )


def draw(pairs: Sequence[PreferencePair], count: int | None, seed: int) -> list[PreferencePair]:
    """At most `count` pairs by a seeded hash of their content, in their order."""
    return subset(pairs, count, seed, lambda pair: content_id(pair.prompt, pair.chosen, pair.rejected))


def to_jsonl(pairs: Sequence[PreferencePair]) -> str:
    """The pairs as JSONL that `trainers.formats.load.load_pairs` and `load_source` read back as they are."""
    keys = ("id", "group", "prompt", "chosen", "rejected", "beta", "flipped")
    rows = (
        {**pair.columns, **{key: getattr(pair, key) for key in keys if getattr(pair, key) is not None}}
        for pair in pairs
    )
    return "".join(dump(row) + "\n" for row in rows)
