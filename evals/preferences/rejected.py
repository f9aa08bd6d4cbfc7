"""Rejected answers for rows that have only a chosen one. Every pair says how its rejected answer came about.

Strategies: ``sampled_answer`` (an answer sampled from the policy or a second model), ``corrupted`` (sentences shuffled,
words dropped or numbers swapped), ``other_prompt`` (the answer to another prompt), ``truncated`` (the chosen answer cut
off). One from outside is a function in ``path/to/file.py:function``, or in the entry-point group ``dpo_beta_harness.rejected``.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evals.constraints import RULE, gold_reward
from evals.constraints.text import sentences, word_spans
from evals.preferences.pairs import Completion, PairError, carried, identify
from trainers.common import Json, Registry


@dataclass(frozen=True)
class Rejected:
    """A rejected answer, how it was made (added to the strategy's name), and the seed and cut-off of a sampled one."""

    text: str
    detail: str = ""
    seed: int | None = None
    truncated: bool = False


@dataclass(frozen=True)
class Context:
    """What a strategy may look at besides its row: all rows, and sampled answers by row id."""

    rows: Sequence[Mapping[str, Any]]
    answers: Mapping[str, Sequence[Completion]] = field(default_factory=dict)


@dataclass(frozen=True)
class RejectedPairs:
    """The pairs made, and how many rows were skipped for which reason."""

    pairs: list[Json]
    skipped: dict[str, int]


Strategy = Callable[[Mapping[str, Any], random.Random, Context], Rejected | None]
"""(row, rng, context) -> the rejected answer, or None where the row offers nothing."""
Answers = Callable[[list[str]], Sequence[Sequence[Completion]]]
_HERE = "evals.preferences.rejected"
STRATEGIES = Registry(
    "strategy",
    {name: f"{_HERE}:{name}" for name in ("corrupted", "other_prompt", "sampled_answer", "truncated")},
    ("dpo_beta_harness.rejected",),
    (),
    PairError,
)


def add_rejected(
    rows: Sequence[Mapping[str, Any]], strategy: str, *, seed: int = 0, answers: Answers | None = None
) -> RejectedPairs:
    """Give every chosen-only row a rejected answer.

    A row is skipped, and counted, where the strategy finds nothing ("nothing_to_make"), where the result is blank or
    equals the chosen answer ("blank", "identical"), and, for rows with constraints, where the result scores above the
    chosen answer ("scores_higher").

    Args:
        rows: each with ``id``, ``prompt`` and ``chosen``; other keys as in ``evals.preferences.pairs.CARRIED``.
            Where the prompt is a
            conversation, ``turns`` holds it, and stands in the pair as its prompt.
        strategy: a name in ``STRATEGIES``, or ``path/to/file.py:function``.
        seed: with the row's id it decides everything random about a row, whatever the order of the rows.
        answers: for ``sampled_answer``: called with all prompts, gives each one's completions.

    Raises:
        PairError: unknown strategy (naming the nearest), ill-formed row, answers missing or of the wrong number.
    """
    make: Strategy = STRATEGIES.load(strategy)
    for row in rows:
        identify(row)
        if not isinstance(row.get("chosen"), str) or not row["chosen"].strip():
            raise PairError(f"row {row['id']!r}: 'chosen' must be a non-empty string, got {row.get('chosen')!r}")
    if strategy == "sampled_answer" and answers is None:
        raise PairError("strategy 'sampled_answer' needs answers: pass a sampler")
    given = answers([row["prompt"] for row in rows]) if answers is not None else [()] * len(rows)
    if len(given) != len(rows):
        raise PairError(f"the sampler returned {len(given)} lists of answers for {len(rows)} prompts")
    context = Context(rows, {row["id"]: found for row, found in zip(rows, given, strict=True)})
    pairs: list[Json] = []
    skipped: Counter[str] = Counter()
    for row in rows:
        rejected = make(row, random.Random(f"{strategy}:{seed}:{row['id']}"), context)
        pair = _pair(row, rejected, strategy, seed)
        if isinstance(pair, str):
            skipped[pair] += 1
        else:
            pairs.append(pair)
    return RejectedPairs(pairs, dict(skipped))


def _pair(row: Mapping[str, Any], rejected: Rejected | None, strategy: str, seed: int) -> Json | str:
    text = "" if rejected is None else rejected.text.strip()
    if rejected is None or not text or text == row["chosen"].strip():
        return "nothing_to_make" if rejected is None else "identical" if text else "blank"
    score_chosen = score_rejected = None
    if row.get("constraints"):
        score_chosen = gold_reward(row["chosen"], row["constraints"]).score
        score_rejected = gold_reward(rejected.text, row["constraints"]).score
        if score_rejected > score_chosen:
            return "scores_higher"
    return {
        "id": f"{row['id']}-{strategy}",
        "prompt": row["turns"] if len(row.get("turns", ())) > 1 else row["prompt"],
        "chosen": row["chosen"],
        "rejected": rejected.text,
        "group": row.get("group", row["id"]),
        **carried(row),
        "score_chosen": score_chosen,
        "score_rejected": score_rejected,
        "seed_chosen": row.get("seed_chosen"),
        "seed_rejected": seed if rejected.seed is None else rejected.seed,
        "chosen_truncated": bool(row.get("chosen_truncated", False)),
        "rejected_truncated": rejected.truncated,
        "how": f"{strategy}:{rejected.detail}" if rejected.detail else strategy,
        "rule": RULE if score_chosen is not None else "the given answer is preferred to the made one",
    }


def sampled_answer(row: Mapping[str, Any], rng: random.Random, context: Context) -> Rejected | None:
    """One of the answers sampled for the prompt, at random among those that differ from the chosen one."""
    chosen = row["chosen"].strip()
    others = [a for a in context.answers.get(row["id"], ()) if a.text.strip() and a.text.strip() != chosen]
    if not others:
        return None
    answer = rng.choice(others)
    return Rejected(answer.text, seed=answer.seed, truncated=answer.truncated)


def other_prompt(row: Mapping[str, Any], rng: random.Random, context: Context) -> Rejected | None:
    """The chosen answer of another prompt, named in ``how``."""
    here = row["chosen"].strip()
    others = (context.rows[i] for i in rng.sample(range(len(context.rows)), len(context.rows)))
    fitting = (one for one in others if one["prompt"] != row["prompt"] and one["chosen"].strip() != here)
    return next((Rejected(one["chosen"], detail=one["id"]) for one in fitting), None)


def truncated(row: Mapping[str, Any], rng: random.Random, context: Context) -> Rejected | None:
    """The first 30 to 70 % of the chosen answer's words."""
    text, spans = row["chosen"], word_spans(row["chosen"])
    if len(spans) < 2:
        return None
    kept = min(len(spans) - 1, max(1, round(rng.uniform(0.3, 0.7) * len(spans))))
    return Rejected(text[: spans[kept - 1][1]], truncated=True)


def corrupted(row: Mapping[str, Any], rng: random.Random, context: Context) -> Rejected | None:
    """The chosen answer with shuffled sentences, dropped words or swapped numbers, whichever applies; see ``how``."""
    ways = [("shuffled_sentences", _shuffle), ("dropped_words", _drop), ("swapped_numbers", _swap_numbers)]
    made = ((name, corrupt(row["chosen"], rng)) for name, corrupt in rng.sample(ways, len(ways)))
    changed = ((name, text) for name, text in made if text is not None and text.strip() != row["chosen"].strip())
    return next((Rejected(text, detail=name) for name, text in changed), None)


def _moved(items: list[str], rng: random.Random) -> list[str] | None:
    """The items in an order that differs visibly, or None where there is none."""
    if len(set(items)) < 2:
        return None
    orders = (rng.sample(items, len(items)) for _ in range(20))
    return next((order for order in orders if order != items), items[1:] + items[:1])


def _shuffle(text: str, rng: random.Random) -> str | None:
    rows = text.split("\n")
    lines = [line for line in rows if line.strip()]
    moved = _moved(lines if len(lines) > 1 else sentences(text), rng)
    if moved is None or len(lines) < 2:
        return None if moved is None else re.sub(r"(?<=[。！？]) ", "", " ".join(moved))
    # Lines trade places, so that paragraphs and lists keep their look.
    order = iter(moved)
    return "\n".join(next(order) if line.strip() else line for line in rows)


def _drop(text: str, rng: random.Random) -> str | None:
    spans = word_spans(text)
    if len(spans) < 3:
        return None
    for start, end in sorted(rng.sample(spans, max(1, len(spans) // 4)), reverse=True):
        # The space before a dropped word goes with it.
        text = text[:start].rstrip(" ") + text[end:] if text[:start].strip() else text[end:].lstrip(" ")
    return text


def _swap_numbers(text: str, rng: random.Random) -> str | None:
    pattern = re.compile(r"\d+(?:[.,]\d+)*")
    moved = _moved(pattern.findall(text), rng)
    if moved is None:
        return None
    numbers = iter(moved)
    return pattern.sub(lambda match: next(numbers), text)
