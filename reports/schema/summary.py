"""summary.json of a run or a matrix."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic.json_schema import GenerateJsonSchema

from reports.runs.records import ReportError, read_json
from reports.schema.base import Json, Reasoned, Record
from reports.schema.beta import Beta
from reports.schema.correlations import RunCorrelations
from reports.schema.foreign import Foreign
from reports.schema.judges import JudgedBenchmark
from reports.schema.metrics import Metric
from reports.schema.runs import Contamination, EngineUse, NoiseFloor, Provenance, RunEntry, Subset
from reports.schema.tables import Aggregate, Frontiers, Strata, Tuning
from reports.schema.verdict import Check, ClaimOverMatrices, Claims, OverReference, TestCounts, Verdict


class Primary(Reasoned):
    """benchmark/metric that the declared comparisons are about."""

    value: str | None


class Baseline(Reasoned):
    """The arm that the others are compared with, and how it was picked."""

    value: str | None
    note: str | None


class Counts(Record):
    """Runs planned and in each state."""

    planned: int = Field(ge=0)
    unfinished: int = Field(ge=0)
    done: int = Field(ge=0)
    failed: int = Field(ge=0)
    running: int = Field(ge=0)
    pending: int = Field(ge=0)
    missing: int = Field(ge=0)


class Summary(Record):
    """summary.json. A null that is a result has a reason beside it."""

    schema_version: Literal[1, 2] = Field(description="Version 1 is read, with its verdicts in the words of version 2.")
    kind: Literal["run", "matrix"] = Field(description="A run is compared with the reference alone.")
    name: str | None = Field(description="The matrix file's name.")
    baseline: Baseline
    primary: Primary
    counts: Counts
    verdict: Verdict
    over_reference: list[OverReference] = Field(description="Empty where the reference was not scored.")
    claims: Claims
    tests: TestCounts
    checklist: list[Check] = Field(description="What a reviewer asks for.")
    metrics: list[Metric] = Field(description="One entry a benchmark and metric.")
    runs: list[RunEntry] = Field(description="One entry a planned run.")
    beta: Beta
    correlations: list[RunCorrelations] = Field(description="A short view of `beta`.")
    engine: EngineUse
    contamination: Contamination
    judges: list[JudgedBenchmark] = Field(description="Win rates by benchmark and judge; seeds are pooled.")
    noise_floor: NoiseFloor
    provenance: Provenance
    tuning: Tuning
    frontiers: Frontiers
    aggregate: Aggregate
    strata: Strata
    foreign: Foreign | None = Field(
        default=None,
        description="Only in an analysis of runs of other tools.",
    )
    subset: Subset | None = Field(default=None, description="Only in a comparison of picked runs.")
    over_matrices: list[ClaimOverMatrices] = Field(
        default=[], description="Only in a comparison of several outputs: claims over base models and data sets."
    )


def _in_words_of_now(summary: Any) -> Any:
    """The claims of version 1 in the words of version 2; anything else as it is.

    That version also said "refuted" where an improvement of min_effect was excluded and nothing else shown. Where no
    comparison lies below zero this is undecided.
    """
    if not isinstance(summary, dict) or summary.get("schema_version") != 1:
        return summary

    def renamed(entry: Json) -> Json:
        below = [c["difference"]["high"] for c in entry["comparisons"]]
        worse = any(high is not None and high < 0 for high in below)
        words = {"supported": "better", "refuted": "worse" if worse else "undecided", "inconclusive": "undecided"}
        p = dict(entry["adjusted_p"])
        names = {"better_by_more": None, "better": p.pop("supported"), "worse": p.pop("refuted")}
        return entry | {"verdict": words.get(entry["verdict"], entry["verdict"]), "adjusted_p": names | p}

    claims = summary["claims"]
    # Its first files say nothing of the reference.
    said = {"over_reference": None} | summary["verdict"]
    summary = {"over_reference": []} | summary | {"verdict": said}
    return summary | {"claims": claims | {"judged": [renamed(entry) for entry in claims["judged"]]}}


def read_summary(path: Path) -> Summary:
    """The summary in a file, of either version. Raises ReportError for a file that is none."""
    try:
        return Summary.model_validate(_in_words_of_now(read_json(path)))
    except (KeyError, TypeError) as error:
        raise ReportError(f"{path}: no summary ({error!r}); write it again with the report command") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ReportError(f"{path}: {where}: {first['msg']}; write it again with the report command") from None


class _Untitled(GenerateJsonSchema):
    """Without a title for every field, which would repeat its name."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def schema_text() -> str:
    """The JSON Schema (2020-12) of summary.json, as it is written to a file."""
    schema = {"$schema": _Untitled.schema_dialect, **Summary.model_json_schema(schema_generator=_Untitled)}
    return json.dumps(schema, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
