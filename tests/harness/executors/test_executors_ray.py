"""A real Ray cluster of several nodes on this machine; a node dies in the middle, and nothing is lost or done twice."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.executors import artifacts
from harness.executors.base import Ended
from harness.executors.ray import _may_pass, runtime_environment
from tests.faults.compare import differences
from tests.harness.small_matrix import SmallMatrix
from trainers.common.errors import UserError
from trainers.common.files import read_json, write_json

ray = pytest.importorskip("ray", reason="the ray extra is not installed")
THREADS = "executor.threads=1"


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head without room for tasks and two nodes with room for one run each."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 80 * 2**20})
    made.nodes = [made.add_node(num_cpus=1, resources={"trainer": 1}, object_store_memory=80 * 2**20) for _ in "ab"]
    yield made
    ray.shutdown()
    made.shutdown()


def _ancestors(pid: int) -> list[int]:
    found = [pid]
    while found[-1] > 1:
        status = Path(f"/proc/{found[-1]}/status").read_text(encoding="ascii")
        found.append(int(status.split("PPid:")[1].split()[0]))
    return found


def _kill_the_node_that_trains(cluster: Any, steps: Path) -> None:
    """Wait for the second step of a run and kill the node it is on."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        pids = [line.split()[0] for line in steps.read_text().splitlines()] if steps.exists() else []
        if len(pids) >= 2:
            line = _ancestors(int(pids[-1]))
            hit = [n for n in cluster.nodes if n.all_processes["raylet"][0].process.pid in line]
            cluster.remove_node(hit[0], allow_graceful=False)
            return
        time.sleep(0.1)


@pytest.mark.timeout(600)
def test_a_node_dies_and_the_rest_finishes_everything(small: SmallMatrix, single: Any, cluster: Any) -> None:
    output = small.root / "cluster"
    small.pause(1.0)
    small.steps.unlink()
    killer = threading.Thread(target=_kill_the_node_that_trains, args=(cluster, small.steps))
    killer.start()
    try:
        small.train(
            output,
            "executor.kind=ray",
            f"executor.address={cluster.address}",
            "executor.train.resources.trainer=1",
            THREADS,
        )
    finally:
        killer.join()
        small.pause(0.0)
    assert len([node for node in ray.nodes() if node["Alive"]]) == 2  # the head and one of two
    assert small.all_trained(output) and differences(single, small.trained(output)) == []
    # nothing twice: beside the steps of an undisturbed matrix, only the one that was cut off
    assert len(small.steps.read_text().splitlines()) <= 2 * 4 + 2


@pytest.mark.timeout(600)
def test_nodes_without_a_shared_file_system(small: SmallMatrix, single: Any, tmp_path: Path) -> None:
    """A node works in a scratch folder of its own; everything goes by way of an fsspec store."""
    output = small.root / "apart"
    plan, stores = small.begun(output, "executor.kind=ray", THREADS)
    record = stores[0].directory / "run.json"
    write_json(record, {**plan.run_record(plan.specs[0]).plain(), "hardware": {"machine": "of the driver"}})
    ray.shutdown()
    try:
        small.train(output, "executor.kind=ray", f"executor.artifacts=file://{tmp_path / 'store'}", THREADS)
    finally:
        ray.shutdown()
    assert differences(single, small.trained(output)) == []
    assert any((tmp_path / "store" / "inputs").rglob("model.safetensors"))
    assert read_json(record)["hardware"] == plan.environment.hardware.plain(), "that of the node"


def test_asking_for_what_no_node_has_is_refused(small: SmallMatrix, cluster: Any) -> None:
    wanted = ("executor.kind=ray", f"executor.address={cluster.address}", "executor.train.gpus=8")
    with pytest.raises(UserError, match="asks for 1 CPU, 8 GPU"):
        small.train(small.root / "no", *wanted)


@pytest.fixture(scope="module")
def gpu_node() -> Iterator[None]:
    """A cluster of one node that says it has a GPU."""
    ray.shutdown()
    common = {"include_dashboard": False, "log_to_driver": False, "object_store_memory": 80 * 2**20}
    ray.init(num_cpus=1, num_gpus=1, runtime_env=runtime_environment(), **common)
    yield
    ray.shutdown()


def _plan(small: SmallMatrix, output: Path, *overrides: str) -> Any:
    return small.plan(output, "executor.kind=ray", THREADS, *overrides)


def _executor(plan: Any) -> Any:
    from harness.executors.registry import settings_of

    cls, settings = settings_of(plan.config, plan.source)
    return cls(plan, settings)


def test_gpus_are_taken_where_nothing_is_said_of_them(small: SmallMatrix, gpu_node: None, tmp_path: Path) -> None:
    def gpus(*overrides: str) -> list[int]:
        asked = _executor(_plan(small, tmp_path, *overrides)).asked
        return [asked["train"].gpus, asked["evaluate"].gpus]

    assert gpus() == [1, 1]
    assert gpus("executor.train.cpus=0.5", "evaluation.engine.tensor_parallel_size=2") == [1, 0]  # no node has two
    assert gpus("executor.train.gpus=0", "executor.evaluate.gpus=0") == [0, 0]
    for text, taken in (("num_processes: 1", 1), ("num_processes: 2", 0), ("{num_processes: 1, use_cpu: true}", 0)):
        (small.root / "processes.yaml").write_text(text, encoding="utf-8")
        assert gpus("executor.accelerate=processes.yaml")[0] == taken
    seen = ray.remote(lambda: os.environ.get("CUDA_VISIBLE_DEVICES"))
    assert ray.get([seen.options(num_gpus=count).remote() for count in (0, 1)]) == ["", "0"]


