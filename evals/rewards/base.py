"""What a reward is: it gives every answer a number, higher is better."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from trainers.common import UserError, refuse

Row = Mapping[str, Any]


class RewardError(UserError):
    """A reward that cannot work as configured, or a prompt it cannot score; the message names the fix."""


class Reward(ABC):
    """Scores answers. Constructing one loads nothing heavy.

    Attributes:
        rule: name and version of what it measures ("length/1: words"), kept with every pair and score; other settings are
            another rule.
        reads: keys of a prompt row that its scores depend on and that not every row has.
        code: SHA-256 of its file, set by the loader for a class from outside the package.
        by_rule: whether anyone can compute the scores again without a model's judgement.
    """

    rule: str = ""
    reads: tuple[str, ...] = ()
    code: str | None = None
    by_rule: bool = True

    @property
    def identity(self) -> str:
        """The rule, with the beginning of its code's hash for a class from outside the package."""
        return self.rule if self.code is None else f"{self.rule} (code {self.code[:12]})"

    @property
    def description(self) -> str:
        """What it measures, for the report: the rule without its name and version."""
        return self.rule.partition(": ")[2] or self.rule

    def check(self, row: Row) -> None:
        """Refuse a prompt row that it cannot score, before anything is sampled.

        Raises:
            RewardError: say, a key that it reads is missing.
        """
        return

    @abstractmethod
    def score(self, rows: Sequence[Row], answers: Sequence[str]) -> Sequence[float | None]:
        """One finite number for each answer, None where it has no score; `rows[i]` (prompt, ...) was answered by `answers[i]`."""

    def explained(self, rows: Sequence[Row], answers: Sequence[str]) -> list[tuple[float | None, str | None]]:
        """The checked score of each answer, and in words where it is from; None where the reward has none."""
        return [(value, None) for value in scores(self, rows, answers)]


def scores(reward: Reward, rows: Sequence[Row], answers: Sequence[str]) -> list[float | None]:
    """What the reward gives, checked.

    Raises:
        RewardError: another number of scores than of answers, or one that is neither a finite number nor None.
    """
    found = list(reward.score(rows, answers))
    name = type(reward).__name__
    wrong = [v for v in found if v is not None and (isinstance(v, str) or not math.isfinite(v))]
    refuse(
        RewardError,
        (
            len(found) != len(answers),
            f"{name} gave {len(found)} scores for {len(answers)} answers; it must give one for each",
        ),
        (wrong, f"{name} gave {', '.join(map(repr, wrong[:3]))}; a score is a finite number, or None"),
    )
    return [None if value is None else float(value) for value in found]
