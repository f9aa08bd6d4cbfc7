"""What policies answered: with scores and the judges' words for the sample browser, and before and after training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reports.compare.comparison import column
from reports.compare.winrates import read_comparisons
from reports.page.text import LONGEST, shorten, visible
from reports.runs import COMPARISONS, MatrixData, ReportError, RunData, arm_of, arms, finite
from reports.schema import Summary
from trainers.common.files import Json
from trainers.common.jsonl import read_jsonl
from trainers.common.turns import DataError

# Answers for the sample browser: per benchmark and prompt, what every policy wrote, how it scored, what judges said.


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
    try:
        rows = read_jsonl(path) if path.exists() else []
    except DataError as error:
        raise ReportError(f"{error}; delete the file and rerun") from None
    found: dict[str, Answer] = {}
    for number, row in rows:
        absent = [key for key in ("prompt_id", "prompt", "text") if key not in row]
        if absent:
            raise ReportError(f"{path}:{number}: not a generation row, no {absent[0]!r}; delete the file and rerun")
        answer = Answer(str(row["prompt"]), str(row["text"]), row.get("finish_reason"))
        found.setdefault(str(row["prompt_id"]), answer)
    return found


def beta_at(run: RunData, log_perplexities: Sequence[float | None]) -> list[float | None]:
    """The beta the run's rule gave in training at these log prompt perplexities: the median of the nearest rows.

    None where beta did not vary with the example, nothing was recorded, or the perplexity lies outside what was trained
    on: nothing is extrapolated.
    """
    examples = run.examples(("log_prompt_perplexity", "dynamic_beta", "mask"))
    table = np.empty((0, 2))
    if examples is not None:
        used = examples[examples["mask"].astype(bool)]
        table = used[["log_prompt_perplexity", "dynamic_beta"]].to_numpy(dtype=float)
    table = table[np.isfinite(table).all(axis=1)]
    if len(table) < NEIGHBOURS or np.ptp(table[:, 1]) == 0:
        return [None] * len(log_perplexities)
    known, beta = table[np.argsort(table[:, 0], kind="stable")].T
    medians = np.median(np.lib.stride_tricks.sliding_window_view(beta, NEIGHBOURS), axis=1)
    asked = np.array(log_perplexities, dtype=float)  # None is NaN
    start = np.clip(np.searchsorted(known, asked) - NEIGHBOURS // 2, 0, len(medians) - 1)
    inside = (known[0] <= asked) & (asked <= known[-1])
    return [float(medians[at]) if there else None for at, there in zip(start, inside, strict=True)]


def _verdicts(
    matrix: MatrixData, benchmark: str, listed: Mapping[str, int], room: int, words_room: int
) -> tuple[list[Json], int]:
    """What each judge said, by prompt, and how many of its verdicts do not fit.

    A verdict is [first, second, preference for the first, reason, words]: its words with the answers in this order and
    swapped, or, of a judge that is not `paired`, on the first and on the second answer.
    """
    found: list[list[Json]] = []
    left_out = 0
    for path in sorted((matrix.output_dir / COMPARISONS).glob("*.jsonl")):
        rows = read_comparisons(path) if path.with_suffix(".json").exists() else []
        mine = (r for r in rows if r.get("benchmark") == benchmark and r["sample"] == 0)
        rows = [r for r in mine if r["first"] in listed and r["second"] in listed]
        left_out += max(0, len(rows) - room)
        found.append(rows[:room])
        room -= len(found[-1])
    longest = words_room // (2 * max(1, sum(map(len, found))))
    longest = max(SHORTEST_WORDS, min(LONGEST_WORDS, longest))
    out: list[Json] = []
    for rows in filter(None, found):
        said: dict[str, list[list[Any]]] = {}
        for row in rows:
            reason, words = row.get("reason"), [w and _cut(str(w), longest) for w in row.get("words") or ()]
            policies = listed[row["first"]], listed[row["second"]]
            verdict = [*policies, finite(row["preference"]), reason and _cut(str(reason), LONGEST_WORDS), words]
            said.setdefault(visible(str(row["prompt_id"])), []).append(verdict)
        paired = any(row.get(order) is not None for row in rows for order in ("forward", "backward"))
        out.append({"name": visible(str(rows[0]["judge"])), "paired": paired, "said": said})
    return out, left_out


def _cut(text: str, most: int) -> str:
    return shorten(visible(text), most)


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
    known = {i: [v for found in scores.values() if (v := found.get(i)) is not None] for i in texts}
    # Prompts on which policies disagree most come first: those are the ones worth reading.
    order = sorted(texts, key=lambda i: (min(known[i], default=0.0) - max(known[i], default=0.0), i))
    logs = [perplexity.get(i) for i in order]
    betas = {p.run_id: dict(zip(order, beta_at(p, logs), strict=True)) for p in policies if p.run_id in answers}
    entries: list[Json] = []
    used = 0
    for prompt in order:
        if used > room:
            break
        said: dict[int, list[Any]] = {
            place: [_cut(answer.text, longest), scores.get(run, {}).get(prompt), answer.finish, betas[run][prompt]]
            for place, (run, found) in enumerate(answers.items())
            if (answer := found.get(prompt))
        }
        text = _cut(texts[prompt], longest)
        used += len(text) + sum(len(shown[0]) for shown in said.values())
        entries.append({"id": visible(prompt), "prompt": text, "logppl": perplexity.get(prompt), "answers": said})
    values = {v for found in scores.values() for v in found.values() if v is not None}
    measured_logs = [v for v in logs if v is not None]
    browsed = {
        "name": visible(name),
        "metric": metric,
        "higher": first is None or first.metrics.get(metric, {}).get("higher_is_better") is not False,
        "binary": bool(values) and values <= {0.0, 1.0},
        "quartiles": np.quantile(measured_logs, (0.25, 0.5, 0.75)).tolist() if len(measured_logs) >= 4 else [],
        "prompts": entries,
    }
    return browsed, used, len(order) - len(entries)


def samples(matrix: MatrixData, names: Mapping[str, str]) -> Json:
    """The browser's data; `names` maps a run id to what the reader sees. Texts are made visible and cut.

    {"policies": [{"id", "name"}], "benchmarks": [{"name", "metric", "binary", "quartiles", "judges": [{"name", "paired",
    "said"}], "prompts": [{"id", "prompt", "logppl", "answers": {policy: [text, score, finish, beta]}}]}], "note"}. A policy is
    given by its position in `policies`.
    """
    policies = [p for p in matrix.policies if p is matrix.reference or p.state in ("done", "running")]
    files = {p.run_id: [p.path / "generations" / f"{b}.jsonl" for b in matrix.benchmarks] for p in policies}
    answered = [p for p in policies if any(f.exists() and f.stat().st_size for f in files[p.run_id])]
    shown = answered[:MOST_POLICIES]
    loaded = {
        b: {p.run_id: load_generations(files[p.run_id][place]) for p in shown}
        for place, b in enumerate(matrix.benchmarks)
    }
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


# Answers before and after training: the reference beside one trained policy, on the first prompts by id.


PROMPTS = 4
#: Characters of a prompt or an answer shown here; the sample browser has more.
LONGEST_SHOWN = 400


@dataclass(frozen=True, slots=True)
class BeforeAfter:
    """`rule` says how prompts and policy were chosen, or why there are no rows; `after` names the policy.

    A row is {"id", "prompt", "answers": the reference's and the trained policy's, each a text and its score}.
    """

    metric: str
    rule: str
    after: str = ""
    rows: Sequence[Json] = ()


def before_after(matrix: MatrixData, summary: Summary, names: Mapping[str, str]) -> BeforeAfter:
    """Answers of the reference and of the baseline's scored run of the lowest seed; without one, of any method's lowest seed.

    Texts are made visible and cut. `names` maps a run id to what the reader sees.
    """
    benchmark, _, metric = (summary.primary.value or "").partition("/")
    labels, baseline = arm_of(arms(matrix.runs)), summary.baseline.value
    runs = [r for r in matrix.runs if r.state in ("done", "running") and benchmark in r.scores]
    if matrix.reference is None or benchmark not in matrix.reference.scores or not runs:
        why = "Not shown: the reference or every trained policy lacks a score on the primary metric."
        return BeforeAfter(metric, why)
    run = min(runs, key=lambda r: (labels[r.run_id] != baseline, r.seed or 0))
    policies = (matrix.reference, run)
    before, after = (load_generations(p.path / "generations" / f"{benchmark}.jsonl") for p in policies)
    old, new = (column(p.scores[benchmark], metric, None).values for p in policies)
    rows = [
        {
            "id": visible(i),
            "prompt": _cut(before[i].prompt, LONGEST_SHOWN),
            "answers": [
                (_cut(found[i].text, LONGEST_SHOWN), scores.get(i)) for found, scores in ((before, old), (after, new))
            ],
        }
        for i in sorted(before.keys() & after.keys())[:PROMPTS]
    ]
    which = "the baseline's" if labels[run.run_id] == baseline else "of all scored runs the"
    rule = f"The first {len(rows)} prompts of {benchmark} by id. After: {names[run.run_id]}, {which} lowest seed."
    absent = f"Not shown: answers of the reference and of {names[run.run_id]} are not on disk."
    return BeforeAfter(metric, rule if rows else absent, names[run.run_id], rows)
