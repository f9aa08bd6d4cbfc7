"""Answers for the sample browser: per benchmark and prompt, what every policy wrote, how it scored, what judges said."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reports.compare.winrates import ComparisonError, read_comparisons
from reports.page.text import LONGEST, shorten, visible
from reports.runs.records import MatrixData, ReportError, RunData, finite

#: Characters of answers and prompts a report may carry in all.
BUDGET = 1_200_000
#: Verdicts of judges a report may carry in all; beyond it the pairs that come last are left out.
MOST_VERDICTS = 12_000
#: Characters of judges' words a report carries in all, about, and of one reply at least and at most.
WORDS_BUDGET, SHORTEST_WORDS, LONGEST_WORDS = 400_000, 40, 600
#: Answers are cut shorter before prompts are left out, down to this many characters; then policies are left out.
SHORTEST = 240
MOST_POLICIES = 40
#: Rows of training whose median beta stands for the beta at a prompt's perplexity.
NEIGHBOURS = 25


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


def _has_rows(path: Path) -> bool:
    """Whether a file of generations holds a line that is not blank."""
    if not path.exists():
        return False
    with path.open("rb") as lines:
        return any(line.strip() for line in lines)


def _policies(matrix: MatrixData) -> list[RunData]:
    return [
        *([matrix.reference] if matrix.reference else []),
        *(r for r in matrix.runs if r.state in ("done", "running")),
    ]


def beta_at(run: RunData, log_perplexities: Sequence[float | None]) -> list[float | None]:
    """The beta the run's rule gave in training at these log prompt perplexities: the median of the nearest rows.

    None where beta did not vary with the example, nothing was recorded, or the perplexity lies outside what was trained
    on: nothing is extrapolated.
    """
    nothing: list[float | None] = [None] * len(log_perplexities)
    examples = run.examples(("log_prompt_perplexity", "dynamic_beta", "mask"))
    if examples is None:
        return nothing
    table = examples[examples["mask"].astype(bool)][["log_prompt_perplexity", "dynamic_beta"]].to_numpy(dtype=float)
    table = table[np.isfinite(table).all(axis=1)]
    if len(table) < NEIGHBOURS or np.ptp(table[:, 1]) == 0:
        return nothing
    table = table[np.argsort(table[:, 0], kind="stable")]
    found: list[float | None] = []
    for value in log_perplexities:
        if value is None or not table[0, 0] <= value <= table[-1, 0]:
            found.append(None)
            continue
        start = int(np.searchsorted(table[:, 0], value)) - NEIGHBOURS // 2
        start = max(0, min(start, len(table) - NEIGHBOURS))
        found.append(float(np.median(table[start : start + NEIGHBOURS, 1])))
    return found


def _score(run: RunData, benchmark: str) -> dict[str, float | None]:
    scores = run.scores.get(benchmark)
    return {} if scores is None else {i.id: i.values.get(scores.primary_metric) for i in scores.items}


def _order(prompts: Mapping[str, str], scores: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    """Prompts on which policies disagree most come first: those are the ones worth reading."""

    def spread(prompt_id: str) -> float:
        values = [v for found in scores.values() if (v := found.get(prompt_id)) is not None]
        return max(values) - min(values) if len(values) > 1 else 0.0

    return sorted(prompts, key=lambda i: (-spread(i), i))


def _perplexities(policies: Sequence[RunData], benchmark: str) -> dict[str, float]:
    """Log prompt perplexity under the first policy that has it: the reference, where it was evaluated."""
    for policy in policies:
        scores = policy.scores.get(benchmark)
        found = {
            i.id: v
            for i in (scores.items if scores else ())
            if (v := finite(i.extra.get("log_prompt_perplexity"))) is not None
        }
        if found:
            return found
    return {}


def _quartiles(values: NDArray[np.float64]) -> list[float]:
    return [float(q) for q in np.quantile(values, (0.25, 0.5, 0.75))] if values.size >= 4 else []


def _verdicts(
    matrix: MatrixData, benchmark: str, listed: Mapping[str, int], room: int, words_room: int
) -> tuple[list[dict[str, Any]], int]:
    """What each judge said, by prompt, and how many of its verdicts do not fit.

    A verdict is [first, second, preference for the first, reason, words]: its words with the answers in this order and
    swapped, or, of a judge that is not `paired`, on the first and on the second answer.
    """
    found: list[list[dict[str, Any]]] = []
    left_out = 0
    for record in sorted((matrix.output_dir / "comparisons").glob("*.json")):
        path = record.with_suffix(".jsonl")
        try:
            rows = read_comparisons(path) if path.exists() else []
        except ComparisonError as error:
            raise ReportError(str(error)) from error
        rows = [
            r
            for r in rows
            if r.get("benchmark") == benchmark and r["sample"] == 0 and r["first"] in listed and r["second"] in listed
        ]
        left_out += max(0, len(rows) - room)
        found.append(rows[:room])
        room -= len(found[-1])
    longest = words_room // (2 * max(1, sum(map(len, found))))
    longest = max(SHORTEST_WORDS, min(LONGEST_WORDS, longest))
    out: list[dict[str, Any]] = []
    for rows in filter(None, found):
        said: dict[str, list[list[Any]]] = {}
        for row in rows:
            said.setdefault(visible(str(row["prompt_id"])), []).append(
                [
                    listed[row["first"]],
                    listed[row["second"]],
                    finite(row["preference"]),
                    None if row.get("reason") is None else shorten(visible(str(row["reason"])), LONGEST_WORDS),
                    [None if w is None else shorten(visible(str(w)), longest) for w in row.get("words") or ()],
                ]
            )
        paired = any(row.get(order) is not None for row in rows for order in ("forward", "backward"))
        out.append({"name": visible(str(rows[0]["judge"])), "paired": paired, "said": said})
    return out, left_out


def samples(matrix: MatrixData, names: Mapping[str, str]) -> dict[str, Any]:
    """The browser's data; `names` maps a run id to what the reader sees. Texts are made visible and cut.

    {"policies": [{"id", "name"}], "benchmarks": [{"name", "metric", "binary", "quartiles", "judges": [{"name", "paired",
    "said"}], "prompts": [{"id", "prompt", "logppl", "answers": {policy: [text, score, finish, beta]}}]}], "note"}. A policy is
    given by its position in `policies`.
    """
    policies = _policies(matrix)
    files = {b: {p.run_id: p.path / "generations" / f"{b}.jsonl" for p in policies} for b in matrix.benchmarks}
    answered = [p for p in policies if any(_has_rows(of[p.run_id]) for of in files.values())]
    shown = answered[:MOST_POLICIES]
    per: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
    for benchmark, of in files.items():
        found = {p.run_id: load_generations(of[p.run_id]) for p in shown}
        if any(found.values()):
            per[benchmark] = found
    listed = {p.run_id: place for place, p in enumerate(shown)}
    cells = sum(len(found[p.run_id]) for found in per.values() for p in shown)
    longest = LONGEST if not cells else max(SHORTEST, min(LONGEST, BUDGET // cells))
    room, dropped, unsaid, out = BUDGET, 0, 0, []
    for position, (benchmark, found) in enumerate(per.items()):
        share = room // (len(per) - position)
        prompts = {i: row["prompt"] for p in shown for i, row in found[p.run_id].items()}
        scores = {p.run_id: _score(p, benchmark) for p in shown}
        perplexity = _perplexities(policies, benchmark)
        order = _order(prompts, scores)
        betas = {p.run_id: dict(zip(order, beta_at(p, [perplexity.get(i) for i in order]), strict=True)) for p in shown}
        entries: list[dict[str, Any]] = []
        used = 0
        for prompt_id in order:
            if used > share:
                dropped += 1
                continue
            answers = {}
            for run_id, place in listed.items():
                row = found[run_id].get(prompt_id)
                if row is not None:
                    text = shorten(visible(row["text"]), longest)
                    used += len(text)
                    answers[place] = [text, scores[run_id].get(prompt_id), row["finish"], betas[run_id][prompt_id]]
            prompt = shorten(visible(prompts[prompt_id]), longest)
            used += len(prompt)
            entries.append(
                {"id": visible(prompt_id), "prompt": prompt, "logppl": perplexity.get(prompt_id), "answers": answers}
            )
        room -= used
        judges, over = _verdicts(matrix, benchmark, listed, MOST_VERDICTS // len(per), WORDS_BUDGET // len(per))
        unsaid += over
        values = {v for s in scores.values() for v in s.values() if v is not None}
        out.append(
            {
                "name": visible(benchmark),
                "metric": next((p.scores[benchmark].primary_metric for p in policies if benchmark in p.scores), ""),
                "higher": _higher_is_better(policies, benchmark),
                "binary": bool(values) and values <= {0.0, 1.0},
                "quartiles": _quartiles(np.array([v for i in order if (v := perplexity.get(i)) is not None])),
                "judges": judges,
                "prompts": entries,
            }
        )
    note = f"Answers longer than {longest:,} characters are cut."
    if len(answered) > len(shown):
        note += f" Of {len(answered)} policies the first {len(shown)} are here."
    if dropped:
        note += f" {dropped} prompts, those on which policies differ least, are left out."
    if unsaid:
        note += f" {unsaid} verdicts of judges are left out."
    if dropped or unsaid or len(answered) > len(shown):
        note += (
            f" The page carries at most {BUDGET:,} characters of answers; all of them are in generations/ of the runs."
        )
    policies_shown = [{"id": p.run_id, "name": visible(names.get(p.run_id, p.run_id))} for p in shown]
    return {"policies": policies_shown, "benchmarks": out, "note": note}


def _higher_is_better(policies: Sequence[RunData], benchmark: str) -> bool:
    for policy in policies:
        if scores := policy.scores.get(benchmark):
            return scores.metrics.get(scores.primary_metric, {}).get("higher_is_better") is not False
    return True
