"""Preference pairs from scored completions: two answers to a prompt, where they differ in score."""

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.constraints import RULE
from trainers.common import Json, UserError, refuse


class PairError(UserError):
    """A row from which no pair can be made: a missing key, or an option out of range."""


@dataclass(frozen=True)
class Completion:
    """One sampled answer: text, the seed it was sampled with, its length in tokens, and "stop" or "length"."""

    text: str
    seed: int
    n_tokens: int
    finish_reason: str = "stop"

    @property
    def truncated(self) -> bool:
        """Whether the token limit cut it off."""
        return self.finish_reason == "length"


@dataclass(frozen=True)
class Scored:
    """A completion and its score (higher is better)."""

    completion: Completion
    score: float


@dataclass(frozen=True)
class PromptSamples:
    """A prompt row (at least ``id`` and ``prompt``; other keys are carried into the pair) and its K scored answers."""

    row: Mapping[str, Any]
    samples: Sequence[Scored]


CARRIED = ("constraints", "style", "topic", "log_prompt_perplexity")
"""Keys of a prompt row that a pair row repeats when they are there."""


PAIRINGS = ("best-worst", "random", "all")


def make_pairs(
    samples: Iterable[PromptSamples],
    *,
    seed: int = 0,
    pairs_per_prompt: int = 1,
    min_gap: float = 0.0,
    rule: str = RULE,
    pairing: str = "best-worst",
) -> list[Json]:
    """Pair answers to the same prompt; the one with the higher score is chosen.

    Ties are broken by a hash of (seed, prompt id, role, text), which knows nothing of length or sampling order. Answers
    with the same text (surrounding white space aside) count once; blank ones are left out.

    Args:
        samples: prompts with their scored answers.
        seed: of tie-breaking and of random pairs.
        pairs_per_prompt: at most this many pairs a prompt; not for pairing "all".
        min_gap: smallest score difference; a pair always needs a difference above 0.
        rule: name and version of the rule behind the scores, written to every pair.
        pairing: "best-worst" (the second pair of a prompt takes the second best and second worst, and so on; no text is used
            twice), "random" (pairs at random among those with the gap), or "all" pairs with the gap.

    Returns:
        Pair rows: id, prompt, chosen, rejected, group (the prompt's id), score_chosen, score_rejected, seed_chosen,
        seed_rejected, chosen_truncated, rejected_truncated, how ("sampled_pair"), rule, and the ``CARRIED`` keys.

    Raises:
        PairError: a prompt row without ``id`` or ``prompt``, pairs_per_prompt < 1, min_gap < 0 or an unknown pairing.
    """
    refuse(
        PairError,
        (pairs_per_prompt < 1, f"pairs_per_prompt must be >= 1, got {pairs_per_prompt}"),
        (not min_gap >= 0, f"min_gap must be >= 0, got {min_gap}"),
        (pairing not in PAIRINGS, f"pairing is {pairing!r}; it must be one of {', '.join(PAIRINGS)}"),
    )
    pairs: list[Json] = []
    for prompt in samples:
        prompt_id, _ = identify(prompt.row)
        answers = _distinct(prompt.samples)
        every = _best_worst if pairing == "best-worst" else _every
        wide = (pair for pair in every(answers, seed, prompt_id) if 0 < pair[0].score - pair[1].score >= min_gap)
        most = None if pairing == "all" else pairs_per_prompt
        for number, (chosen, rejected) in enumerate(itertools.islice(wide, most)):
            pairs.append(_pair(prompt.row, f"{prompt_id}-{number}", chosen, rejected, rule))
    return pairs


def _best_worst(answers: Sequence[Scored], seed: int, prompt_id: str) -> Iterator[tuple[Scored, Scored]]:
    """The best with the worst, then the best with the worst of the rest, and so on."""
    best = sorted(answers, key=lambda s: (-s.score, _rank(seed, prompt_id, "chosen", s)))
    worst = sorted(answers, key=lambda s: (s.score, _rank(seed, prompt_id, "rejected", s)))
    used: set[str] = set()
    while len(answers) - len(used) >= 2:
        chosen = next(s for s in best if _key(s) not in used)
        rejected = next(s for s in worst if _key(s) not in used)
        used |= {_key(chosen), _key(rejected)}
        yield chosen, rejected


def _every(answers: Sequence[Scored], seed: int, prompt_id: str) -> list[tuple[Scored, Scored]]:
    """Every two answers, the higher score first, in a random order."""
    ordered = sorted(answers, key=lambda s: (-s.score, _rank(seed, prompt_id, "chosen", s)))
    return sorted(
        itertools.combinations(ordered, 2),
        key=lambda pair: _rank(seed, prompt_id, f"rejected for {_key(pair[0])}", pair[1]),
    )


def identify(row: Mapping[str, Any]) -> tuple[str, str]:
    """The (id, prompt) of a row; ``PairError`` where one is missing or not a non-empty string."""
    for key in ("id", "prompt"):
        if not isinstance(row.get(key), str) or not row[key].strip():
            raise PairError(f"row {row.get('id')!r}: {key!r} must be a non-empty string, got {row.get(key)!r}")
    return row["id"], row["prompt"]


def carried(row: Mapping[str, Any]) -> Json:
    """The part of a prompt row that a pair repeats."""
    return {key: row[key] for key in CARRIED if key in row}


def _key(sample: Scored) -> str:
    return sample.completion.text.strip()


def _distinct(samples: Sequence[Scored]) -> list[Scored]:
    first: dict[str, Scored] = {}
    for sample in samples:
        if _key(sample):
            first.setdefault(_key(sample), sample)
    return list(first.values())


def _rank(seed: int, prompt_id: str, role: str, sample: Scored) -> str:
    return hashlib.sha256(f"{seed}\0{prompt_id}\0{role}\0{_key(sample)}".encode()).hexdigest()


def _pair(row: Mapping[str, Any], identity: str, chosen: Scored, rejected: Scored, rule: str) -> Json:
    return {
        "id": identity,
        "prompt": row["prompt"],
        "chosen": chosen.completion.text,
        "rejected": rejected.completion.text,
        "group": row["id"],
        **carried(row),
        "score_chosen": chosen.score,
        "score_rejected": rejected.score,
        "seed_chosen": chosen.completion.seed,
        "seed_rejected": rejected.completion.seed,
        "chosen_truncated": chosen.completion.truncated,
        "rejected_truncated": rejected.completion.truncated,
        "how": "sampled_pair",
        "rule": rule,
    }
