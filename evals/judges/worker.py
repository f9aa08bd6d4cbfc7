"""`python -m evals.judges.worker JOB.json`: one judge over the answers of a matrix; all that matters is in files.

A cell is a judge on a benchmark, called `<benchmark>@<judge>`. For each cell this writes
    comparisons/<cell>.jsonl   one row per comparison (see evals.judges.comparisons),
    scores/<cell>.json         of every policy, in the shape of all score files: the values per prompt of `win_rate` (preference
                               over the reference's answer; the reference ties with itself) and, for a judge that scores
                               single answers, `score`,
    comparisons/<cell>.json    last: what was judged, what the judge was asked, and the error if there was one.
Replies are kept as they come, in one cache for all judges of the matrix. Where the judge leaves requests unanswered, the
comparisons say which, and there are no scores: policies must not be compared on the prompts that happened to be answered. Up
to one in ten that the server refuses (too long, say) only count as missing.
"""

import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from evals.benchmarks.answers import PERPLEXITY, PERPLEXITY_UNDER
from evals.benchmarks.generate import turn_id
from evals.benchmarks.registry import build as build_benchmark
from evals.estimates import estimates, mean, score_file
from evals.job import BenchmarkEntry, Policy, WorkerJob, begin
from evals.judges.base import Judging, Question, Tally
from evals.judges.cache import JudgeCache
from evals.judges.comparisons import Answers, compare_policies, read_answers, record_path, write_comparisons
from evals.judges.registry import build as build_judge
from trainers.common import Json, scores_schema

WIN_RATE, SCORE = "win_rate", "score"
#: Kind of the score files written here.
KIND = "judge"
DONE, FAILED = "done", "failed"
#: Share of the requests that a working server may refuse (too long, say): where it refuses more, something else is wrong.
MOST_REFUSED = 0.1


class JudgeEntry(BaseModel):
    """A judge, as `evals.judges.registry` builds it."""

    name: str
    kind: str
    params: Json
    code: str | None = Field(default=None, description="SHA-256 of its file, for a judge from outside the package")


class CellEntry(BaseModel):
    """A judge on a benchmark."""

    name: str = Field(description="of its files, see `cell_name`")
    benchmark: BenchmarkEntry
    policies: list[Policy]
    pairs: list[tuple[str, str]] = Field(description="policies to compare, by run id")
    fingerprint: str = Field(description="of judge, benchmark, pairs and answers")


class JudgeJob(WorkerJob):
    """Cells of one judge."""

    out: Path = Field(description="output folder of the matrix")
    cache: Path = Field(description="JSONL file of all replies")
    judge: JudgeEntry
    cells: list[CellEntry]


class UnansweredError(RuntimeError):
    """The judge left requests without an answer: its server is down, or its budget is spent."""


class MissingAnswersError(RuntimeError):
    """Policies whose generations are not what their score file says."""


def cell_name(benchmark: str, judge: str) -> str:
    """Name of a judge's files on a benchmark; names of benchmarks and judges hold no `@`."""
    return f"{benchmark}@{judge}"


def discard(out: Path, cell: str, policies: Sequence[Path]) -> None:
    """Remove what is on disk for a cell, the record first. `policies` are the directories of all policies."""
    path = record_path(out, cell)
    for old in (path, path.with_suffix(".jsonl"), *(scores_schema.scores_path(policy, cell) for policy in policies)):
        old.unlink(missing_ok=True)


def write_failure(out: Path, cell: CellEntry, judge: str, error: Mapping[str, str]) -> None:
    """The record of a cell that has no comparisons."""
    more = {"judge": judge, "fingerprint": cell.fingerprint, "state": FAILED, "error": dict(error), "left_out": {}}
    write_comparisons(out, cell.benchmark.name, [], {}, cell.name, more)


def questions_of(benchmark: BenchmarkEntry) -> dict[str, Question]:
    """By prompt id: the first turn, with the benchmark's row as context. A later turn is judged with what led to it."""
    built = build_benchmark(benchmark.kind, benchmark.params)
    asked = [(row, built.turns_of(row)) for row in built.load(benchmark.prompts, benchmark.limit)]
    return {turn_id(row["id"], i): Question(turns[0], row) for row, turns in asked for i in range(len(turns))}


def unanswered(tally: Tally) -> UnansweredError | None:
    """The error of a cell with open requests, if so many are open that there can be no scores."""
    total, refused = tally.asked + tally.cached, tally.refused
    single = refused <= max(MOST_REFUSED * total, 1) and refused < total
    open_ = sum(tally.unanswered.values()) - (refused if single else 0)
    if open_ <= 0:
        return None
    reasons = ", ".join(f"{reason} ({n})" for reason, n in tally.unanswered.most_common(3))
    said = f"; the server said: {tally.refusal}" if tally.refusal else ""
    return UnansweredError(
        f"{open_} of {total} requests have no answer: {reasons}{said}; start the matrix again to ask them"
    )


