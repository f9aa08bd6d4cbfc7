"""What a preference data set holds, before anything is trained on it: counts, lengths, bias, doubles, trouble, samples."""

import itertools
import statistics
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainers.common import DataError, Json, NoPreferenceError, Row, plain
from trainers.formats.load import Checked, check_rows, content_id
from trainers.formats.pairs import PreferencePair, ranked
from trainers.formats.scripts import count_scripts, count_words, encoding_trouble
from trainers.formats.source import format_of, open_stream
from trainers.formats.split import prompt_groups

_Counting = Callable[[str], int]
#: The turns of a pair.
_SIDES = ("prompt", "chosen", "rejected")
#: Errors listed one by one.
_LISTED = 10


@dataclass(frozen=True)
class Inspected:
    """The rows of a source, their pairs and errors, the figures on them as JSON types, and the source's own limit of pairs."""

    rows: list[Row]
    checked: Checked
    figures: Json
    limit: int | None


def inspect_source(
    text: str, base: Path = Path(), tokens: _Counting | None = None, first: int | None = None
) -> Inspected:
    """Figures on a source. Rows that cannot be used are counted and listed, not raised.

    Args:
        text: see `open_stream`.
        tokens: counts the tokens of a text; without it lengths are in words and characters.
        first: read so many rows and no further, also of a data set of the hub.

    Raises:
        DataError: the source cannot be read at all.
    """
    stream = open_stream(text, base, lazily=first is not None)
    rows = list(itertools.islice(stream.rows, first))
    form = format_of(stream, rows)
    checked = check_rows(rows, form)
    pairs = checked.pairs
    units: dict[str, _Counting] = {"words": count_words, "characters": len, **({"tokens": tokens} if tokens else {})}
    figures = {
        "source": text,
        "format": {"name": form.name, "title": form.title},
        "rows": len(rows),
        "first_rows_only": first is not None and len(rows) == first,
        "pairs": len(pairs),
        "prompts": len({_prompt(pair) for pair in pairs}),
        "groups": _groups(pairs),
        "turns": _turns(pairs),
        "problems": _problems(checked.errors),
        **_lengths(pairs, units),
        "duplicates": _duplicates(pairs),
        "encoding": _encoding(pairs),
        "scripts": _scripts(pairs),
        "notes": [*stream.notes, *checked.notes],
    }
    return Inspected(rows, checked, figures, stream.limit)


def samples(pairs: Sequence[PreferencePair], count: int, seed: int = 0) -> list[PreferencePair]:
    """`count` pairs, drawn by a seeded hash of their ids."""
    return ranked(pairs, seed)[:count]


def overlaps(named: Mapping[str, Sequence[PreferencePair]]) -> list[Json]:
    """For every two sources: how many prompts are in both (also when case and white space are ignored), and pairs."""
    exact = {name: {_prompt(pair) for pair in pairs} for name, pairs in named.items()}
    loose = {name: {_loose(plain(pair.prompt)) for pair in pairs} for name, pairs in named.items()}
    whole = {name: {_whole(pair) for pair in pairs} for name, pairs in named.items()}
    return [
        {
            "a": a,
            "b": b,
            "prompts": len(exact[a] & exact[b]),
            "prompts_loosely": len(loose[a] & loose[b]),
            "pairs": len(whole[a] & whole[b]),
            "share_of_a": _share(len(exact[a] & exact[b]), len(exact[a])),
            "share_of_b": _share(len(exact[a] & exact[b]), len(exact[b])),
        }
        for a, b in itertools.combinations(named, 2)
    ]


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """Mean, median, 5th and 95th percentile (nearest rank), least and largest; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return {
        "mean": statistics.fmean(ordered),
        "median": statistics.median(ordered),
        "p5": ordered[int(0.05 * len(ordered))],
        "p95": ordered[int(0.95 * len(ordered))],
        "min": ordered[0],
        "max": ordered[-1],
    }


def _prompt(pair: PreferencePair) -> str:
    return content_id(pair.prompt)


def _whole(pair: PreferencePair) -> str:
    return content_id(pair.prompt, pair.chosen, pair.rejected)


def _loose(text: str) -> str:
    """Text without regard to case, white space and compatible forms (full-width letters)."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _groups(pairs: Sequence[PreferencePair]) -> dict[str, int]:
    """Groups as the data gives them, and as a split keeps them together."""
    groups_of = Counter(prompt for prompt, _ in {(_prompt(pair), pair.group) for pair in pairs})
    sizes = Counter(prompt_groups(pairs))
    return {
        "given": len({pair.group for pair in pairs}),
        "kept_together": len(sizes),
        "largest": max(sizes.values(), default=0),
        "prompts_in_several": sum(n > 1 for n in groups_of.values()),
    }


