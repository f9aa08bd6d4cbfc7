"""`python -m evals.worker JOB.json`: one engine serves every policy of the job; all that matters is in files.

For each policy: swap the weights, prove it, then for each benchmark collect what is missing (answers, log-probs) and score. What
has to be scored under the reference's weights (KL) waits until all policies were visited: one more swap serves them all.
A cell whose score file carries the right fingerprint is skipped; generations are resumed at the first missing prompt. A
policy that fails is recorded in the events, and the worker continues with the next; `evals.supervise` restarts a dead worker.
"""

import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from evals.benchmarks.base import Benchmark, BenchmarkError, Row, Visit
from evals.benchmarks.buckets import SAME_SEED, difference
from evals.benchmarks.registry import build
from evals.engine.base import (
    ENGINE_DIED,
    Engine,
    EngineError,
    EngineLostError,
    choose_dtype,
    end_with_engine,
    may_pass,
)
from evals.engine.merge import served_weights
from evals.engine.swap_check import SwapCheck, check_swap
from evals.job import LM_EVAL, BenchmarkEntry, Job, Policy, begin
from trainers.common import Events, scores_schema

#: Seconds between the death of the engine and the end of this process.
_GRACE = 5.0


@dataclass(frozen=True)
class Cells:
    """The benchmarks of a job, built once, and what is common to all their cells."""

    engine: Engine
    events: Events
    reference: Policy | None
    _built: dict[str, tuple[Benchmark, list[Row]]] = field(default_factory=dict)

    def visit(self, policy: Policy, entry: BenchmarkEntry) -> Visit:
        progress = partial(self.events.emit, "progress", policy=policy.run_id, benchmark=entry.name)
        return Visit(self.engine, policy, entry, self.reference, progress)

    def benchmark(self, entry: BenchmarkEntry) -> tuple[Benchmark, list[Row]]:
        """The benchmark of a job's entry, and its rows."""
        if entry.name not in self._built:
            built = build(entry.kind, entry.params)
            self._built[entry.name] = (built, built.load(entry.prompts, entry.limit))
        return self._built[entry.name]

    def collect(self, policy: Policy, entry: BenchmarkEntry) -> bool:
        """Under the policy's weights: collect, and score unless that needs the reference's. Returns whether it scored."""
        visit = self.visit(policy, entry)
        if entry.kind == LM_EVAL:
            from evals.lm_eval.run import run_task

            visit.progress(done=0, total=1)  # reading the task may take a while
            scores = run_task(visit)
            if entry.noise and visit.policy.is_reference:
                scores["noise"] = difference(scores, run_task(visit, again=True), SAME_SEED)
            self._write(visit, scores)
            return True
        benchmark, rows = self.benchmark(entry)
        benchmark.collect(visit, rows)
        if not visit.policy.is_reference and benchmark.needs_reference(visit, rows):
            return False
        self.score(policy, entry)
        return True

    def score(self, policy: Policy, entry: BenchmarkEntry) -> None:
        """Score what was collected; the score file is written last."""
        benchmark, rows = self.benchmark(entry)
        visit, fingerprint = self.visit(policy, entry), entry.cell(policy)
        scores = benchmark.score(visit, rows, fingerprint)
        if entry.noise and visit.policy.is_reference:
            again = policy.model_copy(update={"out": policy.out / scores_schema.REPEAT})
            second = self.visit(again, entry.model_copy(update={"seed": entry.seed + 1}))
            benchmark.collect(second, rows[::-1])  # in other batches: what float noise there is shows
            scores["noise"] = difference(scores, benchmark.score(second, rows, fingerprint))
        self._write(visit, scores)

    def _write(self, visit: Visit, scores: Row) -> None:
        scores["engine"] = self.engine.name
        scores_schema.write_json(scores_schema.scores_path(visit.policy.out, visit.name), scores)
        self.events.emit("benchmark_done", policy=visit.policy.run_id, benchmark=visit.name)


@dataclass
class Served:
    """What the engine is known to serve: the path of the weights, and the check that proved it; neither is known at first."""

    engine: Engine
    dtype: str
    path: Path | None = None
    check: SwapCheck | None = None

    def swap(self, policy: Policy) -> None:
        """Swap to the policy's weights, prove and record it. Weights that are served already are not loaded again."""
        known, previous, seconds = self.path, self.check, 0.0
        self.path = self.check = None  # if the swap fails, what the engine serves is not known
        if policy.path == known and previous is not None:
            check = previous
        else:
            with served_weights(policy):
                seconds = self.engine.swap(policy.path, policy.adapter)
                check = check_swap(self.engine, policy.path, self.dtype, previous)
        record = {"engine": self.engine.name, "swap_seconds": seconds, "check": asdict(check), "policy": policy.run_id}
        scores_schema.write_json(policy.out / scores_schema.GENERATIONS / scores_schema.ENGINE_RECORD, record)
        self.path, self.check = policy.path, check


