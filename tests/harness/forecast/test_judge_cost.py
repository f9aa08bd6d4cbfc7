"""What a dry run says of the judges: requests, time and budget."""

import json
from typing import Any

import pytest

from harness.forecast.dry_run import show_plan, stages
from harness.forecast.estimate import estimate, events_path, survey
from tests.harness.stages.test_judges_in_matrix import PROMPTS, VERIFIABLE, add, evaluated, judge, llm

N = len(PROMPTS)


def costs(plan: Any) -> dict[str, Any]:
    return {one.name: one for one in estimate(plan, survey(plan, plan.specs)).judges}


def test_requests_are_those_that_are_asked(world: Any) -> None:
    """Four runs of two methods and two seeds: six comparisons in both orders, or five policies' answers."""
    url = "http://localhost:1/v1"
    add(world, VERIFIABLE, llm(url), llm(url, ", pairs: reference").replace("name: llm", "name: near"))
    found = costs(world.plan())
    assert found["gold"].requests == 5 * N
    assert found["llm"].requests == 2 * 6 * N and found["near"].requests == 2 * 4 * N
    assert found["gold"].seconds < 1 and found["llm"].seconds is None, "nothing is known of a server's speed"


def test_policies_on_the_way_are_counted(world: Any) -> None:
    world.replace("      prompts: prompts.jsonl\n", "      prompts: prompts.jsonl\n  checkpoints: [2, 4]\n")
    add(world, VERIFIABLE, "{name: all, kind: verifiable, checkpoints: true}")
    found = costs(world.plan())
    assert found["gold"].requests == 5 * N and found["all"].requests == (5 + 2 * 4) * N


def test_times_come_from_the_rate_limit_and_later_from_what_was_measured(world: Any) -> None:
    add(world, llm("http://localhost:1/v1", ", requests_per_minute: 30"))
    plan = world.plan()
    assert costs(plan)["llm"].seconds == pytest.approx(2.0 * 12 * N)
    path = events_path(plan, "llm")
    path.parent.mkdir(parents=True)
    told = [{"event": "started", "time": 0.0}, *({"event": "progress", "time": 5.0 + 0.5 * i} for i in range(5))]
    path.write_text("".join(json.dumps(event) + "\n" for event in told) + '{"event": "to')
    assert costs(plan)["llm"].seconds == pytest.approx(0.5 * 12 * N)


def test_the_dry_run_names_a_budget_that_will_not_do(world: Any, capsys: pytest.CaptureFixture[str]) -> None:
    add(world, VERIFIABLE, llm("http://localhost:1/v1", ", max_requests: 10"))
    plan = world.plan()
    show_plan(plan, plan.specs)
    text = " ".join(capsys.readouterr().out.split())
    assert "judge evaluate policies 0/4" in text
    assert f"judge gold: at most {5 * N} requests, about 0s" in text
    assert f"judge llm: at most {12 * N} requests; exceeds its budget, max_requests 10" in text


def test_what_is_judged_is_done(world: Any) -> None:
    add(world, VERIFIABLE)
    plan = evaluated(world)
    states = survey(plan, plan.specs)
    graph = {stage.name: stage for stage in stages(plan, states, estimate(plan, states))}
    assert graph["judge"].needs == ("evaluate policies",) and graph["judge"].done == 0
    assert judge(plan) == []
    states = survey(plan, plan.specs)
    graph = {stage.name: stage for stage in stages(plan, states, estimate(plan, states))}
    assert graph["judge"].done == graph["judge"].total == 4
    assert costs(plan)["gold"].requests == 0
