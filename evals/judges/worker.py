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

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from evals.benchmarks.answers import PERPLEXITY, PERPLEXITY_UNDER
from evals.benchmarks.generate import turn_id
from evals.benchmarks.registry import build as build_benchmark
from evals.estimates import estimates, mean
from evals.judges.base import Judging, Question, Tally
from evals.judges.cache import JudgeCache, Reply
from evals.judges.comparisons import COMPARISONS, Answers, compare_policies, read_answers, write_comparisons
from evals.judges.registry import build as build_judge
from trainers.common import scores_schema
from trainers.common.events import Events
from trainers.common.processes import end_with

WIN_RATE, SCORE = "win_rate", "score"
#: Kind of the score files written here.
KIND = "judge"
DONE, FAILED = "done", "failed"
#: Share of the requests that a working server may refuse (too long, say): where it refuses more, something else is wrong.
MOST_REFUSED = 0.1


class UnansweredError(RuntimeError):
    """The judge left requests without an answer: its server is down, or its budget is spent."""


class MissingAnswersError(RuntimeError):
    """Policies whose generations are not what their score file says."""


def cell_name(benchmark: str, judge: str) -> str:
    """Name of a judge's files on a benchmark; names of benchmarks and judges hold no `@`."""
    return f"{benchmark}@{judge}"


def record_path(out: Path, cell: str) -> Path:
    """Where the record of a cell lies; it is written last."""
    return Path(out) / COMPARISONS / f"{cell}.json"


def discard(out: Path, cell: str, policies: Sequence[Path]) -> None:
    """Remove what is on disk for a cell, the record first. `policies` are the directories of all policies."""
    path = record_path(out, cell)
    for old in (path, path.with_suffix(".jsonl"), *(scores_schema.scores_path(policy, cell) for policy in policies)):
        old.unlink(missing_ok=True)


def write_failure(out: Path, cell: Mapping[str, Any], judge: str, error: Mapping[str, str]) -> None:
    """The record of a cell that has no comparisons."""
    record = {
        "schema_version": scores_schema.SCHEMA_VERSION,
        "benchmark": cell["benchmark"]["name"],
        "rows": 0,
        "judges": {},
    }
    more = {"judge": judge, "fingerprint": cell["fingerprint"], "state": FAILED, "error": dict(error), "left_out": {}}
    scores_schema.write_json(record_path(out, cell["name"]), {**record, **more})


def questions_of(benchmark: Mapping[str, Any]) -> dict[str, Question]:
    """By prompt id: the first turn, with the benchmark's row as context. A later turn is judged with what led to it."""
    built = build_benchmark(benchmark["kind"], benchmark.get("params"))
    found = {}
    for row in built.load(Path(benchmark["prompts"]), benchmark.get("limit")):
        turns = built.turns_of(row)
        found.update({turn_id(row["id"], turn): Question(turns[0], row) for turn in range(len(turns))})
    return found


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