class _Cell:
    """The answers of all policies on one benchmark, for one judge."""

    def __init__(self, cell: CellEntry, out: Path, judge: str) -> None:
        self.cell, self.out, self.judge = cell, out, judge
        self.questions = questions_of(cell.benchmark)
        self.folders = {policy.run_id: policy.out for policy in cell.policies}
        scored = scores_schema.read_scores(self.folders[scores_schema.REFERENCE], cell.benchmark.name) or {"items": []}
        self.items: dict[str, Json] = {item["id"]: item for item in scored["items"]}
        self.perplexity_under = scored.get(PERPLEXITY_UNDER)
        self.left_out: dict[str, str] = {}
        self.answers: dict[str, Answers] = {}
        for policy, folder in self.folders.items():
            try:
                self.answers[policy] = self._read(folder)
            except ValueError as error:
                self.left_out[policy] = str(error)

    def _read(self, folder: Path) -> Answers:
        """All answers of a policy. ValueError where they are fewer than the benchmark asks for."""
        answers = read_answers(scores_schema.generations_path(folder, self.cell.benchmark.name))
        keys = ((prompt, sample) for prompt in self.questions for sample in range(self.cell.benchmark.samples))
        missing = [key for key in keys if key not in answers]
        if missing:
            prompt, sample = missing[0]
            raise ValueError(f"{len(missing)} answers are missing, the first to prompt {prompt!r} (sample {sample})")
        return answers

    def work(self, judging: Judging) -> None:
        """Ask what is not known yet, then write the files.

        Raises:
            MissingAnswersError: of the reference: nothing can be compared with it.
        """
        if scores_schema.REFERENCE not in self.answers:
            raise MissingAnswersError(
                f"the reference: {self.left_out[scores_schema.REFERENCE]}; delete its scores and start again"
            )
        judging.tally = Tally()
        scores = {} if judging.judge.compares else self._scores(judging)
        counted = judging.tally
        if scores:  # comparing only reads the same replies again
            judging.tally = Tally()
        pairs = [(a, b) for a, b in self.cell.pairs if a in self.answers and b in self.answers]
        groups = {i: str(item["group"]) for i, item in self.items.items() if item.get("group") is not None}
        benchmark = self.cell.benchmark.name
        rows = compare_policies(self.judge, judging, benchmark, self.questions, self.answers, pairs, groups)
        judging.tally = counted
        error: Exception | None = unanswered(judging.tally)
        if error is None:
            self._write_scores(rows, scores)
        if error is None and self.left_out:
            policy, reason = next(iter(self.left_out.items()))
            error = MissingAnswersError(f"{len(self.left_out)} policies are not judged, the first {policy}: {reason}")
        told = _told(error) if error else None
        state = {"state": FAILED if error else DONE, "error": told, "left_out": self.left_out}
        more = {"judge": self.judge, "fingerprint": self.cell.fingerprint, **state}
        write_comparisons(self.out, benchmark, rows, {self.judge: judging}, self.cell.name, more)

    def _scores(self, judging: Judging) -> dict[str, dict[str, list[float | None]]]:
        """The score of every answer, by policy and prompt, before any two are compared: then comparing asks nothing more."""
        keys = [(policy, key) for policy, answers in self.answers.items() for key in sorted(answers)]
        questions = [self.questions[prompt] for _, (prompt, _) in keys]
        replies = judging.score(questions, [self.answers[policy][key] for policy, key in keys])
        found = _nested()
        for (policy, (prompt, _)), reply in zip(keys, replies, strict=True):
            found[policy][prompt].append(reply.value)
        return found

    def _write_scores(
        self, rows: Sequence[Mapping[str, Any]], scores: Mapping[str, Mapping[str, list[float | None]]]
    ) -> None:
        wins = _nested()
        for row in rows:
            if row["second"] == scores_schema.REFERENCE:
                wins[row["first"]][row["prompt_id"]].append(row["preference"])
        wins[scores_schema.REFERENCE] = defaultdict(list, {i: [0.5] for i in self.questions})
        for policy in self.answers:
            found = {WIN_RATE: wins[policy], **({SCORE: scores[policy]} if scores else {})}
            items = [
                {
                    "id": i,
                    "values": {name: mean(values[i]) for name, values in found.items()},
                    **{key: self.items.get(i, {}).get(key) for key in ("group", PERPLEXITY)},
                }
                for i in self.questions
            ]
            metrics = estimates(items, dict.fromkeys(found, True))
            content = score_file(self.cell.name, KIND, policy, self.cell.fingerprint, items, metrics, WIN_RATE)
            content[PERPLEXITY_UNDER] = self.perplexity_under
            scores_schema.write_json(scores_schema.scores_path(self.folders[policy], self.cell.name), content)


def _nested() -> dict[str, dict[str, list[float | None]]]:
    """Values by policy and prompt."""
    return defaultdict(lambda: defaultdict(list))


def _told(error: Exception) -> dict[str, str]:
    return {"class": type(error).__name__, "message": str(error)}


def main(argv: list[str]) -> int:
    """Entry point. Exit code 0 even if cells failed: their records say which and why."""
    job, events = begin(argv, JudgeJob)
    entry = job.judge
    judging: Judging | None = None
    for cell in job.cells:
        started = time.monotonic()
        report = partial(events.emit, "progress", cell=cell.name)

        def progress(done: int, total: int, started: float = started, report: partial[None] = report) -> None:
            report(done=done, total=total, eta_s=(time.monotonic() - started) / done * (total - done))

        try:
            judging = judging or Judging(build_judge(entry.kind, entry.params), JudgeCache(job.cache), entry.code)
            judging.progress = progress
            _Cell(cell, job.out, entry.name).work(judging)
        except Exception as error:  # a judge from outside can raise anything; it is this cell's failure alone
            traceback.print_exc()
            write_failure(job.out, cell, entry.name, _told(error))
        events.emit("cell_done", cell=cell.name)
    events.emit("finished")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