def engine_died(error: BaseException | None) -> bool:
    """Whether vLLM's engine process is gone: its EngineDeadError is `error` or among its causes."""
    dead = type(error).__name__ == "EngineDeadError"
    return dead or (error is not None and engine_died(error.__cause__ or error.__context__))


class EngineGone(Exception):
    """The engine has died; the supervisor restarts it and resumes what is missing."""


@contextmanager
def _visiting(policy: Policy, events: Events) -> Iterator[None]:
    """Report the beginning, and an error as this policy's failure, and go on.

    Raises:
        EngineGone: the engine went with it.
    """
    events.emit("policy_started", policy=policy.run_id)
    try:
        yield
    except Exception as error:
        if engine_died(error):
            # not this policy's doing until it happens again
            traceback.print_exc()
            raise EngineGone from error
        events.emit("policy_failed", policy=policy.run_id, **_told(error))
        if isinstance(error, EngineLostError):
            raise EngineGone from error


def _told(error: Exception) -> dict[str, str]:
    return {"error": type(error).__name__, "message": str(error), "trace": traceback.format_exc()}


def run_policies(job: Job, policies: list[Policy], cells: Cells, served: Served) -> None:
    """Visit every policy; then, with the reference's weights, score what needs them.

    Raises:
        EngineGone: see there.
    """
    waiting: list[tuple[Policy, list[BenchmarkEntry]]] = []
    for policy in policies:
        with _visiting(policy, cells.events):
            served.swap(policy)
            rest = [entry for entry in job.pending(policy) if not cells.collect(policy, entry)]
            if rest:
                waiting.append((policy, rest))
            else:
                cells.events.emit("policy_done", policy=policy.run_id)
    for policy, rest in waiting:
        with _visiting(policy, cells.events):
            if cells.reference is None:
                raise BenchmarkError(f"benchmark {rest[0].name!r} needs the reference, which the job does not list")
            if served.path != cells.reference.path:
                served.swap(cells.reference)
            for entry in rest:
                cells.score(policy, entry)
            cells.events.emit("policy_done", policy=policy.run_id)


def _compare_with_transformers(job: Job, cells: Cells) -> None:
    """Write down how often greedy answers agree (evals.engine.parity), on prompts of the first benchmark that has any.

    The engine must still serve the base model it was started with, and that must be the reference.
    """
    from evals.engine.parity import measure

    entry = next((entry for entry in job.benchmarks if entry.kind != LM_EVAL), None)
    n, reference = job.engine.parity_prompts, cells.reference
    if not n or entry is None or reference is None or reference.path != job.base_model:
        return
    try:
        benchmark, rows = cells.benchmark(entry)
    except BenchmarkError:
        return  # every policy will say so
    prompts = [(row["id"], benchmark.prompts_of(row)[0]) for row in rows]
    found = measure(cells.engine, job.engine, reference, prompts, n)
    if found is not None:
        cells.events.emit("parity", agree=found.agree, total=found.total, reason=found.reason, against=found.against)


def _start(job: Job, events: Events) -> Engine | None:
    """The engine; None, reported, where it cannot start as configured."""
    from evals.engine.start import start_engine

    started = time.monotonic()
    try:
        engine = start_engine(job.base_model, job.engine)
    except EngineError as error:
        if may_pass(error):
            raise
        events.emit("engine_failed", **_told(error))
        return None
    events.emit("engine_started", engine=engine.name, seconds=time.monotonic() - started)
    end_with_engine(engine, _GRACE)
    return engine


def main(argv: list[str]) -> int:
    """Entry point. Exit code 0 even if policies failed: the events say which and why."""
    job, events = begin(argv, Job)
    policies = [policy for policy in job.policies if policy.run_id not in job.skip and job.pending(policy)]
    if not policies:
        events.emit("finished")
        return 0
    engine = _start(job, events)
    if engine is None:
        return 0
    dtype = choose_dtype(job.engine)
    served = Served(engine, dtype, job.base_model, check_swap(engine, job.base_model, dtype))
    cells = Cells(engine, events, job.reference)
    if engine.name.startswith("vllm"):
        _compare_with_transformers(job, cells)
    try:
        run_policies(job, policies, cells, served)
    except EngineGone:
        return ENGINE_DIED
    events.emit("finished")
    engine.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
