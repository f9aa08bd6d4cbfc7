"""Judges the answers of all evaluated policies, one worker process for each judge; what is judged is skipped."""

import os
from collections.abc import Iterator, Sequence
from itertools import combinations

from evals.judges.worker import DONE, CellEntry, JudgeEntry, cell_name, discard, record_path, write_failure
from evals.supervise import run_worker
from harness.forecast.estimate import events_path
from harness.plan.judges import PlannedJudge
from harness.plan.matrix import RunSpec
from harness.plan.plan import Plan
from harness.progress import Progress
from harness.stages.report import outdate
from harness.state import RunStore
from harness.state.policies import benchmarks_of, snapshot_policies
from trainers.common import EventTail, Json, file_hash, fingerprint, read_json, scores_schema, tail, write_json

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
    of_judge = {judge.name: list(_cells(plan, judge)) for judge in plan.judges}
    cells = [cell for found in of_judge.values() for cell in found]
    store = RunStore(plan.output)  # of checksums of what judges wrote: corrupt files are quarantined and regenerated
    for cell in cells:
        for file in store.check(cell.name, cell.fingerprint) or []:
            progress.say(f"{file} is corrupt: quarantined, regenerating")
    waiting = [cell.name for cell in cells if not _is_done(plan, cell)]
    if waiting:
        outdate(plan)
        progress.say(f"judging: {', '.join(waiting)}")
    for judge in plan.judges:
        if mine := [cell for cell in of_judge[judge.name] if cell.name in waiting]:
            _judge(plan, judge, mine, progress)
    failed = [cell.name for cell in cells if not _is_done(plan, cell)]
    for cell in cells:
        if cell.name not in failed and (cell.name in waiting or not store.is_done(cell.name, cell.fingerprint, False)):
            account = record_path(plan.output, cell.name)
            scores = [scores_schema.scores_path(policy.out, cell.name) for policy in cell.policies]
            files = [path for path in (account, account.with_suffix(".jsonl"), *scores) if path.is_file()]
            names = [str(path.relative_to(plan.output)) for path in files]
            store.mark_stage(cell.name, cell.fingerprint, names, 0.0, last=True)
    for name in failed:
        error = (_record(plan, name) or {}).get("error") or {"class": "JudgeError", "message": "no record written"}
        progress.say(f"failed: judge {name}: {error['class']}: {error['message']}")
    return failed


def _cells(plan: Plan, judge: PlannedJudge) -> Iterator[CellEntry]:
    """A judge on every benchmark of it, with the policies that have answers and the pairs to compare."""
    for benchmark in (one for one in plan.benchmarks if one.name in judge.answers):
        reference, *every = plan.policies(plan.specs)
        done = {policy.run_id: policy for policy in every if plan.cell_done(policy, benchmark)}
        specs = [spec for spec in plan.specs if spec.run_id in done]
        if not specs or not plan.cell_done(reference, benchmark):
            continue  # nothing to compare yet, or the reference failed, which fails the matrix by itself
        kept = snapshot_policies(plan, specs) if judge.checkpoints else []
        kept = [p for p in kept if benchmark in benchmarks_of(plan, p) and plan.cell_done(p, benchmark)]
        policies = [reference, *done.values(), *kept]
        answers = {p.run_id: scores_schema.generations_path(p.out, benchmark.name) for p in policies}
        pairs = pairs_of(specs, judge.pairs) + [(p.run_id, scores_schema.REFERENCE) for p in kept]
        identity = {
            "version": JUDGE_VERSION,
            "judge": judge.model_dump(include={"kind", "params", "code", "files"}),
            "benchmark": benchmark.fingerprint,
            "pairs": pairs,
            "answers": {run_id: file_hash(path) if path.is_file() else None for run_id, path in answers.items()},
        }
        yield CellEntry(
            name=cell_name(benchmark.name, judge.name),
            benchmark=benchmark,
            policies=policies,
            pairs=pairs,
            fingerprint=fingerprint(identity),
        )


def pairs_of(specs: Sequence[RunSpec], which: str) -> list[tuple[str, str]]:
    """Every policy against the reference; with `all`, also every two methods (or settings of one) with the same seed."""
    pairs = [(spec.run_id, scores_schema.REFERENCE) for spec in specs]
    both = combinations(specs, 2) if which == "all" else ()
    return pairs + [(a.run_id, b.run_id) for a, b in both if a.seed == b.seed]


def _record(plan: Plan, cell: str) -> Json | None:
    record = read_json(record_path(plan.output, cell))
    return record if isinstance(record, dict) else None


def _is_done(plan: Plan, cell: CellEntry) -> bool:
    record = _record(plan, cell.name) or {}
    return (
        (record.get("fingerprint"), record.get("state")) == (cell.fingerprint, DONE)
        and all(scores_schema.is_scored(p.out, cell.name, cell.fingerprint) for p in cell.policies)
        and record_path(plan.output, cell.name).with_suffix(".jsonl").is_file()
    )


def _judge(plan: Plan, entry: PlannedJudge, cells: Sequence[CellEntry], progress: Progress) -> None:
    """Judge `cells` in a worker process, which is started again when it dies; each ends with a record on disk."""
    folders = [plan.reference_dir, *(plan.run_dir(spec) for spec in plan.specs)]
    folders += [policy.out for policy in snapshot_policies(plan, plan.specs)]
    for cell in cells:
        discard(plan.output, cell.name, folders)
    work, events = plan.output / "work", events_path(plan, entry.name)
    job = {
        "schema_version": scores_schema.SCHEMA_VERSION,
        "parent": os.getpid(),
        "events": str(events),
        "out": str(plan.output),
        "cache": str(plan.output / "shared" / "judgements.jsonl"),
        "judge": entry.model_dump(mode="json", include=set(JudgeEntry.model_fields)),
    }
    told: list[Json] = []

    def take(event: Json) -> None:
        told.append(event)
        if event["event"] == "progress":
            progress.tick(f"judge {event['cell']}", event["done"], event["total"], event["eta_s"], "requests")
        elif event["event"] == "cell_done":
            record = _record(plan, event["cell"]) or {}
            tally: dict[str, int] = next((judge["tally"] for judge in record.get("judges", {}).values()), {})
            requests = f"{tally.get('asked', 0)} requests, {tally.get('cached', 0)} from the cache"
            progress.end(f"judged {event['cell']}: {record.get('rows', 0)} comparisons, {requests}")

    todo, crashes, code = list(cells), 0, None
    while todo and crashes < MAX_CRASHES:
        told.clear()
        events.unlink(missing_ok=True)
        write_json(
            work / "judge.json", {**job, "cells": [one.model_dump(mode="json", exclude_unset=True) for one in todo]}
        )
        code = run_worker("evals.judges.worker", work / "judge.json", work / "judge.log", EventTail(events), take)
        ended = {event["cell"] for event in told if event["event"] == "cell_done"}
        todo = [cell for cell in todo if cell.name not in ended]
        if todo:
            crashes = 1 if any(event["event"] in ("cell_done", "progress") for event in told) else crashes + 1
            progress.end(f"the process of judge {entry.name} died with exit code {code}")
    for cell in todo:
        log = work / "judge.log"
        message = f"the judge's process died {crashes} times (exit code {code}); see {log}: {tail(log, 3)}"
        write_failure(plan.output, cell, entry.name, {"class": "JudgeCrashed", "message": message})
    progress.clear()
