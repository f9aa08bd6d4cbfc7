"""A real Ray cluster of several nodes on this machine; a node dies in the middle, and nothing is lost or done twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.compare import differences
from tests.harness.small_matrix import SmallMatrix

ray = pytest.importorskip("ray", reason="the ray extra is not installed")
THREADS = "executor.threads=1"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallMatrix:
    from trainers.tiny import build_tiny_model

    root = tmp_path_factory.mktemp("ray")
    return SmallMatrix(root, build_tiny_model(root / "model"))


@pytest.fixture(scope="module")
def single(small: SmallMatrix) -> dict[str, Any]:
    """What the runs leave when one process trains them one after another."""
    small.train(small.root / "single", THREADS)
    return small.trained(small.root / "single")


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
    steps = small.root / "steps.log"
    steps.unlink()

    killer = threading.Thread(target=_kill_the_node_that_trains, args=(cluster, steps))
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
    assert all("train" in status["stages"] and status["error"] is None for status in small.statuses(output))
    assert differences(single, small.trained(output)) == []
    # nothing twice: beside the steps of an undisturbed matrix, only the one that was cut off
    assert len(steps.read_text().splitlines()) <= 2 * 4 + 2


@pytest.mark.timeout(600)
def test_nodes_without_a_shared_file_system(small: SmallMatrix, single: Any, tmp_path: Path) -> None:
    """A node works in a scratch folder of its own; everything goes by way of an fsspec store."""
    output = small.root / "apart"
    ray.shutdown()
    try:
        small.train(output, "executor.kind=ray", f"executor.artifacts=file://{tmp_path / 'store'}", THREADS)
    finally:
        ray.shutdown()
    assert differences(single, small.trained(output)) == []
    assert any((tmp_path / "store" / "inputs").rglob("model.safetensors"))


def test_asking_for_what_no_node_has_is_refused(small: SmallMatrix, cluster: Any) -> None:
    from harness.errors import UserError

    with pytest.raises(UserError) as caught:
        small.train(
            small.root / "no", "executor.kind=ray", f"executor.address={cluster.address}", "executor.train.gpus=8"
        )
    assert "executor.train asks for 1 CPU, 8 GPU" in str(caught.value)
