"""Judges the answers of all evaluated policies, one worker process for each judge; what is judged is skipped."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

from evals.judges.worker import DONE, CellEntry, cell_name, discard, record_path, write_failure
from evals.supervise import run_worker
from harness.forecast.estimate import events_path as events_path_of
from harness.plan.entries import JudgeCell, PlannedJudge
from harness.plan.matrix import RunSpec
from harness.plan.plan import Plan
from harness.progress import Progress
from harness.stages.report import outdate
from harness.state.judged_files import is_recorded, keep_checksums, set_damaged_aside
from harness.state.policies import benchmarks_of, snapshot_policies
from trainers.common import EventTail, Json, file_hash, fingerprint, read_json, scores_schema, tail

#: Raise when a change of `evals.judges.worker` changes what it writes.
#: 1 did not write where prompt perplexities are from, and not what the judge wrote; 2 took styles of prompts for clusters.
JUDGE_VERSION = 3
#: A judge whose process died this often without a reply in between is given up.
MAX_CRASHES = 2


def judge_policies(plan: Plan, progress: Progress) -> list[str]:
    """Bring every judge's comparisons and scores up to date. A judge that fails takes nothing else with it.

    Replies are kept in shared/judgements.jsonl as they come: a judge that was interrupted is not asked the same again.

    Returns:
        `<benchmark>@<judge>` of what is not judged.
    """
    cells = list(_cells(plan))
    for cell in cells:
        for file in set_damaged_aside(plan, cell):
            progress.say(f"{file} is corrupt: quarantined, regenerating")
    waiting = [cell for cell in cells if not _is_done(plan, cell)]
    if waiting:
        outdate(plan)
        progress.say(f"judging: {', '.join(cell.name for cell in waiting)}")
    for entry in plan.judges:
        mine = [cell for cell in waiting if cell.judge == entry.name]
        if mine:
            _Judge(plan, entry, progress).run(mine)
    failed = [cell.name for cell in cells if not _is_done(plan, cell)]
    for cell in cells:
        if cell.name not in failed and (cell in waiting or not is_recorded(plan, cell)):
            keep_checksums(plan, cell)
    for name in failed:
        error = (_record(plan, name) or {}).get("error") or {"class": "JudgeError", "message": "no record written"}
        progress.say(f"failed: judge {name}: {error['class']}: {error['message']}")
    return failed


def _cells(plan: Plan) -> Iterator[JudgeCell]:
    """Every judge on every benchmark of it, with the policies that have answers and the pairs to compare."""
    benchmarks, reference = {entry.name: entry for entry in plan.benchmarks}, plan.reference
    for judge in plan.judges:
        for name in judge.benchmarks:
            benchmark = benchmarks[name]
            specs = [s for s in plan.specs if plan.cell_done(plan.policies([s])[1], benchmark)]
            if not specs or not plan.cell_done(reference, benchmark):
                continue  # nothing to compare yet, or the reference failed, which fails the matrix by itself
            policies = plan.policies(specs)
            kept = snapshot_policies(plan, specs) if judge.checkpoints else []
            kept = [p for p in kept if benchmark in benchmarks_of(plan, p) and plan.cell_done(p, benchmark)]
            policies += kept
            answers = {p.run_id: scores_schema.generations_path(Path(p.out), name) for p in policies}
            pairs = pairs_of(specs, judge.pairs) + [(p.run_id, scores_schema.REFERENCE) for p in kept]
            identity = {
                "version": JUDGE_VERSION,
                "judge": {"kind": judge.kind, "params": judge.params, "code": judge.code, "files": judge.files},
                "benchmark": benchmark.fingerprint,
                "pairs": pairs,
                "answers": {run_id: file_hash(path) if path.is_file() else None for run_id, path in answers.items()},
            }
            name = cell_name(name, judge.name)
            yield JudgeCell(name, judge.name, benchmark, policies, pairs, fingerprint(identity))


def pairs_of(specs: Sequence[RunSpec], which: str) -> list[tuple[str, str]]:
    """Every policy against the reference; with `all`, also every two methods (or settings of one) with the same seed."""
    pairs = [(spec.run_id, scores_schema.REFERENCE) for spec in specs]
    if which == "all":
        pairs += [(a.run_id, b.run_id) for a, b in combinations(specs, 2) if a.seed == b.seed]
    return pairs


def _record(plan: Plan, cell: str) -> Json | None:
    record = read_json(record_path(plan.output, cell))
    return record if isinstance(record, dict) else None


def _is_done(plan: Plan, cell: JudgeCell) -> bool:
    record = _record(plan, cell.name) or {}
    if record.get("fingerprint") != cell.fingerprint or record.get("state") != DONE:
        return False
    scored = all(scores_schema.is_scored(Path(p.out), cell.name, cell.fingerprint) for p in cell.policies)
    return scored and record_path(plan.output, cell.name).with_suffix(".jsonl").is_file()


class _Judge:
    """One judge of the matrix and its worker process."""

    def __init__(self, plan: Plan, entry: PlannedJudge, progress: Progress) -> None:
        self.plan, self.entry, self.progress = plan, entry, progress
        self.work = plan.output / "work"

    def run(self, cells: Sequence[JudgeCell]) -> None:
        """Judge `cells`, starting the worker again when it dies; each ends with a record on disk."""
        folders = [self.plan.reference_dir, *(self.plan.run_dir(spec) for spec in self.plan.specs)]
        folders += [Path(policy.out) for policy in snapshot_policies(self.plan, self.plan.specs)]
        for cell in cells:
            discard(self.plan.output, cell.name, folders)
        todo, crashes = list(cells), 0
        while todo:
            ended, replies, code = self._once(todo)
            todo = [cell for cell in todo if cell.name not in ended]
            if not todo:
                break
            crashes = 1 if ended or replies else crashes + 1
            self.progress.end(f"the process of judge {self.entry.name} died with exit code {code}")
            if crashes >= MAX_CRASHES:
                log = self.work / "judge.log"
                message = f"the judge's process died {crashes} times (exit code {code}); see {log}: {tail(log, 3)}"
                for cell in todo:
                    told = CellEntry.model_validate(cell.entry)
                    error = {"class": "JudgeCrashed", "message": message}
                    write_failure(self.plan.output, told, self.entry.name, error)
                break
        self.progress.clear()

    def _once(self, cells: Sequence[JudgeCell]) -> tuple[set[str], bool, int | None]:
        """One worker process: the cells it ended, whether a reply came, and its exit code."""
        job_path, events_path = self.work / "judge.json", events_path_of(self.plan, self.entry.name)
        events_path.unlink(missing_ok=True)
        judge = {key: getattr(self.entry, key) for key in ("name", "kind", "params", "code")}
        job = {
            "schema_version": scores_schema.SCHEMA_VERSION,
            "parent": os.getpid(),
            "events": str(events_path),
            "out": str(self.plan.output),
            "cache": str(self.plan.output / "shared" / "judgements.jsonl"),
            "judge": judge,
            "cells": [cell.entry for cell in cells],
        }
        scores_schema.write_json(job_path, job)
        ended: set[str] = set()
        replies: list[Json] = []

        def take(event: Json) -> None:
            if event["event"] == "progress":
                replies.append(event)
            elif event["event"] == "cell_done":
                ended.add(event["cell"])
            self._show(event)

        code = run_worker("evals.judges.worker", job_path, self.work / "judge.log", EventTail(events_path), take)
        return ended, bool(replies), code

    def _show(self, event: Json) -> None:
        if event["event"] == "progress":
            self.progress.tick(f"judge {event['cell']}", event["done"], event["total"], event["eta_s"], "requests")
        elif event["event"] == "cell_done":
            record = _record(self.plan, event["cell"]) or {}
            tally: dict[str, int] = next((judge["tally"] for judge in record.get("judges", {}).values()), {})
            self.progress.end(
                f"judged {event['cell']}: {record.get('rows', 0)} comparisons, {tally.get('asked', 0)} requests, "
                f"{tally.get('cached', 0)} from the cache"
            )
