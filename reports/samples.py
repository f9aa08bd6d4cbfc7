"""Answers for the sample browser: per benchmark and prompt, what every policy wrote and how it scored."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .records import MatrixData, ReportError, RunData
from .text import LONGEST, shorten, visible

#: Characters of answers a report may carry in all; beyond it answers are cut shorter, then prompts left out.
BUDGET = 1_400_000
SHORTEST = 200


def load_generations(path: Path) -> dict[str, dict[str, Any]]:
    """First sample per prompt id of one generations/<benchmark>.jsonl; raises ReportError with the line number."""
    rows: dict[str, dict[str, Any]] = {}
    if not path.exists():
        return rows
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                key = str(row["prompt_id"])
                kept = {
                    "prompt": str(row["prompt"]),
                    "text": str(row["text"]),
                    "finish": row.get("finish_reason"),
                }
            except (ValueError, KeyError, TypeError) as error:
                raise ReportError(
                    f"{path}:{number}: not a generation row ({error}); delete the file and rerun"
                ) from error
            rows.setdefault(key, kept)
    return rows


def _policies(matrix: MatrixData) -> list[RunData]:
    return [
        *([matrix.reference] if matrix.reference else []),
        *(r for r in matrix.runs if r.state in ("done", "running")),
    ]


def _order(prompts: dict[str, str], policies: Sequence[RunData], benchmark: str) -> list[str]:
    """Prompts on which policies disagree most come first: those are the ones worth reading."""

    def spread(prompt_id: str) -> float:
        values = [v for p in policies if (v := _score(p, benchmark).get(prompt_id)) is not None]
        return max(values) - min(values) if len(values) > 1 else 0.0

    return sorted(prompts, key=lambda i: (-spread(i), i))


def _score(run: RunData, benchmark: str) -> dict[str, float | None]:
    scores = run.scores.get(benchmark)
    return {} if scores is None else {i.id: i.values.get(scores.primary_metric) for i in scores.items}


def samples(matrix: MatrixData, names: dict[str, str]) -> dict[str, Any]:
    """The browser's data; `names` maps a run id to what the reader sees. Texts are made visible and cut.

    {"policies": [{"id", "name"}], "benchmarks": [{"name", "metric", "prompts": [{"id", "prompt",
    "answers": {run_id: {"text", "score", "finish"}}}]}], "note"}.
    """
    policies = _policies(matrix)
    per: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
    for benchmark in matrix.benchmarks:
        found = {p.run_id: load_generations(p.path / "generations" / f"{benchmark}.jsonl") for p in policies}
        if any(found.values()):
            per[benchmark] = found
    cells = sum(len(rows) for found in per.values() for rows in found.values())
    longest = LONGEST if not cells else max(SHORTEST, min(LONGEST, BUDGET // cells))
    used, dropped, out = 0, 0, []
    for benchmark, found in per.items():
        prompts = {i: row["prompt"] for rows in found.values() for i, row in rows.items()}
        scores = {p.run_id: _score(p, benchmark) for p in policies}
        entries = []
        for prompt_id in _order(prompts, policies, benchmark):
            if used > BUDGET:
                dropped += 1
                continue
            answers = {
                run_id: {
                    "text": shorten(visible(rows[prompt_id]["text"]), longest),
                    "finish": rows[prompt_id]["finish"],
                    "score": scores[run_id].get(prompt_id),
                }
                for run_id, rows in found.items()
                if prompt_id in rows
            }
            prompt = shorten(visible(prompts[prompt_id]), longest)
            used += len(prompt) + sum(len(a["text"]) for a in answers.values())
            entries.append({"id": visible(prompt_id), "prompt": prompt, "answers": answers})
        metric = next((p.scores[benchmark].primary_metric for p in policies if benchmark in p.scores), "")
        out.append({"name": benchmark, "metric": metric, "prompts": entries})
    note = f"Answers longer than {longest:,} characters are cut."
    if dropped:
        note += f" {dropped} prompts are left out to keep this page small; all answers are in generations/."
    answered = {run_id for found in per.values() for run_id, rows in found.items() if rows}
    listed = [
        {"id": p.run_id, "name": visible(names.get(p.run_id, p.run_id))} for p in policies if p.run_id in answered
    ]
    return {"policies": listed, "benchmarks": out, "note": note}
