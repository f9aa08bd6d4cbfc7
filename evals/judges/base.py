"""What a judge is: it scores one answer, or prefers one of two. `Judging` adds the cache, both orders and the counts.

A judge never guesses: where it gives no verdict the value is None with a reason, and the case is counted.
"""

import hashlib
import json
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from evals.judges.cache import Cost, JudgeCache, Reply
from trainers.common import Json, UserError


class JudgeError(UserError):
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
        compares: whether it takes two answers (a pairwise judge) or one (a scoring judge). Each two answers are then one call for
            each order, else each answer is one call.
        by_rule: whether its verdicts are those of a program that anyone can run again.
        context_keys: keys of `Question.context` that its verdicts depend on.
        max_requests: calls over the life of its cache; None for no limit.
    """

    compares: bool = False
    by_rule: bool = False
    context_keys: tuple[str, ...] = ()
    max_requests: int | None = None

    @classmethod
    def placed(cls, params: Json, base: Path) -> tuple[Json, dict[str, str]]:
        """Its parameters in a matrix file of the folder `base`, paths made absolute; and a hash of each file or folder they name.

        Raises:
            JudgeError: one is not there. The message begins with the parameter.
        """
        return params, {}

    def seconds_each(self, flops: Callable[[], float]) -> float | None:
        """Seconds that a call takes, roughly, before any was measured; None where nothing is known.

        Args:
            flops: floating-point operations this machine does a second.
        """
        return None

    @abstractmethod
    def identity(self) -> Json:
        """JSON-ready: everything its verdicts depend on, and nothing else (no paths, hosts, keys or batch sizes)."""

    def context_of(self, question: Question) -> Json:
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


_LARGEST = sys.float_info.max
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

    def as_dict(self) -> Json:
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
        texts: list[tuple[str, ...]] = [(a, b) for _, a, b in zip(questions, first, second, strict=True)]
        real = [i for i, (a, b) in enumerate(texts) if a != b]
        out = [Comparison(0.5, reason=IDENTICAL)] * len(texts)
        shown = [(texts[i], texts[i][::-1]) if self.judge.compares else (texts[i][:1], texts[i][1:]) for i in real]
        asked = [one for one, _ in shown] + [two for _, two in shown]
        replies = self._ask([Request(questions[i], answers) for i, answers in zip(real * 2, asked, strict=True)])
        for i, one, two in zip(real, replies[: len(real)], replies[len(real) :], strict=True):
            out[i] = _compared(self.judge.compares, one, two)
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
        low, high, expected = (
            (0, 1, "a preference in 0..1") if self.judge.compares else (-_LARGEST, _LARGEST, "a finite score")
        )
        if reply.value is not None and not low <= reply.value <= high:
            raise JudgeError(f"{type(self.judge).__name__} answered {reply.value!r}; it must give {expected}, or None")

    def _key(self, request: Request) -> str:
        question = request.question
        return _digest([self.digest, question.prompt, self.judge.context_of(question), list(request.answers)])


def _digest(value: Any) -> str:
    # ASCII escapes, so that a lone surrogate in an answer can be hashed.
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _compared(orders: bool, one: Reply, two: Reply) -> Comparison:
    """The comparison that two replies give: to both orders of the answers, or to one answer each."""
    # what is not final is the server's word, not the judge's
    words = one.raw if one.final else None, two.raw if two.final else None
    first, second = one.value, two.value
    if orders and second is not None:
        second = 1 - second
    shown = (first, second) if orders else (None, None)
    if first is None or second is None:
        return Comparison(None, *shown, one.reason if first is None else two.reason, words)
    if orders:
        return Comparison((first + second) / 2, *shown, words=words)
    return Comparison(0.5 if first == second else float(first > second), words=words)
