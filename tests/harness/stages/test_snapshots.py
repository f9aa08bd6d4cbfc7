"""evaluation.checkpoints: intermediate checkpoints are kept, evaluated like the final one, and identify nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.executors import local
from harness.progress import Progress
from harness.stages.evaluate import evaluate_policies
from harness.state.policies import kept_steps, missing_steps, snapshot_policies
from harness.state.store import RunStore
from tests.harness.state.test_crash_safety import _Engine, _trained
from trainers.common.files import file_hash, push_files

BENCHMARK = "      prompts: prompts.jsonl\n"
MATRIX = """
name: frontier
model: {name_or_path: MODEL}
data: {train: pairs.jsonl}
training:
  per_device_train_batch_size: 2
  max_steps: 4
  learning_rate: 1e-2
  max_length: 128
  bf16: false
  gradient_checkpointing: false
LORA
methods: [{name: fixed, rule: fixed}]
evaluation:
  engine: {backend: transformers, dtype: float32, max_model_len: 256}
  benchmarks:
    - {name: kl, kind: kl, prompts: prompts.jsonl, max_new_tokens: 8, samples: 2}
    - {name: constraints, prompts: prompts.jsonl, max_new_tokens: 8}
  checkpoints: [1, 3]
  checkpoint_benchmarks: [kl]
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("checkpoints: sometimes", ["evaluation.checkpoints is 'sometimes'", "true or false"]),
        ("checkpoints: [10, 0]", ["evaluation.checkpoints[1] is 0", "greater than 0"]),
        ("checkpoints: []", ["evaluation.checkpoints is []", "at least 1"]),
        ("checkpoint_benchmarks: [constraints]", ["evaluation.checkpoints is not", "add it"]),
        ("checkpoint_seeds: [0]", ["evaluation.checkpoints is not", "add it"]),
        ("checkpoints: true\n  checkpoint_seeds: [9]", ["evaluation.checkpoint_seeds[0] is 9", "no run has this seed"]),
        (
            "checkpoints: true\n  checkpoint_benchmarks: [constraint]",
            ["evaluation.checkpoint_benchmarks[0] is 'constraint'", "did you mean 'constraints'?"],
        ),
    ],
)
def test_mistakes(world: Any, text: str, words: list[str]) -> None:
    line = world.replace(BENCHMARK, f"{BENCHMARK}  {text}\n") + 1 + text.count("\n")
    world.refuses(f"{world.config}:{line}:", *words)


def test_true_needs_a_trainer_that_saves(world: Any) -> None:
    world.replace("max_length: 256", "max_length: 256\n  save_strategy: 'no'")
    world.replace(BENCHMARK, f"{BENCHMARK}  checkpoints: true\n")
    assert "training.save_strategy is 'no'; name the steps" in world.error()


def _kept(plan: Any, spec: Any, *steps: int) -> None:
    """The run has ended after 10 steps and kept its policy after these."""
    for step in steps:
        folder = plan.run_dir(spec) / "snapshots" / f"step-{step}"
        folder.mkdir(parents=True)
        (folder / "snapshot.json").write_text(json.dumps({"step": step}))
    RunStore(plan.run_dir(spec)).progress(10, 10)


def test_only_what_was_asked_for_and_kept_is_evaluated(world: Any) -> None:
    world.replace(BENCHMARK, f"{BENCHMARK}  checkpoints: [2, 5, 7, 40]\n")
    plan = world.plan()
    spec = plan.specs[0]
    assert snapshot_policies(plan, plan.specs) == []
    _kept(plan, spec, 2, 3, 5)
    assert kept_steps(plan, spec) == [2, 5] and missing_steps(plan, spec) == [7]
    policies = snapshot_policies(plan, plan.specs)
    assert [policy.run_id for policy in policies] == [f"{spec.run_id}@2", f"{spec.run_id}@5"]
    assert len({policy.fingerprint for policy in policies} | {spec.fingerprint}) == 3


