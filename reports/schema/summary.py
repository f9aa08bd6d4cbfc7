"""summary.json of a run or a matrix."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic.json_schema import GenerateJsonSchema

from reports.runs.records import ReportError, read_json
from reports.schema.base import Json, Reasoned, Record
from reports.schema.beta import Beta
from reports.schema.judges import JudgedBenchmark
from reports.schema.metrics import Frontiers, Metric, Strata, Tuning
from reports.schema.runs import Contamination, EngineUse, Foreign, NoiseFloor, Provenance, RunEntry, Subset
from reports.schema.verdict import (
    Check,
    ClaimOverMatrices,
    Claims,
    Inference,
    OverReference,
    Scope,
    Sensitivity,
    TestCounts,
    Verdict,
)


class Primary(Reasoned):
    """benchmark/metric that the declared comparisons are about."""

    value: str | None


class Baseline(Primary):
    """The arm that the others are compared with, and how it was picked."""

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

    schema_version: Literal[1, 2, 3, 4] = Field(description="Earlier versions are read in the words of version 4.")
    kind: Literal["run", "matrix"] = Field(description="A run is compared with the reference alone.")
    name: str | None = Field(description="The matrix file's name.")
    baseline: Baseline
    primary: Primary
    counts: Counts
    sensitivity: Sensitivity | None = Field(
        default=None, description="What the matrix shows where the answer is known; null where no control was declared."
    )
    scope: Scope | None = Field(default=None, description="Absent in early files.")
    verdict: Verdict
    inference: Inference
    over_reference: list[OverReference] = Field(description="Empty where the reference was not scored.")
    claims: Claims
    tests: TestCounts
    checklist: list[Check] = Field(description="What a reviewer asks for.")
    metrics: list[Metric] = Field(description="One entry a benchmark and metric.")
    runs: list[RunEntry] = Field(description="One entry a planned run.")
    beta: Beta
    engine: EngineUse
    contamination: Contamination
    judges: list[JudgedBenchmark] = Field(description="Win rates by benchmark and judge; seeds are pooled.")
    noise_floor: NoiseFloor
    provenance: Provenance
    tuning: Tuning
    frontiers: Frontiers
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
    """A summary of version 1 or 2 in the words of later ones; anything else as it is.

    Version 1 also said "refuted" where an improvement of min_effect was excluded and nothing else shown. Where no
    comparison lies below zero this is undecided. Before version 3 comparisons ended in codes of their own, methods had marks for
    ties, and the table of methods against the baseline did not exist: it is left empty.
    """
    if not isinstance(summary, dict) or summary.get("schema_version") not in (1, 2):
        return summary

    def renamed(entry: Json) -> Json:
        below = [c["difference"]["high"] for c in entry["comparisons"]]
        worse = any(high is not None and high < 0 for high in below)
        words = {"supported": "better", "refuted": "worse" if worse else "undecided", "inconclusive": "undecided"}
        p = dict(entry["adjusted_p"])
        names = {"better_by_more": None, "better": p.pop("supported"), "worse": p.pop("refuted")}
        return entry | {"verdict": words.get(entry["verdict"], entry["verdict"]), "adjusted_p": names | p}

    def worded(comparison: Json) -> Json:
        code = comparison["verdict"]["code"]
        return comparison | {"verdict": code if code in ("better", "worse") else "undecided"}

    claims = summary["claims"]
    if summary["schema_version"] == 1:
        claims = claims | {"judged": [renamed(entry) for entry in claims["judged"]]}
    metrics = [m | {"comparisons": [worded(c) for c in m["comparisons"]]} for m in summary["metrics"]]
    why = f"written by schema version {summary['schema_version']}; run the report command again"
    table = dict.fromkeys(("metric", "length_metric")) | {
        "at": "final",
        "model": why,
        "reason": why,
        "levels": [],
        "rows": [],
    }
    verdict = {"answer": [summary["verdict"]["headline"]], "kind": "exploratory", "because": why}
    made = {"verdict": verdict, "inference": table, "claims": claims, "metrics": metrics}
    return {"over_reference": []} | summary | made


def read_summary(path: Path) -> Summary:
    """The summary in a file, of any version. Raises ReportError for a file that is none."""
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
