"""Answers before and after training: the reference beside one trained policy, on the first prompts by id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reports.compare.comparison import column
from reports.page.samples import load_generations
from reports.page.text import shorten, visible
from reports.runs.arms import arm_of, arms
from reports.runs.records import MatrixData
from reports.schema import Summary

PROMPTS = 4
#: Characters of a prompt or an answer shown here; the sample browser has more.
LONGEST_SHOWN = 400


@dataclass(frozen=True, slots=True)
class Pair:
    """One prompt with the reference's answer and the trained policy's, each a text and its score."""

    id: str
    prompt: str
    answers: tuple[tuple[str, float | None], tuple[str, float | None]]


@dataclass(frozen=True, slots=True)
class BeforeAfter:
    """`rule` says how prompts and policy were chosen, `after` names the policy, `reason` says why there are no rows."""

    metric: str
    rule: str = ""
    after: str = ""
    rows: tuple[Pair, ...] = ()
    reason: str | None = None


def before_after(matrix: MatrixData, summary: Summary, names: Mapping[str, str]) -> BeforeAfter:
    """Answers of the reference and of the baseline's scored run of the lowest seed; without one, of any method's lowest seed.

    Texts are made visible and cut. `names` maps a run id to what the reader sees.
    """
    benchmark, _, metric = (summary.primary.value or "").partition("/")
    labels, baseline = arm_of(arms(matrix.runs)), summary.baseline.value
    runs = [r for r in matrix.runs if r.state in ("done", "running") and benchmark in r.scores]
    if matrix.reference is None or benchmark not in matrix.reference.scores or not runs:
        why = "Not shown: the reference or every trained policy lacks a score on the primary metric."
        return BeforeAfter(metric, reason=why)
    run = min(runs, key=lambda r: (labels[r.run_id] != baseline, r.seed or 0))
    policies = (matrix.reference, run)
    before, after = (load_generations(p.path / "generations" / f"{benchmark}.jsonl") for p in policies)
    scores = [column(p.scores[benchmark], metric, None).values for p in policies]
    chosen = sorted(before.keys() & after.keys())[:PROMPTS]
    if not chosen:
        why = f"Not shown: answers of the reference and of {names[run.run_id]} are not on disk."
        return BeforeAfter(metric, reason=why)

    def cut(text: str) -> str:
        return shorten(visible(text), LONGEST_SHOWN)

    rows = tuple(
        Pair(
            visible(i),
            cut(before[i].prompt),
            ((cut(before[i].text), scores[0].get(i)), (cut(after[i].text), scores[1].get(i))),
        )
        for i in chosen
    )
    which = "the baseline's" if labels[run.run_id] == baseline else "of all scored runs the"
    rule = f"The first {len(chosen)} prompts of {benchmark} by id. After: {names[run.run_id]}, {which} lowest seed."
    return BeforeAfter(metric, rule, names[run.run_id], rows)
