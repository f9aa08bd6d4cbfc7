"""A bank of prompts with verifiable constraints: topic x phrasing style x one or two constraints, from a seed.

The styles (plain, technical, rare words, dense shorthand, another language) spread prompt perplexity; the constraints
are weighted towards those a small model obeys sometimes, since only they yield preference pairs. Topics are divided
between the splits once and for all, so train and held-out prompts share no topic whatever their seeds.
"""

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from evals.constraints import describe
from trainers.common.files import Json

STYLES = ("plain", "technical", "rare", "dense", "other_language")
SPLITS = ("train", "heldout")
_HERE = Path(__file__).parent
_HELD_OUT_EVERY = 4
_TWO_CONSTRAINTS = 0.55
_TRIES = 400

Constraint = Json

# Kind -> (weight in train, weight in held-out). Constraints a 135M model almost never obeys stay a minority.
_WEIGHTS: Mapping[str, tuple[float, float]] = {
    "required_words": (5.0, 5.0),
    "number_words": (5.0, 5.0),
    "number_sentences": (4.0, 4.0),
    "no_commas": (2.0, 2.0),
    "forbidden_words": (2.5, 2.5),
    "no_letter_sequence": (2.0, 2.0),
    "word_frequency": (1.5, 1.5),
    "contains_digit": (1.5, 1.5),
    "end_with": (1.0, 1.0),
    "number_paragraphs": (0.5, 0.5),
    "bullets": (0.3, 0.6),
    "lowercase": (0.2, 0.5),
    "uppercase": (0.2, 0.4),
    "start_with": (0.2, 0.5),
    "quoted": (0.2, 0.4),
    "json": (0.2, 0.5),
}
# Two constraints of one prompt never share a family, so they can be obeyed together.
_FAMILIES: Mapping[str, frozenset[str]] = {
    "number_words": frozenset({"length"}),
    "number_sentences": frozenset({"length"}),
    "number_paragraphs": frozenset({"length"}),
    "bullets": frozenset({"length"}),
    "json": frozenset({"length", "marks"}),
    "required_words": frozenset({"words"}),
    "word_frequency": frozenset({"words"}),
    "forbidden_words": frozenset({"avoid"}),
    "no_letter_sequence": frozenset({"avoid"}),
    "no_commas": frozenset({"commas"}),
    "contains_digit": frozenset({"digits"}),
    "lowercase": frozenset({"case"}),
    "uppercase": frozenset({"case"}),
    "start_with": frozenset({"marks"}),
    "end_with": frozenset({"marks"}),
    "quoted": frozenset({"marks"}),
}


@cache
def _topics() -> tuple[Json, ...]:
    return tuple(yaml.safe_load((_HERE / "prompt_topics.yaml").read_text(encoding="utf-8")))


@cache
def _phrasings() -> Json:
    found: Json = yaml.safe_load((_HERE / "prompt_phrasings.yaml").read_text(encoding="utf-8"))
    return found


def _split_topics(split: str) -> list[Json]:
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; use one of {', '.join(SPLITS)}")
    held_out = split == "heldout"
    return [topic for i, topic in enumerate(_topics(), 1) if (i % _HELD_OUT_EVERY == 0) == held_out]


def _number_words(rng: random.Random, language: str) -> Constraint:
    most, least = ((15, 20, 30, 40), (20, 30, 40)) if language == "zh" else ((15, 20, 25, 30, 40, 50), (40, 50, 60))
    relation = rng.choice(("at_most", "at_most", "at_least"))
    return {"relation": relation, "n": rng.choice(most if relation == "at_most" else least)}


def _number_sentences(rng: random.Random, language: str) -> Constraint:
    options = [("exactly", 2), ("exactly", 3), ("at_most", 2), ("at_least", 3), ("at_least", 4)]
    if language == "en":
        options += [("exactly", 1), ("exactly", 4)]
    relation, n = rng.choice(options)
    return {"relation": relation, "n": n}


def _args(kind: str, rng: random.Random, topic: Mapping[str, Any], language: str) -> Constraint:
    data = _phrasings()

    def required() -> Constraint:
        if language != "en":
            return {"words": [rng.choice(data["required"][language])]}
        return {"words": rng.sample(topic["words"], rng.choice((1, 1, 1, 2)))}

    makers: Mapping[str, Callable[[], Constraint]] = {
        "required_words": required,
        "word_frequency": lambda: {"word": rng.choice(topic["words"]), "n": rng.choice((2, 3))},
        "number_words": lambda: _number_words(rng, language),
        "number_sentences": lambda: _number_sentences(rng, language),
        "number_paragraphs": lambda: {"n": rng.choice((2, 3))},
        "bullets": lambda: {"n": rng.choice((2, 3, 4))},
        "forbidden_words": lambda: {"words": [rng.choice(data["forbidden"][language])]},
        "no_letter_sequence": lambda: {"sequence": rng.choice(data["letters"])},
        "end_with": lambda: {"text": rng.choice(data["ends"][language])},
        "start_with": lambda: {"text": rng.choice(data["starts"])},
        "json": lambda: {"keys": rng.choice((["summary"], ["topic", "summary"]))},
    }
    return makers[kind]() if kind in makers else {}


