"""What a judge is: it scores one answer, or prefers one of two. `Judging` adds the cache, both orders and the counts.

A judge never guesses: where it gives no verdict the value is None with a reason, and the case is counted.
"""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from evals.judges.cache import Cost, JudgeCache, Reply


class JudgeError(ValueError):
    """A judge that cannot work as configured; the message names the key, the value and the fix."""


@dataclass(frozen=True)
class Question:
    """What was asked of the policies: the prompt, and what a judge may need beside it (say, its constraints)."""

    prompt: str
    context: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """One thing to ask a judge: a question with one answer, or with two in the order they are shown."""

    question: Question
    answers: tuple[str, ...]


class Judge(ABC):
    """One judge. Constructing it loads nothing and asks nobody.

    Attributes:
        compares: whether it takes two answers (a pairwise judge) or one (a scoring judge).
        by_rule: whether its verdicts are those of a program that anyone can run again.
        context_keys: keys of `Question.context` that its verdicts depend on.
    """

    compares: bool = False
    by_rule: bool = False
    context_keys: tuple[str, ...] = ()

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """JSON-ready: everything its verdicts depend on, and nothing else (no paths, hosts, keys or batch sizes)."""

    def context_of(self, question: Question) -> dict[str, Any]:
        """JSON-ready: what a verdict depends on beside the prompt and the answers; part of what a reply is cached under."""
        return {key: question.context[key] for key in self.context_keys if key in question.context}

    @abstractmethod
    def ask(self, requests: Sequence[Request], spent: Cost) -> Iterator[tuple[int, Reply]]:
        """Yield (index, reply) for every request, in any order, each as soon as it is known.

        A score is any finite number, higher is better. A preference is in [0, 1] for the first answer shown, a tie 0.5.
        `spent` is what this judge's requests have cost so far, for judges with a budget.
        """


@dataclass(frozen=True)
class Comparison:
    """Preference for the first answer in [0, 1], None without a verdict (`reason` says why).

    `forward` and `backward` are preferences for the same first answer, shown first and shown second; they are None for
    judges that see one answer at a time and for identical answers, where order means nothing. `words` is what the judge
    wrote, of the two orders or of the two answers; None where it wrote nothing.
    """

    preference: float | None
    forward: float | None = None
    backward: float | None = None
    reason: str | None = None
    words: tuple[str | None, str | None] = (None, None)


IDENTICAL = "identical answers"
SILENT = Reply(None, "the judge gave no reply", final=False)


