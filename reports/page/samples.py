"""Answers for the sample browser: per benchmark and prompt, what every policy wrote, how it scored, what judges said."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reports.compare.winrates import ComparisonError, read_comparisons
from reports.page.text import LONGEST, shorten, visible
from reports.runs.records import MatrixData, ReportError, RunData, finite
from trainers.common.files import Json

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


@dataclass(frozen=True, slots=True)
class Answer:
    """One sample of a policy: `finish` says why the engine ended it, where it said so."""

    prompt: str
    text: str
    finish: str | None


def load_generations(path: Path) -> dict[str, Answer]:
    """First sample per prompt id of one generations/<benchmark>.jsonl; raises ReportError with the line number."""
    rows: dict[str, Answer] = {}
    if not path.exists():
        return rows
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                answer = Answer(str(row["prompt"]), str(row["text"]), row.get("finish_reason"))
                rows.setdefault(str(row["prompt_id"]), answer)
            except (ValueError, KeyError, TypeError) as error:
                raise ReportError(
                    f"{path}:{number}: not a generation row ({error}); delete the file and rerun"
                ) from error
    return rows


def _has_rows(path: Path) -> bool:
    """Whether a file of generations holds a line that is not blank."""
    if not path.exists():
        return False
    with path.open("rb") as lines:
        return any(line.strip() for line in lines)


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
    known, beta = table[np.argsort(table[:, 0], kind="stable")].T
    found: list[float | None] = []
    for value in log_perplexities:
        if value is None or not known[0] <= value <= known[-1]:
            found.append(None)
            continue
        start = int(np.searchsorted(known, value)) - NEIGHBOURS // 2
        start = max(0, min(start, len(known) - NEIGHBOURS))
        found.append(float(np.median(beta[start : start + NEIGHBOURS])))
    return found


def _verdicts(
    matrix: MatrixData, benchmark: str, listed: Mapping[str, int], room: int, words_room: int
) -> tuple[list[Json], int]:
    """What each judge said, by prompt, and how many of its verdicts do not fit.

    A verdict is [first, second, preference for the first, reason, words]: its words with the answers in this order and
    swapped, or, of a judge that is not `paired`, on the first and on the second answer.
    """
    found: list[list[Json]] = []
    left_out = 0
    for record in sorted((matrix.output_dir / "comparisons").glob("*.json")):
        path = record.with_suffix(".jsonl")
        try:
            rows = read_comparisons(path) if path.exists() else []
        except ComparisonError as error:
            raise ReportError(str(error)) from error
        mine = (r for r in rows if r.get("benchmark") == benchmark and r["sample"] == 0)
        rows = [r for r in mine if r["first"] in listed and r["second"] in listed]
        left_out += max(0, len(rows) - room)
        found.append(rows[:room])
        room -= len(found[-1])
    longest = words_room // (2 * max(1, sum(map(len, found))))
    longest = max(SHORTEST_WORDS, min(LONGEST_WORDS, longest))

    def cut(text: Any, most: int) -> str | None:
        return None if text is None else shorten(visible(str(text)), most)

    out: list[Json] = []
    for rows in filter(None, found):
        said: dict[str, list[list[Any]]] = {}
        for row in rows:
            words = [cut(w, longest) for w in row.get("words") or ()]
            first, second, reason = listed[row["first"]], listed[row["second"]], cut(row.get("reason"), LONGEST_WORDS)
            verdict = [first, second, finite(row["preference"]), reason, words]
            said.setdefault(visible(str(row["prompt_id"])), []).append(verdict)
        paired = any(row.get(order) is not None for row in rows for order in ("forward", "backward"))
        out.append({"name": visible(str(rows[0]["judge"])), "paired": paired, "said": said})
    return out, left_out


def _benchmark(
    name: str, answers: Mapping[str, Mapping[str, Answer]], policies: Sequence[RunData], room: int, longest: int
) -> tuple[Json, int, int]:
    """What the browser says of one benchmark, the judges apart; the characters it takes, and how many prompts do not fit.

    `answers` are by run id and prompt id; `policies` may be more than those whose answers are shown. The log prompt perplexity
    is the one under the first policy that has it: the reference, where it was evaluated.
    """
    scored = {p.run_id: p.scores[name] for p in policies if name in p.scores}
    first = next(iter(scored.values()), None)
    metric = first.primary_metric if first else ""
    scores = {r: {i.id: i.values.get(s.primary_metric) for i in s.items} for r, s in scored.items() if r in answers}
    measured = (
        {i.id: v for i in s.items if (v := finite(i.extra.get("log_prompt_perplexity"))) is not None}
        for s in scored.values()
    )
    perplexity = next(filter(None, measured), {})
    texts = {i: answer.prompt for found in answers.values() for i, answer in found.items()}
    # Prompts on which policies disagree most come first: those are the ones worth reading.
    order = sorted(texts, key=lambda i: (-_spread([found.get(i) for found in scores.values()]), i))
    logs = [perplexity.get(i) for i in order]
    betas = {p.run_id: dict(zip(order, beta_at(p, logs), strict=True)) for p in policies if p.run_id in answers}
    entries: list[Json] = []
    used = 0
    for prompt in order:
        if used > room:
            break
        said: dict[int, list[Any]] = {}
        for place, (run, found) in enumerate(answers.items()):
            if answer := found.get(prompt):
                cut = shorten(visible(answer.text), longest)
                said[place] = [cut, scores.get(run, {}).get(prompt), answer.finish, betas[run][prompt]]
        text = shorten(visible(texts[prompt]), longest)
        used += len(text) + sum(len(shown[0]) for shown in said.values())
        entries.append({"id": visible(prompt), "prompt": text, "logppl": perplexity.get(prompt), "answers": said})
    values = {v for found in scores.values() for v in found.values() if v is not None}
    known = [v for v in logs if v is not None]
    entry = {
        "name": visible(name),
        "metric": metric,
        "higher": first is None or first.metrics.get(metric, {}).get("higher_is_better") is not False,
        "binary": bool(values) and values <= {0.0, 1.0},
        "quartiles": np.quantile(known, (0.25, 0.5, 0.75)).tolist() if len(known) >= 4 else [],
        "prompts": entries,
    }
    return entry, used, len(order) - len(entries)


def _spread(scores: Sequence[float | None]) -> float:
    values = [v for v in scores if v is not None]
    return max(values) - min(values) if len(values) > 1 else 0.0


def samples(matrix: MatrixData, names: Mapping[str, str]) -> Json:
    """The browser's data; `names` maps a run id to what the reader sees. Texts are made visible and cut.

    {"policies": [{"id", "name"}], "benchmarks": [{"name", "metric", "binary", "quartiles", "judges": [{"name", "paired",
    "said"}], "prompts": [{"id", "prompt", "logppl", "answers": {policy: [text, score, finish, beta]}}]}], "note"}. A policy is
    given by its position in `policies`.
    """
    trained = (r for r in matrix.runs if r.state in ("done", "running"))
    policies = [*([matrix.reference] if matrix.reference else []), *trained]
    answered = [p for p in policies if any(_has_rows(_generations(p, b)) for b in matrix.benchmarks)]
    shown = answered[:MOST_POLICIES]
    loaded = {b: {p.run_id: load_generations(_generations(p, b)) for p in shown} for b in matrix.benchmarks}
    kept = {b: answers for b, answers in loaded.items() if any(answers.values())}
    listed = {p.run_id: place for place, p in enumerate(shown)}
    cells = sum(len(found) for answers in kept.values() for found in answers.values())
    longest = LONGEST if not cells else max(SHORTEST, min(LONGEST, BUDGET // cells))
    room, dropped, unsaid, out = BUDGET, 0, 0, []
    for position, (name, answers) in enumerate(kept.items()):
        entry, used, over = _benchmark(name, answers, policies, room // (len(kept) - position), longest)
        room -= used
        dropped += over
        judges, over = _verdicts(matrix, name, listed, MOST_VERDICTS // len(kept), WORDS_BUDGET // len(kept))
        unsaid += over
        out.append({**entry, "judges": judges})
    more = len(answered) > len(shown)
    notes = (
        (True, f"Answers longer than {longest:,} characters are cut."),
        (more, f"Of {len(answered)} policies the first {len(shown)} are here."),
        (dropped, f"{dropped} prompts, those on which policies differ least, are left out."),
        (unsaid, f"{unsaid} verdicts of judges are left out."),
        (
            dropped or unsaid or more,
            f"The page carries at most {BUDGET:,} characters of answers; all of them are in generations/ of the runs.",
        ),
    )
    policies_shown = [{"id": p.run_id, "name": visible(names.get(p.run_id, p.run_id))} for p in shown]
    return {"policies": policies_shown, "benchmarks": out, "note": " ".join(note for said, note in notes if said)}


def _generations(policy: RunData, benchmark: str) -> Path:
    return policy.path / "generations" / f"{benchmark}.jsonl"
