"""How long an answer is: the reward that every other one should be compared with."""

from __future__ import annotations

from collections.abc import Sequence

from evals.constraints.text import words
from evals.rewards.base import Reward, RewardError, Row


class Length(Reward):
    """Words of the answer (a Han character or kana is one).

    Args:
        target: score minus the distance from so many words instead.
    """

    def __init__(self, target: int | None = None) -> None:
        if target is not None and (isinstance(target, bool) or not isinstance(target, int) or target < 1):
            raise RewardError(f"target is {target!r}; it must be a whole number of at least 1")
        self._target = target
        self.rule = "length/1: words of the answer"
        if target is not None:
            self.rule = f"length/1: minus the distance of the answer's words from {target}"

    def score(self, rows: Sequence[Row], answers: Sequence[str]) -> list[float]:
        counts = [len(words(answer)) for answer in answers]
        return [float(n if self._target is None else -abs(n - self._target)) for n in counts]