def _turns(pairs: Sequence[PreferencePair]) -> dict[str, int]:
    return {
        "one_question": sum(sum(turn["role"] == "user" for turn in pair.prompt) == 1 for pair in pairs),
        "several_questions": sum(sum(turn["role"] == "user" for turn in pair.prompt) > 1 for pair in pairs),
        "with_system": sum(any(turn["role"] == "system" for turn in pair.prompt) for pair in pairs),
        "answers_of_several_turns": sum(max(len(pair.chosen), len(pair.rejected)) > 1 for pair in pairs),
    }


def _problems(errors: Sequence[DataError]) -> Json:
    none = [error for error in errors if isinstance(error, NoPreferenceError)]
    return {
        "rows": len(errors),
        "without_preference": len(none),
        **{kind: sum(error.kind == kind for error in none) for kind in ("identical", "empty", "tied", "one_answer")},
        "first": [str(error) for error in errors[:_LISTED]],
    }


def _lengths(pairs: Sequence[PreferencePair], units: Mapping[str, _Counting]) -> Json:
    found: Json = {"lengths": {}, "length_bias": {}}
    for unit, count in units.items():
        sides = {side: [count(plain(getattr(pair, side))) for pair in pairs] for side in _SIDES}
        found["lengths"][unit] = {side: spread(values) for side, values in sides.items()}
        differences = [c - r for c, r in zip(sides["chosen"], sides["rejected"], strict=True)]
        unequal = [d for d in differences if d]
        found["length_bias"][unit] = {
            "chosen_longer": _share(sum(d > 0 for d in differences), len(differences)),
            "rejected_longer": _share(sum(d < 0 for d in differences), len(differences)),
            "chosen_longer_of_unequal": _share(sum(d > 0 for d in unequal), len(unequal)),
            "mean_difference": statistics.fmean(differences) if differences else None,
            "median_difference": statistics.median(differences) if differences else None,
        }
    return found


def _duplicates(pairs: Sequence[PreferencePair]) -> dict[str, int]:
    whole = Counter(map(_whole, pairs))
    loose = Counter("\0".join(_loose(plain(getattr(p, side))) for side in _SIDES) for p in pairs)
    reverse = {content_id(pair.prompt, pair.rejected, pair.chosen) for pair in pairs}
    per_prompt = Counter(map(_prompt, pairs))
    return {
        "repeated_pairs": sum(n - 1 for n in whole.values()),
        "repeated_pairs_loosely": sum(n - 1 for n in loose.values()),
        "contradictions": sum(key in reverse for key in whole) // 2,
        "prompts_with_several_pairs": sum(n > 1 for n in per_prompt.values()),
        "most_pairs_of_a_prompt": max(per_prompt.values(), default=0),
        "answers_equal_but_for_space_or_case": sum(_loose(plain(p.chosen)) == _loose(plain(p.rejected)) for p in pairs),
    }


def _encoding(pairs: Sequence[PreferencePair]) -> Json:
    found = [
        (kind, i, f"{pair.where} ({side})")
        for i, pair in enumerate(pairs)
        for side in _SIDES
        for kind in encoding_trouble(plain(getattr(pair, side)))
    ]
    counts = Counter(kind for kind, _ in {(kind, i) for kind, i, _ in found})
    first = {kind: where for kind, _, where in reversed(found)}
    kinds = ("markup", "replacement", "mojibake", "control", "invisible", "entity")
    return {kind: {"pairs": counts[kind], "first": first.get(kind)} for kind in kinds}


def _scripts(pairs: Sequence[PreferencePair]) -> dict[str, float]:
    """Share of all letters by writing system, the largest first."""
    letters = sum((count_scripts(plain(getattr(pair, side))) for pair in pairs for side in _SIDES), Counter[str]())
    total = sum(letters.values())
    return {script: n / total for script, n in letters.most_common()}