class Cell:
    """The answers of all policies on one benchmark, for one judge."""

    def __init__(self, cell: Mapping[str, Any], out: Path, judge: str) -> None:
        self.cell, self.out, self.judge = cell, out, judge
        self.benchmark = str(cell["benchmark"]["name"])
        self.questions = questions_of(cell["benchmark"])
        self.folders = {str(policy["run_id"]): Path(policy["out"]) for policy in cell["policies"]}
        scored = scores_schema.read_scores(self.folders[scores_schema.REFERENCE], self.benchmark) or {"items": []}
        self.items: dict[str, dict[str, Any]] = {item["id"]: item for item in scored["items"]}
        self.perplexity_under = scored.get(PERPLEXITY_UNDER)
        self.left_out: dict[str, str] = {}
        self.answers: dict[str, Answers] = {}
        for policy, folder in self.folders.items():
            self._read(policy, folder)

    def _read(self, policy: str, folder: Path) -> None:
        """A policy with fewer answers than the benchmark asks for is left out, and named."""
        try:
            answers = read_answers(scores_schema.generations_path(folder, self.benchmark))
        except ValueError as error:
            self.left_out[policy] = str(error)
            return
        samples = int(self.cell["benchmark"].get("samples", 1))
        missing = [key for key in ((i, s) for i in self.questions for s in range(samples)) if key not in answers]
        if missing:
            prompt, sample = missing[0]
            self.left_out[policy] = (
                f"{len(missing)} answers are missing, the first to prompt {prompt!r} (sample {sample})"
            )
        else:
            self.answers[policy] = answers

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
        scores: dict[str, dict[tuple[str, int], Reply]] = {}
        pairs = [(a, b) for a, b in self.cell["pairs"] if a in self.answers and b in self.answers]
        if not judging.judge.compares:
            # Every answer is scored before any two are compared: then comparing asks nothing more.
            keys = [(policy, key) for policy, answers in self.answers.items() for key in sorted(answers)]
            questions = [self.questions[prompt] for _, (prompt, _) in keys]
            replies = judging.score(questions, [self.answers[policy][key] for policy, key in keys])
            for (policy, key), reply in zip(keys, replies, strict=True):
                scores.setdefault(policy, {})[key] = reply
        counted, judging.tally = judging.tally, Tally()
        groups = {i: str(item["group"]) for i, item in self.items.items() if item.get("group") is not None}
        rows = compare_policies(self.judge, judging, self.benchmark, self.questions, self.answers, pairs, groups)
        if scores:  # comparing only read the same replies again
            judging.tally = counted
        error = self._error(judging)
        if not isinstance(error, UnansweredError):
            self._write_scores(rows, scores)
        told = {"class": type(error).__name__, "message": str(error)} if error else None
        state = {"state": FAILED if error else DONE, "error": told, "left_out": self.left_out}
        more = {"judge": self.judge, "fingerprint": self.cell["fingerprint"], **state}
        write_comparisons(self.out, self.benchmark, rows, {self.judge: judging}, self.cell["name"], more)

    def _error(self, judging: Judging) -> Exception | None:
        open_ = unanswered(judging.tally)
        if open_ is not None:
            return open_
        if self.left_out:
            policy, reason = next(iter(self.left_out.items()))
            return MissingAnswersError(f"{len(self.left_out)} policies are not judged, the first {policy}: {reason}")
        return None

    def _write_scores(self, rows: Sequence[Mapping[str, Any]], scores: Mapping[str, Mapping[Any, Reply]]) -> None:
        wins: dict[str, dict[str, list[float | None]]] = defaultdict(lambda: defaultdict(list))
        for row in rows:
            if row["second"] == scores_schema.REFERENCE:
                wins[row["first"]][row["prompt_id"]].append(row["preference"])
        wins[scores_schema.REFERENCE] = defaultdict(list, {i: [0.5] for i in self.questions})
        for policy in self.answers:
            own: dict[str, list[float | None]] = defaultdict(list)
            for (prompt, _), reply in scores.get(policy, {}).items():
                own[prompt].append(reply.value)
            names = [WIN_RATE, *([SCORE] if scores else [])]
            items: list[dict[str, Any]] = []
            for i in self.questions:
                known = self.items.get(i, {})
                values = {WIN_RATE: mean(wins[policy][i]), **({SCORE: mean(own[i])} if scores else {})}
                kept = {key: known.get(key) for key in ("group", PERPLEXITY)}
                items.append({"id": i, "values": values, **kept})
            content = {
                "schema_version": scores_schema.SCHEMA_VERSION,
                "benchmark": self.cell["name"],
                "kind": KIND,
                "policy": policy,
                "fingerprint": self.cell["fingerprint"],
                "metrics": estimates(items, dict.fromkeys(names, True)),
                "primary_metric": WIN_RATE,
                "items": items,
                "noise": None,
                PERPLEXITY_UNDER: self.perplexity_under,
            }
            scores_schema.write_json(scores_schema.scores_path(self.folders[policy], self.cell["name"]), content)


def main(argv: list[str]) -> int:
    """Entry point. Exit code 0 even if cells failed: their records say which and why."""
    job = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    if job.get("parent"):
        end_with(job["parent"])
    events, out, entry = Events(Path(job["events"])), Path(job["out"]), job["judge"]
    events.emit("started", pid=os.getpid())
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    judging: Judging | None = None
    for cell in job["cells"]:
        started = time.monotonic()
        report = partial(events.emit, "progress", cell=cell["name"])

        def progress(done: int, total: int, started: float = started, report: partial[None] = report) -> None:
            report(done=done, total=total, eta_s=(time.monotonic() - started) / done * (total - done))

        try:
            if judging is None:
                cache = JudgeCache(job["cache"])
                judging = Judging(build_judge(entry["kind"], entry["params"]), cache, entry.get("code"))
            judging.progress = progress
            Cell(cell, out, entry["name"]).work(judging)
        except Exception as error:  # a judge from outside can raise anything; it is this cell's failure alone
            traceback.print_exc()
            write_failure(out, cell, entry["name"], {"class": type(error).__name__, "message": str(error)})
        events.emit("cell_done", cell=cell["name"])
    events.emit("finished")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
