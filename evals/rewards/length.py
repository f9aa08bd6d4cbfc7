"""How long an answer is: the reward that every other one should be compared with."""

from collections.abc import Sequence

from pydantic import PositiveInt

from evals.constraints.text import words
from evals.rewards.base import Reward, Row
from trainers.common.plugins import checked


class Length(Reward):
    """Words of the answer (a Han character or kana is one).

    Args:
        target: score minus the distance from so many words instead.
    """

    @checked
    def __init__(self, target: PositiveInt | None = None) -> None:
        self._target = target
        self.rule = "length/1: words of the answer"
        if target is not None:
            self.rule = f"length/1: minus the distance of the answer's words from {target}"

    def score(self, rows: Sequence[Row], answers: Sequence[str]) -> list[float]:
        counts = [len(words(answer)) for answer in answers]
        return [float(n if self._target is None else -abs(n - self._target)) for n in counts]
