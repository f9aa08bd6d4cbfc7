"""What `judgments` prints with --json: win rates, pairs of models and agreement, from judgments of others."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from reports.schema.base import Estimate, Number, Reasoned, Record, Value
from reports.schema.judges import Agreement, Position, WinRate


class ModelRate(Record):
    model: str
    win_rate: WinRate = Field(description="Over all comparisons of the model, in 0..1.")
    length_controlled: Estimate | None = Field(
        description="AlpacaEval 2's length-controlled win rate, in 0..1; null without a baseline, lengths and four models."
    )


class ModelPair(Record):
    """The win rate of `first` minus that of `second`, paired by prompt."""

    first: str
    second: str
    difference: Estimate = Field(description="Share of prompts, in -1..1.")
    p_value: Number | None = Field(description="Two-sided, of the t interval.")
    how: str = Field(description="Compared with each other, or with the same opponents.")


class Separability(Value):
    """Share of pairs of models whose 95 % intervals of the win rate do not overlap."""

    separated: int
    pairs: int


class Strengths(Reasoned):
    """Bradley-Terry strengths, log odds; the anchor's is 0."""

    anchor: str | None
    plain_strengths: dict[str, Estimate] = Field(alias="plain")
    style_controlled: dict[str, Estimate] = Field(description="At equal style; empty where no style is known.")
    style: dict[str, Estimate] = Field(description="Weight of each feature, log odds per standard deviation.")


class AgainstPeople(Record):
    """A judge against the majority of the people who judged the same comparison, or their label."""

    n: int = Field(description="Comparisons on which more than half of the people agree.")
    no_verdict: int = Field(description="Of these, without a verdict of the judge; they count as ties, as in PandaLM.")
    accuracy: Number
    precision: Number = Field(description="Mean over the classes, as are recall and F1.")
    recall: Number
    f1: Number
    each_order: Number | None = Field(description="Accuracy of single orders, averaged; null where only one is known.")
    kappa: Estimate


class JudgeTable(Record):
    """What one judge said."""

    judge: str
    human: bool
    comparisons: int
    prompts: int
    baseline: str | None = Field(description="Model that all others were compared with.")
    models: list[ModelRate]
    pairs: list[ModelPair]
    separability: Separability
    strengths: Strengths
    position: Position | None
    against_people: AgainstPeople | None


class Judgments(Record):
    schema_version: Literal[1]
    format: str
    files: list[str]
    judges: list[JudgeTable]
    agreement: list[Agreement] = Field(description="Every two judges.")
    alpha: Estimate = Field(description="Krippendorff's alpha of all judges, ties a class of their own.")
    alpha_people: Estimate = Field(description="That of the people among them.")
