"""`python -m evals.worker JOB.json`: one engine serves every policy of the job; all that matters is in files.

For each policy: swap the weights, prove it, then for each benchmark collect what is missing (answers, log-probs) and score. What
has to be scored under the reference's weights (KL) waits until all policies were visited: one more swap serves them all.
A cell whose score file carries the right fingerprint is skipped; generations are resumed at the first missing prompt. A
policy that fails is recorded in the events, and the worker continues with the next; `evals.supervise` restarts a dead worker.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from evals.benchmarks.base import Benchmark, BenchmarkError, Visit
from evals.benchmarks.buckets import SAME_SEED, difference
from evals.benchmarks.registry import build
from trainers.common import scores_schema
from trainers.common.events import Events
from trainers.common.processes import end_with

# What the workers that evaluate and judge have in common: events for the supervisor, and when to end by themselves.


#: Exit code that asks the supervisor for a new engine.
ENGINE_DIED = 3
#: Seconds between the death of the engine and the end of this process.
_GRACE = 5


def end_with_engine(engine: Any) -> None:
    """End this process when the engine is dead: killed by a signal, vLLM may leave its caller waiting indefinitely."""

    def watch() -> None:
        while engine.alive():
            time.sleep(1)
        time.sleep(_GRACE)  # where vLLM does raise an error, that is the better end
        os._exit(ENGINE_DIED)

    threading.Thread(target=watch, daemon=True).start()


def pending(job: dict[str, Any], policy: dict[str, Any]) -> list[dict[str, Any]]:
    """Benchmarks of the job that this policy has no valid scores for."""
    return [
        benchmark
        for benchmark in job["benchmarks"]
        if (policy.get("benchmarks") is None or benchmark["name"] in policy["benchmarks"])
        and not scores_schema.is_scored(
            Path(policy["out"]),
            benchmark["name"],
            scores_schema.cell_fingerprint(policy["fingerprint"], benchmark["fingerprint"]),
        )
    ]


@dataclass(frozen=True)
class Cells:
    """The benchmarks of a job, built once, and what is common to all their cells."""

    engine: Any
    events: Events
    reference: dict[str, Any] | None
    kinds: dict[str, tuple[Benchmark, list[dict[str, Any]]]] = field(default_factory=dict)

    def visit(self, policy: dict[str, Any], entry: dict[str, Any]) -> Visit:
        progress = partial(self.events.emit, "progress", policy=policy["run_id"], benchmark=entry["name"])
        return Visit(self.engine, policy, entry, self.reference, progress)

    def benchmark(self, entry: dict[str, Any]) -> tuple[Benchmark, list[dict[str, Any]]]:
        """The benchmark of a job's entry, and its rows."""
        if entry["name"] not in self.kinds:
            built = build(entry["kind"], entry.get("params"))
            self.kinds[entry["name"]] = (built, built.load(Path(entry["prompts"]), entry.get("limit")))
        return self.kinds[entry["name"]]

    def collect(self, policy: dict[str, Any], entry: dict[str, Any]) -> bool:
        """Under the policy's weights: collect, and score unless that needs the reference's. Returns whether it scored."""
        if entry["kind"] == "lm_eval":
            self._write(policy, entry, self._lm_eval(policy, entry))
            return True
        benchmark, rows = self.benchmark(entry)
        visit = self.visit(policy, entry)
        benchmark.collect(visit, rows)
        if not visit.is_reference and benchmark.needs_reference(visit, rows):
            return False
        self.score(policy, entry)
        return True

    def score(self, policy: dict[str, Any], entry: dict[str, Any]) -> None:
        """Score what was collected; the score file is written last."""
        benchmark, rows = self.benchmark(entry)
        visit = self.visit(policy, entry)
        fingerprint = scores_schema.cell_fingerprint(policy["fingerprint"], entry["fingerprint"])
        scores = benchmark.score(visit, rows, fingerprint)
        if entry.get("noise") and visit.is_reference:
            again = {**policy, "out": str(Path(policy["out"]) / scores_schema.REPEAT)}
            other = {**entry, "seed": int(entry.get("seed", 0)) + 1}
            second = self.visit(again, other)
            benchmark.collect(second, rows[::-1])  # in other batches: what float noise there is shows
            scores["noise"] = difference(scores, benchmark.score(second, rows, fingerprint))
        self._write(policy, entry, scores)

    def _write(self, policy: dict[str, Any], entry: dict[str, Any], scores: dict[str, Any]) -> None:
        scores["engine"] = self.engine.name
        scores_schema.write_json(scores_schema.scores_path(Path(policy["out"]), entry["name"]), scores)
        self.events.emit("benchmark_done", policy=policy["run_id"], benchmark=entry["name"])

    def _lm_eval(self, policy: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
        from evals.lm_eval.run import CHAT_KEYS, run_task

        include = entry.get("include_path")
        progress = partial(self.events.emit, "progress", policy=policy["run_id"], benchmark=entry["name"])
        progress(done=0, total=1)  # reading the task may take a while
        once = partial(
            run_task,
            self.engine,
            entry["task"],
            Path(include) if include else None,
            entry.get("limit"),
            entry.get("num_fewshot"),
            policy["run_id"],
            entry["name"],
            scores_schema.cell_fingerprint(policy["fingerprint"], entry["fingerprint"]),
            progress,
            chat={key: entry[key] for key in CHAT_KEYS if key in entry},
        )
        scores = once(out=Path(policy["out"]))
        if entry.get("noise") and policy["run_id"] == scores_schema.REFERENCE:
            scores["noise"] = difference(scores, once(backwards=True), SAME_SEED)
        return scores


@dataclass
class Served:
    """What the engine is known to serve: the path of the weights, and the check that proved it; neither is known at first."""

    engine: Any
    dtype: str
    path: str | None = None
    check: dict[str, Any] | None = None

    def swap(self, policy: dict[str, Any]) -> None:
        """Swap to the policy's weights, prove and record it. Weights that are served already are not loaded again."""
        from evals.engine.merge import served_weights
        from evals.engine.swap_check import check_swap

        known, previous, seconds = self.path, self.check, 0.0
        self.path = self.check = None  # if the swap fails, what the engine serves is not known
        if policy["path"] == known and previous is not None:
            check = previous
        else:
            with served_weights(policy) as path:
                adapter = policy.get("adapter")
                seconds = self.engine.swap(path, Path(adapter) if adapter is not None else None)
                check = check_swap(self.engine, path, self.dtype, previous)
        record = {"engine": self.engine.name, "swap_seconds": seconds, "check": check, "policy": policy["run_id"]}
        scores_schema.write_json(Path(policy["out"]) / scores_schema.GENERATIONS / scores_schema.ENGINE_RECORD, record)
        self.path, self.check = policy["path"], check


def engine_died(error: BaseException) -> bool:
    """Whether vLLM's engine process is gone: its EngineDeadError is `error` or among its causes."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        if type(link).__name__ == "EngineDeadError":
            return True
        seen.add(id(link))
        link = link.__cause__ or link.__context__
    return False


class EngineGone(Exception):
    """The engine has died; the supervisor restarts it and resumes what is missing."""


@contextmanager
def failing_alone(policy: dict[str, Any], events: Events) -> Iterator[None]:
    """Report an error as this policy's failure and go on.

    Raises:
        EngineGone: the engine went with it.
    """
    from evals.engine.base import EngineLostError

    try:
        yield
    except Exception as error:
        if engine_died(error):
            # not this policy's doing until it happens again
            traceback.print_exc()
            raise EngineGone from error
        events.emit(
            "policy_failed",
            policy=policy["run_id"],
            error=type(error).__name__,
            message=str(error),
            trace=traceback.format_exc(),
        )
        if isinstance(error, EngineLostError):
            raise EngineGone from error


def run_policies(job: dict[str, Any], policies: list[dict[str, Any]], cells: Cells, served: Served) -> None:
    """Visit every policy; then, with the reference's weights, score what needs them.

    Raises:
        EngineGone: see there.
    """
    waiting: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    for policy in policies:
        cells.events.emit("policy_started", policy=policy["run_id"])
        with failing_alone(policy, cells.events):
            served.swap(policy)
            rest = [entry for entry in pending(job, policy) if not cells.collect(policy, entry)]
            if rest:
                waiting.append((policy, rest))
            else:
                cells.events.emit("policy_done", policy=policy["run_id"])
    for policy, rest in waiting:
        cells.events.emit("policy_started", policy=policy["run_id"])
        with failing_alone(policy, cells.events):
            if cells.reference is None:
                raise BenchmarkError(f"benchmark {rest[0]['name']!r} needs the reference, which the job does not list")
            if served.path != cells.reference["path"]:
                served.swap(cells.reference)
            for entry in rest:
                cells.score(policy, entry)
            cells.events.emit("policy_done", policy=policy["run_id"])


def compare_with_transformers(job: dict[str, Any], cells: Cells, config: Any) -> None:
    """Write down how often greedy answers agree (evals.engine.parity), on prompts of the first benchmark that has any.

    The engine must still serve the base model it was started with, and that must be the reference.
    """
    from evals.engine.parity import measure

    entry = next((entry for entry in job["benchmarks"] if entry["kind"] != "lm_eval"), None)
    n, reference = int(job["engine"].get("parity_prompts", 0)), cells.reference
    if not n or entry is None or reference is None or reference["path"] != job["base_model"]:
        return
    try:
        benchmark, rows = cells.benchmark(entry)
    except BenchmarkError:
        return  # every policy will say so
    prompts = [(row["id"], benchmark.prompts_of(row)[0]) for row in rows]
    found = measure(cells.engine, config, reference, prompts, n)
    if found is not None:
        cells.events.emit("parity", **{key: found[key] for key in ("agree", "total", "reason", "against")})


def main(argv: list[str]) -> int:
    """Entry point. Exit code 0 even if policies failed: the events say which and why."""
    job = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    if job.get("parent"):
        end_with(job["parent"])
    events = Events(Path(job["events"]))
    events.emit("started", pid=os.getpid())
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    skip = set(job.get("skip", []))
    policies = [p for p in job["policies"] if p["run_id"] not in skip and pending(job, p)]
    if not policies:
        events.emit("finished")
        return 0
    from evals.engine.base import EngineConfig, EngineError, choose_dtype, may_pass
    from evals.engine.start import start_engine
    from evals.engine.swap_check import check_swap

    config = EngineConfig.from_dict(job["engine"])
    started = time.monotonic()
    try:
        engine = start_engine(Path(job["base_model"]), config)
    except EngineError as error:
        if may_pass(error):
            raise
        trace = traceback.format_exc()
        events.emit("engine_failed", error=type(error).__name__, message=str(error), trace=trace)
        return 0
    events.emit("engine_started", engine=engine.name, seconds=time.monotonic() - started)
    end_with_engine(engine)
    dtype = choose_dtype(config)
    served = Served(engine, dtype, job["base_model"], check_swap(engine, Path(job["base_model"]), dtype))
    reference = next((p for p in job["policies"] if p["run_id"] == scores_schema.REFERENCE), None)
    cells = Cells(engine, events, reference)
    if engine.name.startswith("vllm"):
        compare_with_transformers(job, cells, config)
    try:
        run_policies(job, policies, cells, served)
    except EngineGone:
        return ENGINE_DIED
    events.emit("finished")
    engine.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