@dataclass
class Tally:
    """What became of the requests: read from the cache, asked now, and of all these how many without a verdict, by reason.

    `refusal` is what the server said when it first refused one.
    """

    cached: int = 0
    asked: int = 0
    unparsed: Counter[str] = field(default_factory=Counter)
    unanswered: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    refusal: str = ""
    cost: Cost = field(default_factory=Cost)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready. `unparsed` replies are kept and never asked again; `unanswered` requests are asked by the next run.

        Of the unanswered, a judge that is well has `refused` some, say because they are too long.
        """
        return {
            "cached": self.cached,
            "asked": self.asked,
            "unparsed": dict(sorted(self.unparsed.items())),
            "unanswered": dict(sorted(self.unanswered.items())),
            "refused": self.refused,
            "cost": asdict(self.cost),
        }


class Judging:
    """A judge with its cache: every request with the same content is asked once, ever.

    A killed run resumes: it sends only the requests whose reply had not arrived. Requests without an answer are repeated
    by the next run, not by this object.

    Args:
        code: hash of the judge's own code, where that is not part of this package: other code is another judge.
        progress: called after each reply with the replies that have arrived and the number asked for in this call.
    """

    def __init__(
        self,
        judge: Judge,
        cache: JudgeCache,
        code: str | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self.judge = judge
        self.cache = cache
        self.tally = Tally()
        self.identity = {**judge.identity(), **({} if code is None else {"code": code})}
        self.digest = _digest(self.identity)
        self.progress = progress
        self._unanswered: dict[str, Reply] = {}

    def score(self, questions: Sequence[Question], answers: Sequence[str]) -> list[Reply]:
        """A reply for each answer. JudgeError for a pairwise judge."""
        if self.judge.compares:
            raise JudgeError(f"{type(self.judge).__name__} compares two answers; use compare, or a scoring template")
        return self._ask([Request(q, (a,)) for q, a in zip(questions, answers, strict=True)])

    def compare(self, questions: Sequence[Question], first: Sequence[str], second: Sequence[str]) -> list[Comparison]:
        """The preference for each `first` answer over the `second`.

        A pairwise judge is asked in both orders and the two are averaged; when one order has no verdict the comparison
        has none, since the other order alone carries the judge's position bias. A scoring judge scores both answers and
        the higher score wins, equal scores tie. Identical answers tie without being asked.
        """
        items = list(zip(questions, first, second, strict=True))
        real = [i for i, (_, a, b) in enumerate(items) if a != b]
        out = [Comparison(0.5, reason=IDENTICAL)] * len(items)
        if self.judge.compares:
            orders = [Request(items[i][0], (items[i][1], items[i][2])) for i in real]
            replies = self._ask(orders + [Request(r.question, r.answers[::-1]) for r in orders])
        else:
            singles = [Request(items[i][0], (items[i][1],)) for i in real]
            replies = self._ask(singles + [Request(items[i][0], (items[i][2],)) for i in real])
        for i, one, two in zip(real, replies[: len(real)], replies[len(real) :], strict=True):
            out[i] = (_both_orders if self.judge.compares else _by_score)(one, two)
        return out

    def _ask(self, requests: Sequence[Request]) -> list[Reply]:
        self.cache.refresh()
        keys = [self._key(request) for request in requests]
        missing = [i for i, key in enumerate(keys) if key not in self.cache and key not in self._unanswered]
        first_with = {keys[i]: i for i in reversed(missing)}  # the same content twice is one request
        todo = sorted(first_with.values())
        self.tally.cached += len(requests) - len(missing)
        if todo:
            self.cache.introduce(self.digest, self.identity)
            replies_due = self.judge.ask([requests[i] for i in todo], self.cache.spent(self.digest))
            for done, (index, reply) in enumerate(replies_due, start=1):
                self._check(reply)
                key = keys[todo[index]]
                self.tally.asked += 1
                self.tally.cost += reply.cost
                if reply.final:
                    self.cache.put(key, self.digest, reply)
                else:
                    self.cache.charge(self.digest, reply.cost)
                    self._unanswered[key] = reply
                self.progress(done, len(todo))
        replies = [self.cache.get(key) or self._unanswered.get(key, SILENT) for key in keys]
        for reply in dict(zip(keys, replies, strict=True)).values():
            if reply.value is None:
                (self.tally.unparsed if reply.final else self.tally.unanswered)[reply.reason or "no reason"] += 1
                if not reply.final and reply.raw is not None:
                    self.tally.refused += 1
                    self.tally.refusal = self.tally.refusal or reply.raw
        return replies

    def _check(self, reply: Reply) -> None:
        if reply.value is None:
            return
        if not math.isfinite(reply.value) or (self.judge.compares and not 0 <= reply.value <= 1):
            expected = "a preference in 0..1" if self.judge.compares else "a finite score"
            raise JudgeError(f"{type(self.judge).__name__} answered {reply.value!r}; it must give {expected}, or None")

    def _key(self, request: Request) -> str:
        question = request.question
        return _digest([self.digest, question.prompt, self.judge.context_of(question), list(request.answers)])


def _digest(value: Any) -> str:
    # ASCII escapes, so that a lone surrogate in an answer can be hashed.
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _both_orders(forward: Reply, backward: Reply) -> Comparison:
    one = forward.value
    two = None if backward.value is None else 1 - backward.value
    words = _words(forward), _words(backward)
    if one is None or two is None:
        return Comparison(None, one, two, forward.reason if one is None else backward.reason, words)
    return Comparison((one + two) / 2, one, two, words=words)


def _by_score(first: Reply, second: Reply) -> Comparison:
    words = _words(first), _words(second)
    if first.value is None or second.value is None:
        return Comparison(None, reason=first.reason if first.value is None else second.reason, words=words)
    return Comparison(0.5 if first.value == second.value else float(first.value > second.value), words=words)


def _words(reply: Reply) -> str | None:
    return reply.raw if reply.final else None  # what is not final is the server's word, not the judge's
