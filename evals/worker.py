"""`python -m evals.worker JOB.json`: one engine serves every policy of the job; all that matters is in files.

For each policy: swap the weights, prove it, then for each benchmark generate what is missing and score. A cell whose score
file carries the right fingerprint is skipped; generations are resumed at the first missing prompt. A policy that fails is
recorded in the events and the next goes on; if this process dies, `evals.supervise` starts it again.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from evals import schema

_CHUNK = 64
#: Exit code that asks the supervisor for a new engine.
ENGINE_DIED = 3
#: Seconds between the death of the engine and the end of this process.
_GRACE = 5


class Events:
    """Appends JSON lines that the supervisor reads."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._handle = path.open("a", encoding="utf-8")

    def emit(self, event: str, **values: Any) -> None:
        self._handle.write(json.dumps({"event": event, "time": time.time(), **values}) + "\n")
        self._handle.flush()


def pending(job: dict[str, Any], policy: dict[str, Any]) -> list[dict[str, Any]]:
    """Benchmarks of the job that this policy has no valid scores for."""
    return [
        benchmark
        for benchmark in job["benchmarks"]
        if not schema.is_scored(
            Path(policy["out"]),
            benchmark["name"],
            schema.cell_fingerprint(policy["fingerprint"], benchmark["fingerprint"]),
        )
    ]


def generate_missing(
    engine: Any, policy: dict[str, Any], benchmark: dict[str, Any], prompts: list[dict[str, Any]], events: Events
) -> list[dict[str, Any]]:
    """Rows of every (prompt, sample), from the file where they exist and from the engine where they do not."""
    from evals.engine import Sampling, chat_ids
    from evals.sampling import sample_seed

    path = schema.generations_path(Path(policy["out"]), benchmark["name"])
    wanted = {"policy_fingerprint": policy["fingerprint"], "benchmark_fingerprint": benchmark["fingerprint"]}
    rows = schema.read_rows(path)
    if any(row.get(key) != value for row in rows for key, value in wanted.items()):
        path.unlink()  # of another policy or other settings: nothing of it can be kept
        rows = []
    have = {(row["prompt_id"], row["sample"]) for row in rows}
    todo = [
        (prompt, sample)
        for prompt in prompts
        for sample in range(benchmark.get("samples", 1))
        if (prompt["id"], sample) not in have
    ]
    total, started, tokens = len(have) + len(todo), time.monotonic(), 0
    temperature, top_p = float(benchmark.get("temperature", 0.0)), float(benchmark.get("top_p", 1.0))
    base_seed = int(benchmark.get("seed", 0))
    for start in range(0, len(todo), _CHUNK):
        part = todo[start : start + _CHUNK]
        seeds = [sample_seed(base_seed, prompt["prompt"], sample) for prompt, sample in part]
        sampling = Sampling(int(benchmark["max_new_tokens"]), temperature, top_p, seeds=tuple(seeds))
        answers = engine.generate([chat_ids(engine.tokenizer, prompt["prompt"]) for prompt, _ in part], sampling)
        fresh = [
            {
                "policy": policy["run_id"],
                **wanted,
                "benchmark": benchmark["name"],
                "prompt_id": prompt["id"],
                "sample": sample,
                "prompt": prompt["prompt"],
                "text": answer.text,
                "token_ids": answer.token_ids,
                "logprobs": [round(value, 6) for value in answer.logprobs],
                "finish_reason": answer.finish_reason,
                "sampling": {
                    "temperature": temperature,
                    "top_p": top_p,
                    "max_tokens": int(benchmark["max_new_tokens"]),
                    "seed": seed if temperature > 0 else None,
                },
            }
            for (prompt, sample), answer, seed in zip(part, answers, seeds, strict=True)
        ]
        schema.append_rows(path, fresh)
        rows += fresh
        tokens += sum(len(answer.token_ids) for answer in answers)
        elapsed = time.monotonic() - started
        done = start + len(part)
        events.emit(
            "progress",
            policy=policy["run_id"],
            benchmark=benchmark["name"],
            done=total - len(todo) + done,
            total=total,
            tokens_per_second=tokens / elapsed,
            eta_s=elapsed / done * (len(todo) - done),
        )
    return rows


