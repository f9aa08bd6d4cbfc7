"""Benchmark prompts that were trained on: exact duplicates and near ones.

Two prompts are near duplicates when the Jaccard similarity of their word n-grams reaches a threshold. An inverted index of the
benchmark's n-grams counts what each training prompt shares with each benchmark prompt, so every near duplicate is found.
"""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from evals.constraints.text import words
from trainers.common.files import Json

#: Id and text of a benchmark prompt, the training prompt that is most like it, and how much: 1.0 for an exact duplicate.
Like = tuple[str, str, str, float]


def normal(text: str) -> list[str]:
    """Words in one form: compatibility forms folded, lower case, without punctuation."""
    return [word.lower() for word in words(unicodedata.normalize("NFKC", text))]


def shingles(tokens: Sequence[str], n: int) -> frozenset[tuple[str, ...]]:
    """Word n-grams; a text of fewer words is one gram."""
    starts = range(max(len(tokens) - n + 1, 1)) if tokens else ()
    return frozenset(tuple(tokens[i : i + n]) for i in starts)


def overlap(
    training: Iterable[str],
    benchmark: Sequence[tuple[str, str]],
    *,
    n: int = 3,
    threshold: float = 0.6,
    examples: int = 5,
) -> Json:
    """Compare the prompts of one benchmark with the training prompts.

    Args:
        training: prompts trained on. benchmark: (id, prompt).
        n: words in an n-gram. threshold: of the Jaccard similarity, in (0, 1].
        examples: how many of the most similar pairs to quote.

    Returns:
        n_training (distinct), n_benchmark, exact and near (counts of benchmark prompts; an exact one is not near), ids of both,
        examples, and the settings.

    Raises:
        ValueError: n or threshold out of range.
    """
    if n < 1 or not 0 < threshold <= 1:
        raise ValueError(f"n is {n} and threshold {threshold}; n must be at least 1 and the threshold in (0, 1]")
    texts: dict[tuple[str, ...], str] = {}
    for text in training:
        texts.setdefault(tuple(normal(text)), text)
    asked = [(name, prompt, tuple(normal(prompt))) for name, prompt in benchmark]
    exact = [(name, prompt, texts[key], 1.0) for name, prompt, key in asked if key and key in texts]
    near = _near(texts, [one for one in asked if one[2] not in texts], n, threshold)
    exact, near, found = (sorted(part, key=lambda one: (-one[3], one[0])) for part in (exact, near, exact + near))
    return {
        "n_training": len(texts),
        "n_benchmark": len(asked),
        "exact": len(exact),
        "near": len(near),
        "exact_ids": [name for name, *_ in exact],
        "near_ids": [name for name, *_ in near],
        "examples": [
            {"id": name, "prompt": prompt, "training": text, "similarity": round(similarity, 4)}
            for name, prompt, text, similarity in found[:examples]
        ],
        "settings": {"ngram_words": n, "threshold": threshold, "miss_probability": 0.0},
    }


def _near(
    texts: Mapping[tuple[str, ...], str], asked: Sequence[tuple[str, str, tuple[str, ...]]], n: int, threshold: float
) -> list[Like]:
    """The most similar training prompt of each benchmark prompt that has one at or above the threshold."""
    wanted = [(name, prompt, shingles(key, n)) for name, prompt, key in asked if key]
    holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, (_, _, grams) in enumerate(wanted):
        for gram in grams:
            holders[gram].append(i)
    best: dict[int, tuple[float, str]] = {}
    for key, text in texts.items():
        grams = shingles(key, n)
        shared = Counter(i for gram in grams for i in holders.get(gram, ()))
        for i, common in shared.items():
            similarity = common / (len(grams) + len(wanted[i][2]) - common)
            if similarity >= threshold and similarity > best.get(i, (0.0, ""))[0]:
                best[i] = (similarity, text)
    return [(wanted[i][0], wanted[i][1], text, value) for i, (value, text) in sorted(best.items())]


def contamination(
    training: Sequence[str], benchmarks: Mapping[str, Sequence[tuple[str, str]]], **settings: Any
) -> dict[str, Json]:
    """`overlap` of every benchmark (name -> its (id, prompt) pairs) with the training prompts."""
    return {name: overlap(training, prompts, **settings) for name, prompts in benchmarks.items()}
