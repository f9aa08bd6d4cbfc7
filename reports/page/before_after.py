"""Answers before and after training: the reference beside one trained policy, on the first prompts by id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.compare.comparison import column
from reports.page.samples import load_generations
from reports.page.text import shorten, visible
from reports.runs.arms import arm_of, arms
from reports.runs.records import MatrixData
from reports.schema import Summary

PROMPTS = 4
#: Characters of a prompt or an answer shown here; the sample browser has more.
LONGEST_SHOWN = 400


def before_after(matrix: MatrixData, summary: Summary, names: Mapping[str, str]) -> dict[str, Any]:
    """{"rule", "metric", "after", "rows": [{"id", "prompt", "answers": [(text, score), (text, score)]}], "reason"}.

    The trained policy is the baseline's scored run of the lowest seed; without one, the run of the lowest seed of any method.
    Texts are made visible and cut. `names` maps a run id to what the reader sees.
    """
    benchmark, _, metric = (summary.primary.value or "").partition("/")
    found: dict[str, Any] = {"rule": "", "metric": metric, "after": "", "rows": []}
    labels, baseline = arm_of(arms(matrix.runs)), summary.baseline.value
    runs = [r for r in matrix.runs if r.state in ("done", "running") and benchmark in r.scores]
    if matrix.reference is None or benchmark not in matrix.reference.scores or not runs:
        return found | {
            "reason": "Not shown: the reference or every trained policy lacks a score on the primary metric."
        }
    run = min(runs, key=lambda r: (labels[r.run_id] != baseline, r.seed or 0))
    policies = (matrix.reference, run)
    texts = [load_generations(p.path / "generations" / f"{benchmark}.jsonl") for p in policies]
    scores = [column(p.scores[benchmark], metric, None).values for p in policies]
    chosen = sorted(texts[0].keys() & texts[1].keys())[:PROMPTS]
    if not chosen:
        return found | {"reason": f"Not shown: answers of the reference and of {names[run.run_id]} are not on disk."}
    found["rows"] = [
        {
            "id": visible(i),
            "prompt": shorten(visible(texts[0][i].prompt), LONGEST_SHOWN),
            "answers": [
                (shorten(visible(t[i].text), LONGEST_SHOWN), s.get(i)) for t, s in zip(texts, scores, strict=True)
            ],
        }
        for i in chosen
    ]
    which = "the baseline's" if labels[run.run_id] == baseline else "of all scored runs the"
    rule = f"The first {len(chosen)} prompts of {benchmark} by id. After: {names[run.run_id]}, {which} lowest seed."
    return found | {"rule": rule, "after": names[run.run_id], "reason": None}
