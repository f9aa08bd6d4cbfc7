"""The worker with the real vLLM engine: killed in the middle, and ruined by a policy's weights."""

import importlib.util
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evals.supervise import run_job
from trainers.common import scores_schema
from trainers.tiny import build_tiny_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"), hidden_size=128)  # heads of 32, which vLLM serves


def edited(base: Path, target: Path, edit: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of the checkpoint with other weights."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(base, target)
    weights = load_file(target / "model.safetensors")
    edit(weights)
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    return target


def _processes(group: int) -> dict[int, str]:
    """Processes of a process group that are not zombies, by id: their command lines."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state, _, pgrp = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(pgrp) == group and state != "Z":
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


def other_shape(weights: dict[str, Any]) -> None:
    """What leaves vLLM unusable after a failed reload."""
    import torch

    weights["model.layers.1.mlp.down_proj.weight"] = torch.zeros(10, 10)


def test_engine_killed_in_the_middle_and_lost_to_a_bad_policy(model_dir: Path, tmp_path: Path) -> None:
    """SIGKILL to vLLM's own process, not the worker: the policy is resumed, and nothing is missing, doubled or left.

    Then a policy whose weights ruin the engine: it fails, and the one after it is evaluated.
    """
    bad = edited(model_dir, tmp_path / "weights", other_shape)
    prompts = tmp_path / "prompts.jsonl"
    rows = [
        {"id": f"b{i}", "prompt": f"Count to {i}.", "constraints": [{"kind": "no_commas", "args": {}}]}
        for i in range(150)
    ]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    benchmark = {"name": "constraints", "kind": "constraints", "prompts": str(prompts), "fingerprint": "bench"}
    job = {
        "schema_version": scores_schema.SCHEMA_VERSION,
        "engine": {"backend": "vllm", "dtype": "float32", "max_model_len": 256, "kv_cache_gib": 1},
        "base_model": str(model_dir),
        "events": str(tmp_path / "events.jsonl"),
        "policies": [
            {"run_id": name, "path": str(path), "fingerprint": name, "out": str(tmp_path / name)}
            for name, path in (("one", model_dir), ("bad", bad), ("two", model_dir))
        ],
        "benchmarks": [{**benchmark, "max_new_tokens": 6, "temperature": 1.0}],
    }
    groups: list[int] = []
    events: list[dict[str, Any]] = []

    def kill_once(event: dict[str, Any]) -> None:
        events.append(event)
        if event["event"] == "started":
            groups.append(event["pid"])
        if event["event"] == "progress" and sum(e["event"] == "progress" for e in events) == 1:
            engines = [pid for pid, command in _processes(groups[0]).items() if "EngineCore" in command]
            assert engines, _processes(groups[0])
            for pid in engines:
                os.kill(pid, signal.SIGKILL)

    result = run_job(job, tmp_path / "job.json", kill_once)
    assert result.done == ["one", "two"] and list(result.failed) == ["bad"], result.failed
    assert result.failed["bad"]["class"] == "EngineLostError" and "did not load" in result.failed["bad"]["message"]
    died = [event["policy"] for event in events if event["event"] == "worker_died"]
    assert died == ["one", None] and result.engine_starts == 3
    for name in ("one", "two"):
        written = scores_schema.read_rows(scores_schema.generations_path(tmp_path / name, "constraints"))
        assert [row["prompt_id"] for row in written] == [f"b{i}" for i in range(150)]
        assert scores_schema.is_scored(tmp_path / name, "constraints", scores_schema.cell_fingerprint(name, "bench"))
    assert [
        row["text"] for row in scores_schema.read_rows(scores_schema.generations_path(tmp_path / "one", "constraints"))
    ] == [
        row["text"] for row in scores_schema.read_rows(scores_schema.generations_path(tmp_path / "two", "constraints"))
    ], "the same weights and seeds give the same samples, interrupted or not"
    for group in groups:
        assert _processes(group) == {}
