"""What the judges of a matrix will be asked, and how long that may take."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals import schema
from harness.plan import Plan
from harness.survey import RunState

#: Tokens a reward model reads with an answer, and seconds that checking an answer's constraints takes, roughly.
_READ_TOKENS = 150
_CHECK_SECONDS = 2e-4


@dataclass(frozen=True)
class JudgeCost:
    """What is left for one judge.

    Attributes:
        runs: of the runs, how many are judged on all its benchmarks.
        requests: questions still to ask, at most: identical answers are not asked about, kept replies are not asked again.
        seconds: None where nothing is known about its speed.
        max_requests: its budget, over the life of its cache; None for none, or for a kind without one.
    """

    name: str
    runs: int
    requests: int
    seconds: float | None
    max_requests: int | None


def events_path(plan: Plan, judge: str) -> Path:
    """Where the process of a judge tells what it does."""
    return plan.output / "work" / f"judge-{judge}.events.jsonl"


def judge_costs(plan: Plan, states: Sequence[RunState], flops: Callable[[], float]) -> tuple[JudgeCost, ...]:
    """One entry for each judge, for the runs in `states`. `flops`: floating-point operations this machine does a second."""
    steps = [plan.config.evaluation.checkpoints_of(state.spec.seed) for state in states]
    on_the_way = sum(len(of_run) for of_run in steps if not isinstance(of_run, bool))  # true: known when trained
    found = []
    for judge in plan.judges:
        judged = sum(_is_judged(plan, state, judge) for state in states)
        total = 0
        for name in judge["benchmarks"]:
            number = judge["answers"][name]
            measured = plan.config.evaluation.checkpoint_benchmarks
            kept = judge["checkpoints"] and (measured is None or name in measured)
            more = on_the_way if kept else 0
            if judge["compares"]:
                total += 2 * number * (_pairs(states, judge["pairs"]) + more)  # both orders
            else:
                total += number * (1 + len(states) + more)
        left = round(total * (1 - judged / len(states))) if states else 0
        speed = _seconds_each(plan, judge, flops) if left else 0.0
        seconds = None if speed is None else left * speed
        found.append(JudgeCost(judge["name"], judged, left, seconds, judge["params"].get("max_requests")))
    return tuple(found)


def is_judged(plan: Plan, state: RunState) -> bool:
    """Whether every judge has scored the run. The files need only be there, as in `harness.survey`."""
    return all(_is_judged(plan, state, judge) for judge in plan.judges)


def _is_judged(plan: Plan, state: RunState, judge: dict[str, Any]) -> bool:
    from evals.judge_worker import cell_name

    folder = plan.run_dir(state.spec)
    return all(schema.scores_path(folder, cell_name(b, judge["name"])).is_file() for b in judge["benchmarks"])


def _pairs(states: Sequence[RunState], which: str) -> int:
    """Number of comparisons of `harness.judging.pairs_of`."""
    seeds = Counter(state.spec.seed for state in states)
    return len(states) + (sum(n * (n - 1) // 2 for n in seeds.values()) if which == "all" else 0)


def _seconds_each(plan: Plan, judge: dict[str, Any], flops: Callable[[], float]) -> float | None:
    """Seconds a request: as measured in this output, else from the rate limit or the size of the reward model."""
    from harness.estimate import parameter_count

    times = []
    try:
        for line in events_path(plan, judge["name"]).read_text(encoding="utf-8").splitlines():
            event = json.loads(line)
            if event["event"] == "progress":
                times.append(float(event["time"]))
    except (OSError, ValueError, KeyError):  # none yet, or torn: what was read up to there counts
        pass
    if len(times) > 1:
        return (times[-1] - times[0]) / (len(times) - 1)
    params, kind = judge["params"], judge["kind"]
    if kind == "llm" and params.get("requests_per_minute"):
        return 60.0 / float(params["requests_per_minute"])
    if kind == "reward_model" and "model" in judge["files"]:
        return 2.0 * parameter_count(Path(params["model"])) * _READ_TOKENS / flops()
    return _CHECK_SECONDS if kind == "verifiable" else None
