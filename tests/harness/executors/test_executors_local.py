"""Several runs at once: the same results, controls after parents, no more than fit, settings checked."""

import time
from pathlib import Path
from typing import Any

import pytest

from harness.executors import memory
from harness.executors.local import LocalExecutor, LocalSettings, ProcessSeat
from harness.executors.registry import executor_of, settings_of
from tests.faults.compare import differences
from tests.harness.small_matrix import SmallMatrix, statuses
from trainers.common.errors import UserError


def test_concurrent_runs_give_the_results_of_single_ones(small: SmallMatrix, single: Any) -> None:
    one, two = small.root / "single", small.root / "two"
    assert len({line.split()[0] for line in small.steps.read_text().splitlines()}) == 1, "a worker serves run after run"
    small.steps.unlink()
    small.train(two, "executor.threads=1", "executor.max_parallel=2", "executor.memory_gib=0.5")
    assert small.all_trained(two) and differences(single, small.trained(two)) == []
    assert (two / "work" / "train-1.log").exists() and not (one / "work" / "train-1.log").exists()
    assert len({line.split()[0] for line in small.steps.read_text().splitlines()}) <= 2


def test_two_processes_of_a_run_by_accelerate_launch(small: SmallMatrix) -> None:
    config = Path(__file__).resolve().parents[3] / "harness" / "configs" / "accelerate" / "cpu_two_processes.yaml"
    output = small.root / "launched"
    small.train(output, f"executor.accelerate={config}", "executor.threads=1", "methods=[{name: fixed}]", "seeds=[0]")
    status = statuses(output)["fixed"]
    assert small.all_trained(output) and (status["step"], status["total_steps"]) == (4, 4)


ONE_PROCESS = """
compute_environment: LOCAL_MACHINE
distributed_type: 'NO'
use_cpu: true
num_machines: 1
num_processes: 1
machine_rank: 0
mixed_precision: 'no'
"""


def test_a_launch_of_one_process_is_stopped_after_its_step(small: SmallMatrix) -> None:
    """accelerate starts a single process without torch.distributed, and passes no signal on to it."""
    (small.root / "one.yaml").write_text(ONE_PROCESS, encoding="utf-8")
    plan, (store, *_) = small.begun(small.root / "one_process", "executor.accelerate=one.yaml")
    small.pause(0.5)
    try:
        with executor_of(plan) as executor:
            job = {**plan.train_job(plan.specs[0]), "attempt": 1}
            seat = executor.seat(job)
            seat.start(job)
            told: list[str] = []
            deadline = time.monotonic() + 240
            while (polled := seat.poll()).ended is None and time.monotonic() < deadline:
                if "progress" not in told and any(event.get("step") for event in polled.events):
                    seat.stop()
                    told.append("progress")
                told += [event["event"] for event in polled.events if event["event"].startswith("run_")]
                time.sleep(0.05)
    finally:
        small.pause(0.0)
    assert told == ["run_started", "progress", "run_stopped"], seat.log.read_text()[-4000:]
    status = store.status()
    assert (status.state, status.stopped, status.error) == ("pending", "SIGTERM", None)
    assert 1 <= status.step < 4
    assert (store.directory / "checkpoints" / f"checkpoint-{status.step}" / "checksums.json").is_file()


def test_no_run_is_given_to_a_process_whose_cuda_may_be_dead(
    small: SmallMatrix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a device-side assert every later call of CUDA fails in the same process."""
    import torch

    from harness.workers.stopping import StopRequest
    from harness.workers.train_worker import Events, cell

    plan, _ = small.begun(tmp_path / "out")
    job = {**plan.train_job(plan.specs[0]), "attempt": 1, "data": {"path": str(tmp_path / "none")}}
    seat = ProcessSeat(tmp_path, "train")
    try:
        seat.start(job)
        first = seat.pid
        request = StopRequest.__new__(StopRequest)  # signals of this process stay as they are
        assert cell(job, Events(tmp_path / "train.events.jsonl"), request)
        seat.poll()
        seat.start(job)
        assert seat.pid == first, "CUDA was not used"
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
        assert not cell(job, Events(tmp_path / "train.events.jsonl"), request), "the process ends itself"
        seat.poll()
        seat.start(job)
        assert seat.pid != first
    finally:
        seat.kill()


def test_memory_in_use_is_kept_for_those_who_will_take_it() -> None:
    gib = 2**30
    assert memory.fits(4 * gib, [], 4 * gib)
    assert not memory.fits(4 * gib, [(4 * gib, 1 * gib)], 6 * gib)  # the other will take 3 more
    assert memory.fits(4 * gib, [(4 * gib, 4 * gib)], 4 * gib)


def test_second_run_waits_where_memory_is_short_and_gpus_are_not_shared(
    small: SmallMatrix, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = small.plan(small.root / "none")
    job = plan.train_job(plan.specs[0])
    monkeypatch.setattr(memory, "free_ram", lambda: 0)
    executor = LocalExecutor(plan, LocalSettings(max_parallel=4))
    assert executor.seat(job) is not None  # the first is always let in
    assert executor.seat(job) is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6,7")
    executor = LocalExecutor(plan, LocalSettings())
    seats = [executor.seat(job) for _ in range(4)]
    assert [seat.gpus if seat else None for seat in seats] == [["4"], ["6"], ["7"], None]
    pair = LocalExecutor(plan, LocalSettings(gpus_per_run=2))
    seats = [pair.seat(job) for _ in range(2)]
    assert seats[0] is not None and seats[0].gpus == ["4", "6"] and seats[1] is None
    assert seats[0].launch is not None and "--multi_gpu" in seats[0].launch


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            "executor.kind=slurm",
            ["executor.kind is 'slurm'", "known executors: local, ray", "path/to/file.py:ClassName"],
        ),
        ("executor.max_paralel=2", ["executor.max_paralel", "did you mean 'max_parallel'?"]),
        ("executor.max_parallel=0", ["executor.max_parallel is 0", "greater than 0"]),
        ("executor.threads=two", ["executor.threads is 'two'", "a whole number"]),
        ("executor.kind=mine.py:Absent", ["executor.kind is 'mine.py:Absent'", "no such file"]),
    ],
)
def test_mistakes_name_key_value_and_fix(small: SmallMatrix, given: str, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        small.plan(small.root / "none", given)
    assert all(word in str(caught.value) for word in [f"--set {given}", *words]), caught.value


def test_executor_from_a_file_and_no_part_of_identity(small: SmallMatrix) -> None:
    (small.root / "mine.py").write_text(
        "from harness.executors.local import LocalExecutor\nclass Mine(LocalExecutor):\n    pass\n"
    )
    given = ["executor.kind=mine.py:Mine", "executor.threads=3"]
    plan = small.plan(small.root / "none", *given)
    with executor_of(plan) as executor:
        assert type(executor).__name__ == "Mine" and executor.settings.threads == 3
    plain = small.plan(small.root / "none")
    assert [spec.run_id for spec in plain.specs] == [spec.run_id for spec in plan.specs]
    assert settings_of(plain.config, plain.source)[0] is LocalExecutor