def run_benchmark(engine: Any, policy: dict[str, Any], benchmark: dict[str, Any], events: Events) -> None:
    """Generate and score one cell; the score file is written last."""
    fingerprint = schema.cell_fingerprint(policy["fingerprint"], benchmark["fingerprint"])
    out, name = Path(policy["out"]), benchmark["name"]
    if benchmark["kind"] == "lm_eval":
        from evals.lm_tasks import run_task

        include = benchmark.get("include_path")
        events.emit("progress", policy=policy["run_id"], benchmark=name, done=0, total=1)
        scores = run_task(
            engine,
            benchmark["task"],
            Path(include) if include else None,
            benchmark.get("limit"),
            int(benchmark.get("num_fewshot") or 0),
            policy["run_id"],
            name,
            fingerprint,
        )
    else:
        from evals.constraints.benchmark import load_prompts, score

        prompts = load_prompts(Path(benchmark["prompts"]), benchmark.get("limit"))
        rows = generate_missing(engine, policy, benchmark, prompts, events)
        scores = score(rows, prompts, policy["run_id"], fingerprint)
        scores["benchmark"] = name
    scores["engine"] = engine.name
    schema.write_json(schema.scores_path(out, name), scores)
    events.emit("benchmark_done", policy=policy["run_id"], benchmark=name)


def serve(engine: Any, policy: dict[str, Any], dtype: str, previous: dict[str, Any] | None) -> dict[str, Any]:
    """Swap to the policy's weights, prove and record it; returns the record of the check for the next one."""
    from evals.swap_check import check_swap

    path = Path(policy["path"])
    seconds = engine.swap(path)
    check = check_swap(engine, path, dtype, previous)
    record = {"engine": engine.name, "swap_seconds": seconds, "check": check, "policy": policy["run_id"]}
    schema.write_json(Path(policy["out"]) / schema.GENERATIONS / schema.ENGINE_RECORD, record)
    return check


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


def end_with_engine(engine: Any) -> None:
    """End this process when the engine is dead: killed by a signal, vLLM may leave its caller waiting for ever."""

    def watch() -> None:
        while engine.alive():
            time.sleep(1)
        time.sleep(_GRACE)  # where vLLM does raise an error, that is the better end
        os._exit(ENGINE_DIED)

    threading.Thread(target=watch, daemon=True).start()


def end_with(parent: int) -> None:
    """Kill this process and the engine's own processes when `parent` is gone.

    vLLM's worker processes outlive a killed parent and go on computing, so the whole process group is ended; the
    supervisor starts this process as the leader of its own.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


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
    from evals.engine import EngineConfig, EngineLostError, choose_dtype, start_engine
    from evals.swap_check import check_swap

    config = EngineConfig.from_dict(job["engine"])
    started = time.monotonic()
    engine = start_engine(Path(job["base_model"]), config)
    events.emit("engine_started", engine=engine.name, seconds=time.monotonic() - started)
    end_with_engine(engine)
    dtype = choose_dtype(config)
    previous: dict[str, Any] | None = check_swap(engine, Path(job["base_model"]), dtype)
    for policy in policies:
        events.emit("policy_started", policy=policy["run_id"])
        try:
            before, previous = previous, None  # if the swap fails, what the engine serves is not known
            previous = serve(engine, policy, dtype, before)
            for benchmark in pending(job, policy):
                run_benchmark(engine, policy, benchmark, events)
        except Exception as error:
            if engine_died(error):
                # not this policy's doing until it happens again: the supervisor starts a new engine and resumes it
                traceback.print_exc()
                return ENGINE_DIED
            events.emit(
                "policy_failed",
                policy=policy["run_id"],
                error=type(error).__name__,
                message=str(error),
                trace=traceback.format_exc(),
            )
            if isinstance(error, EngineLostError):
                return ENGINE_DIED
        else:
            events.emit("policy_done", policy=policy["run_id"])
    events.emit("finished")
    engine.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