def test_checkpoints_of_some_seeds(world: Any) -> None:
    world.replace(BENCHMARK, f"{BENCHMARK}  checkpoints: [2]\n  checkpoint_seeds: [1]\n")
    plan = world.plan()
    assert {spec.seed for spec in plan.specs} == {0, 1}
    for spec in plan.specs:
        _kept(plan, spec, 2)
        asked = spec.seed == 1
        assert plan.train_job(spec)["train_job"]["snapshots"] == ([2] if asked else False)
        assert (kept_steps(plan, spec), missing_steps(plan, spec)) == ([2] if asked else [], [])


def test_a_torn_policy_on_the_way_is_set_aside_and_fails_nothing(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world.replace(BENCHMARK, f"{BENCHMARK}  checkpoints: [1, 2, 3]\n")
    plan, _ = _trained(world)
    run = plan.specs[0]
    for step in (1, 2, 3):
        weights = plan.run_dir(run) / "snapshots" / f"step-{step}" / "policy"
        weights.mkdir(parents=True)
        (weights / "model.safetensors").write_bytes(b"weights")
        record = {"step": step, "files": push_files(weights)}
        (weights.parent / "snapshot.json").write_text(json.dumps(record))
    (weights.parent / "snapshot.json").write_text(json.dumps(record).replace("step", "stfp"))  # of step 3
    torn = plan.run_dir(run) / "snapshots" / "step-1"
    (torn / "policy" / "model.safetensors").write_bytes(b"weightz")
    engine = _Engine()
    monkeypatch.setattr(local, "run_job", engine)
    with Progress() as progress:
        assert evaluate_policies(plan, [run], progress) == {}
        assert set(engine.asked) == {"reference", run.run_id, f"{run.run_id}@2"}
        assert not (torn / "policy").exists()
        assert (torn / "quarantine" / "policy.1" / "model.safetensors").read_bytes() == b"weightz"
        engine.asked.clear()
        assert evaluate_policies(plan, [run], progress) == {} and engine.asked == []


@pytest.mark.slow
@pytest.mark.parametrize("lora", ["", "lora: {r: 4, target_modules: all-linear}"])
def test_a_frontier_is_measured(world: Any, tiny_model: Path, cli: Callable[..., Any], lora: str) -> None:
    from reports.runs.records import load_scores

    world.write(MATRIX.replace("MODEL", str(tiny_model)).replace("LORA", lora))
    done = cli("run-matrix", world.config, "--output", world.output)
    assert done.returncode == 0, done.stderr
    assert "evaluated [3/4] fixed seed 0, step 1" in done.stderr
    (run,) = (world.output / "runs").iterdir()
    kl = {
        step: load_scores(path).metrics["kl_k3"]["value"]
        for step, path in [
            (0, world.output / "reference" / "scores" / "kl.json"),
            *((n, run / "snapshots" / f"step-{n}" / "scores" / "kl.json") for n in (1, 3)),
            (4, run / "scores" / "kl.json"),
        ]
    }
    assert abs(kl[0]) < 1e-3 < kl[1] < kl[4] and len(set(kl.values())) == 4
    exact = load_scores(run / "snapshots" / "step-3" / "scores" / "kl.json").metrics["kl_exact"]["value"]
    assert exact > 0
    assert json.loads((world.output / "summary.json").read_text())["frontiers"]["kl_metric"] == "kl_exact"
    assert not (run / "snapshots" / "step-1" / "scores" / "constraints.json").exists()
    assert json.loads((run / "snapshots" / "step-3" / "status.json").read_text())["state"] == "done"
    kept = run / "snapshots" / "step-1"
    assert (kept / "policy").exists() == (not lora), "a merged adapter is removed again"
    files = json.loads((kept / "snapshot.json").read_text())["files"]
    weights = kept / ("adapter" if lora else "policy")
    assert files == {path.name: file_hash(path) for path in weights.iterdir()}
    again = cli("run-matrix", world.config, "--output", world.output)
    assert again.returncode == 0 and "nothing to do" in again.stderr
