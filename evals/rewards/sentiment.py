"""How positive an answer sounds, by a fixed lexicon."""

from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import version
from typing import Any

from evals.rewards.base import Reward, Row


class Sentiment(Reward):
    """VADER's compound score in [-1, 1] (Hutto and Gilbert, ICWSM 2014); 0 where no word is in its lexicon."""

    def __init__(self) -> None:
        self.rule = f"sentiment/1: VADER's compound score of the answer (vaderSentiment {version('vaderSentiment')})"

    @cached_property
    def _analyzer(self) -> Any:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

        return SentimentIntensityAnalyzer()

    def score(self, rows: Sequence[Row], answers: Sequence[str]) -> list[float]:
        return [self._analyzer.polarity_scores(answer)["compound"] for answer in answers]