def _strings(value: Any) -> list[str]:
    parts = value if isinstance(value, list) else [value]
    return [part for part in parts if isinstance(part, str)]


def _compatible(first: Constraint, second: Constraint) -> bool:
    """False where obeying one rules out obeying the other."""
    if _FAMILIES[first["kind"]] & _FAMILIES[second["kind"]]:
        return False
    for avoid, other in ((first, second), (second, first)):
        wanted = [text.casefold() for value in other["args"].values() for text in _strings(value)]
        avoids = avoid["kind"] in ("no_letter_sequence", "forbidden_words")
        refused = [part.casefold() for value in avoid["args"].values() for part in _strings(value) if avoids]
        # A capitalised first word or a fixed ending is compared without case; JSON keys are not.
        capitals = avoid["kind"] == "uppercase" and other["kind"] == "json"
        if capitals or any(part in text for text in wanted for part in refused):
            return False
    return True


def _constraints(rng: random.Random, topic: Mapping[str, Any], language: str, split: str) -> list[Constraint]:
    allowed = list(_WEIGHTS)
    if language != "en":
        known = {key.split(".")[0] for key in _phrasings()["instructions"][language]}
        allowed = [kind for kind in allowed if kind in known]
    weights = [_WEIGHTS[kind][SPLITS.index(split)] for kind in allowed]
    wanted = 2 if rng.random() < _TWO_CONSTRAINTS else 1
    chosen: list[Constraint] = []
    for _ in range(_TRIES):
        kind = rng.choices(allowed, weights)[0]
        constraint = {"kind": kind, "args": _args(kind, rng, topic, language)}
        if all(_compatible(constraint, earlier) for earlier in chosen):
            chosen.append(constraint)
        if len(chosen) == wanted:
            break
    return chosen


def _instruction(constraint: Constraint, language: str) -> str:
    if language == "en":
        return describe(constraint)
    kind, args = constraint["kind"], constraint["args"]
    key = f"{kind}.{args['relation']}" if "relation" in args else kind
    values = {**args, "word": args["words"][0]} if "words" in args else args
    template: str = _phrasings()["instructions"][language][key]
    return template.format(**values)


def _request(rng: random.Random, topic: Mapping[str, Any], style: str, language: str) -> str:
    data = _phrasings()
    templates: Sequence[str] = data["english"][style] if language == "en" else data["other_language"][language]
    request = rng.choice(templates).format(topic=topic[language])
    return request if style == "dense" else request[:1].upper() + request[1:]


def _draw(split: str, seed: int) -> Iterator[Json]:
    """Endless stream of prompts; styles take turns, and each style walks through all topics before repeating one."""
    rng = random.Random(f"prompt-bank:{split}:{seed}")
    pool = _split_topics(split)
    languages = list(_phrasings()["other_language"])
    queues: dict[str, list[Json]] = {style: [] for style in STYLES}
    while True:
        for style in STYLES:
            queue = queues[style]
            if not queue:
                queue.extend(rng.sample(pool, len(pool)))
            topic = queue.pop()
            language = rng.choice(languages) if style == "other_language" else "en"
            constraints = _constraints(rng, topic, language, split)
            parts = [_request(rng, topic, style, language)] + [_instruction(c, language) for c in constraints]
            prompt = ("" if language == "zh" else " ").join(parts)
            yield {"prompt": prompt, "constraints": constraints, "style": style, "topic": topic["en"]}


def generate_prompts(split: str, n: int, seed: int) -> list[Json]:
    """The first ``n`` distinct prompts of a split; a smaller ``n`` gives a prefix of a larger one.

    Args:
        split: "train" or "heldout"; they share no topic, hence no prompt.
        n: number of prompts.
        seed: decides all of them; nothing else does.

    Returns:
        Rows with ``id`` (split and content hash), ``prompt`` (user text), ``constraints`` (list of
        ``{"kind", "args"}``), ``style`` (one of ``STYLES``), ``topic`` (English) and ``group`` (the id).

    Raises:
        ValueError: unknown split, n < 0, or more prompts asked for than the bank can make distinct.
    """
    if n < 0:
        raise ValueError(f"n must be >= 0, got {n}")
    rows: list[Json] = []
    seen: set[str] = set()
    repeats = 0
    stream = _draw(split, seed)
    _split_topics(split)
    while len(rows) < n:
        row = next(stream)
        if row["prompt"] in seen:
            repeats += 1
            if repeats > _TRIES + 10 * n:
                raise ValueError(f"the prompt bank has only {len(rows)} distinct {split!r} prompts, asked for {n}")
            continue
        seen.add(row["prompt"])
        identity = f"{split}-{hashlib.sha256(row['prompt'].encode()).hexdigest()[:12]}"
        rows.append({"id": identity, **row, "group": identity})
    return rows