def test_a_task_that_waits_for_another_can_be_stopped(small: SmallMatrix, gpu_node: None, tmp_path: Path) -> None:
    """Ray gave a task up that still lives and holds the run; Ctrl-C reaches its successor all the same."""
    from harness.state.lock import output_lock

    plan = _plan(small, tmp_path)
    job = {**plan.train_job(plan.specs[0]), "attempt": 1}
    seat = _executor(plan).seat(job)
    with output_lock(plan.run_dir(plan.specs[0])):
        seat.start(job)
        assert [event["event"] for event in _wait(seat, lambda polled: polled.events).events] == ["waiting"]
        seat.stop()
        assert _wait(seat, lambda polled: polled.ended).ended == Ended(0, "task cancelled")


def _wait(seat: Any, until: Callable[[Any], Any]) -> Any:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        polled = seat.poll()
        if until(polled):
            return polled
        time.sleep(0.1)
    raise AssertionError("it does not come")


class Stored:
    """A run of `small` whose node has a store, and the driver's side of it; no cluster."""

    def __init__(self, small: SmallMatrix, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from harness.state.store import RunStore

        monkeypatch.setenv("RAY_NODE_SCRATCH", str(root / "node"))
        monkeypatch.setattr(artifacts, "RETRY_SECONDS", (0.0, 0.0))
        monkeypatch.setattr(artifacts, "PULL_SECONDS", 0.0)
        self.plan = _plan(small, root / "out")
        self.spec, self.work = self.plan.specs[0], self.plan.output / "work"
        self.store = RunStore(self.plan.run_dir(self.spec))
        self.store.create(self.plan.run_record(self.spec))
        self.job = {**self.plan.train_job(self.spec), "attempt": 1}
        self.artifacts = artifacts.Artifacts(self.plan, f"file://{root / 'store'}")
        self.told = self.work / f"ray-{self.spec.run_id}.events.jsonl"


def test_what_an_earlier_try_told_is_not_told_again(
    small: SmallMatrix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither from the store nor from the node's own folder; and a run that is done is not done again."""
    from harness.executors.ray_stage import train_stage
    from trainers.common.events import EventTail

    run = Stored(small, tmp_path, monkeypatch)
    first = run.artifacts.begin_training(run.job)
    first.fetch(run.job)
    on_node = first.local(str(run.told))
    on_node.parent.mkdir(parents=True)
    on_node.write_text('{"event": "run_failed", "message": "of the first try"}\n')
    first.push(final=True)
    assert first.pull(final=True) and "first try" in run.told.read_text()

    run.told.unlink()
    run.store.mark_stage("train", run.spec.fingerprint, [], 1.0)
    tail, second = EventTail(run.told), run.artifacts.begin_training(run.job)
    assert second.pull() and tail.read() == []
    assert train_stage(run.job, str(run.work), 1, second) == Ended(0)
    assert second.pull(final=True)
    assert [(event["event"], event["run_id"]) for event in tail.read()] == [("run_done", run.spec.run_id)]


def test_inputs_that_a_driver_left_half_uploaded_are_completed(
    small: SmallMatrix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Stored(small, tmp_path, monkeypatch)
    run.artifacts.begin_training(run.job)
    stored = next((tmp_path / "store" / "inputs").glob("*/*/model.safetensors"))
    whole = stored.read_bytes()
    stored.unlink()
    artifacts.Artifacts(run.plan, f"file://{tmp_path / 'store'}").begin_training(run.job)
    assert stored.read_bytes() == whole


def test_a_store_that_fails_for_a_while_costs_nothing(
    small: SmallMatrix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pickle

    from fsspec.implementations.local import LocalFileSystem

    run, failing = Stored(small, tmp_path, monkeypatch), [0]

    def troubled(real: Any) -> Any:
        def call(*arguments: Any, **more: Any) -> Any:
            failing[0] -= 1
            if failing[0] >= 0:
                raise RuntimeError("SlowDown")
            return real(*arguments, **more)

        return call

    for name in ("push", "pull"):
        monkeypatch.setattr(artifacts.Store, name, troubled(getattr(artifacts.Store, name)))
    failing[0] = 2
    remote = run.artifacts.begin_training(run.job)
    failing[0], half, real = 1, iter([False, True]), LocalFileSystem.get_file
    monkeypatch.setattr(
        LocalFileSystem, "get_file", lambda *given, **more: 1 / 0 if next(half, 0) else real(*given, **more)
    )
    model = Path(remote.fetch(run.job)["train_job"]["model_path"])
    assert [path.name for path in sorted(model.iterdir())] == [
        path.name for path in sorted(run.plan.model.path.iterdir())
    ]
    on_node = remote.local(str(run.told))
    on_node.parent.mkdir(parents=True)
    on_node.write_text("{}\n")
    failing[0] = 1
    monkeypatch.setattr(artifacts, "PUSH_SECONDS", 0.0)
    remote.push()
    failing[0] = 2
    remote.push(final=True)
    failing[0] = 3
    assert [remote.pull(), remote.pull(final=True), remote.pull(final=True)] == [False] * 3  # one of them in good time
    assert remote.pull(final=True) and run.told.read_text() == "{}\n"
    failing[0] = 3
    with pytest.raises(artifacts.StoreError, match="artifacts failed 3 times: RuntimeError: SlowDown") as caught:
        remote.push(final=True)
    assert _may_pass(pickle.loads(pickle.dumps(caught.value)))
    failing[0] = 9
    with pytest.raises(artifacts.StoreError):
        [remote.pull(final=True) for _ in range(3)]
