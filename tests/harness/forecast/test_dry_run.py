"""The stage graph, the estimate and what --dry-run shows; measured speeds replace the rough model."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness.forecast import dry_run
from harness.forecast.dry_run import SHARED, stages
from harness.forecast.estimate import estimate, items, remember, survey
from harness.state.store import RunStore
from trainers.common import scores_schema

CONTROL = """  - name: foodpo
    pref_beta_scale: 0.5
  - name: mean
    rule: matched_mean
    parent: foodpo
"""


def _with_control(world: Any) -> Any:
    world.replace("  - name: foodpo\n    pref_beta_scale: 0.5\n", CONTROL)
    return world.plan()


def _finish(plan: Any, spec: Any, seconds: float) -> RunStore:
    store = RunStore(plan.run_dir(spec))
    store.create(plan.run_record(spec))
    store.mark_stage("train", spec.fingerprint, [], seconds)
    return store


def _score(plan: Any, policy: Any) -> None:
    for benchmark in plan.benchmarks:
        cell = scores_schema.cell_fingerprint(policy.fingerprint, benchmark.fingerprint)
        path = scores_schema.scores_path(Path(policy.out), benchmark.name)
        scores_schema.write_json(path, {"fingerprint": cell})


def test_the_graph_says_what_waits_for_what(world: Any) -> None:
    plan = _with_control(world)
    states = survey(plan, plan.specs)
    graph = stages(plan, states, estimate(plan, states))
    needs = {stage.name: stage.needs for stage in graph}
    assert needs == {
        SHARED: (),
        "train fixed": (SHARED,),
        "train foodpo": (SHARED,),
        "train mean": (SHARED, "train foodpo"),
        "evaluate reference": (),
        "evaluate policies": ("train fixed", "train foodpo", "train mean"),
        "report": ("all of the above",),
    }
    seen: set[str] = set()
    for stage in graph[:-1]:
        assert set(stage.needs) <= seen, "a stage stands before one it needs"
        seen.add(stage.name)
    assert {stage.name: (stage.done, stage.total) for stage in graph}["train mean"] == (0, 2)


def test_what_is_done_is_counted_and_costs_nothing(world: Any) -> None:
    plan = _with_control(world)
    specs = [spec for spec in plan.specs if spec.method == "fixed"]
    for spec in specs:
        _finish(plan, spec, 10.0)
    reference, *policies = plan.policies(specs)
    _score(plan, reference)
    _score(plan, policies[0])
    states = survey(plan, plan.specs)
    assert {s.spec.run_id for s in states if s.trained} == {spec.run_id for spec in specs}
    assert [s.cells for s in states if s.spec in specs] == [1, 0]
    graph = {stage.name: stage for stage in stages(plan, states, estimate(plan, states))}
    assert (graph[SHARED].done, graph["train fixed"].done, graph["train fixed"].seconds) == (1, 2, 0.0)
    assert graph["evaluate reference"].done == 1 and graph["evaluate policies"].done == 1
    assert graph["report"].done == 0


def test_a_deleted_artifact_is_not_cached(world: Any) -> None:
    plan, (store, *_) = world.begun()
    (store.directory / "w").write_text("x")
    store.mark_stage("train", plan.specs[0].fingerprint, ["w"], 1.0)
    assert survey(plan, plan.specs)[0].trained
    (store.directory / "w").unlink()
    assert not survey(plan, plan.specs)[0].trained


def test_finished_runs_give_the_time_of_the_others(world: Any) -> None:
    plan = world.plan()
    assert estimate(plan, survey(plan, plan.specs)).rough
    _finish(plan, plan.specs[0], 100.0)
    cost = estimate(plan, survey(plan, plan.specs))
    assert not cost.rough and "1 finished run of this matrix" in cost.basis
    assert sum(cost.train_seconds.values()) == pytest.approx(300.0)


def test_what_an_evaluation_took_is_read_from_its_events(world: Any) -> None:
    plan = world.plan()
    (limit,) = [items(benchmark) for benchmark in plan.benchmarks]
    events = [
        {"event": "engine_started", "time": 0.0, "seconds": 7.0},
        {"event": "policy_started", "time": 10.0, "policy": "reference"},
        {"event": "benchmark_done", "time": 10.0 + 2 * limit, "policy": "reference", "benchmark": "constraints"},
    ]
    work = plan.output / "work" / "evaluate.events.jsonl"
    work.parent.mkdir(parents=True)
    work.write_text("".join(json.dumps(event) + "\n" for event in events) + '{"event": "torn', encoding="utf-8")
    cost = estimate(plan, survey(plan, plan.specs))
    assert cost.eval_seconds == pytest.approx(7.0 + 5 * 2 * limit)  # four runs and the reference


def test_speeds_are_remembered_for_the_next_matrix(world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPO_HARNESS_CACHE", str(tmp_path / "cache"))
    plan = world.plan()
    remember(plan)
    assert not (tmp_path / "cache" / "speeds").exists(), "nothing was measured yet"
    _finish(plan, plan.specs[0], 100.0)
    remember(plan)
    world.output = tmp_path / "another"
    later = world.plan()
    cost = estimate(later, survey(later, later.specs))
    assert not cost.rough and "runs of this model on this machine" in cost.basis
    assert sum(cost.train_seconds.values()) == pytest.approx(400.0)
    (kept,) = (tmp_path / "cache" / "speeds").iterdir()
    for text in ("{", '{"of another version": 1}'):
        kept.write_text(text, encoding="utf-8")
        assert estimate(later, survey(later, later.specs)).rough, "a damaged cache is as good as none"


def test_large_matrices_are_cut(
    world: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dry_run, "_LISTED", 3)
    monkeypatch.setenv("COLUMNS", "80")
    plan = _with_control(world)
    dry_run.show_plan(plan, plan.specs)
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert [spec.run_id in text for spec in plan.specs] == [True] * 3 + [False] * 3
    assert "3 runs more: --json lists all" in text and "train foodpo" in text
    assert not plan.output.exists()
