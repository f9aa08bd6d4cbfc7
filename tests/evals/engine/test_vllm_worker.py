"""The worker with the real vLLM engine: killed in the middle, ruined by a policy's weights, and held against transformers.

One job serves both tests: every start of vLLM takes most of a minute.
"""

import importlib.util
import json
import math
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from evals.benchmarks.kl import k1
from evals.engine.base import EngineConfig
from evals.engine.chat import chat_ids
from evals.engine.transformers_engine import TransformersEngine
from evals.supervise import JobResult, run_job
from tests.evals.weights import edited
from trainers.common import message_ids, scores_schema
from trainers.tiny import build_tiny_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]
CONFIG = EngineConfig(backend="transformers", dtype="float32", max_model_len=256)
QUESTIONS = ["What is the capital of France?", "Name three fruits.", "Write a sentence about rain."]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"), hidden_size=128)  # heads of 32, which vLLM serves


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


def scaled(weights: dict[str, Any]) -> None:
    weights["model.layers.1.mlp.down_proj.weight"] *= 3.0


def other_shape(weights: dict[str, Any]) -> None:
    """What leaves vLLM unusable after a failed reload."""
    weights["model.layers.1.mlp.down_proj.weight"] = torch.zeros(10, 10)


@dataclass
class Ran:
    """A job, what became of it, its events, and the process groups of its workers."""

    folder: Path
    result: JobResult
    events: list[dict[str, Any]]
    groups: list[int]


@pytest.fixture(scope="module")
def ran(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Four policies on three benchmarks, one engine killed; `twin` has the weights of the reference."""
    folder = tmp_path_factory.mktemp("job")
    constrained = [
        {"id": f"b{i}", "prompt": f"Count to {i}.", "constraints": [{"kind": "no_commas", "args": {}}]}
        for i in range(150)
    ]
    asked = [{"id": str(i), "prompt": question} for i, question in enumerate(QUESTIONS)]
    pairs = [{"prompt": question, "chosen": "Paris is nice.", "rejected": "No."} for question in QUESTIONS]
    for name, rows in (("constraints", constrained), ("kl", asked), ("preference", pairs)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    weights = {
        "reference": model_dir,
        "bad": edited(model_dir, folder / "bad-model", other_shape),
        "twin": model_dir,
        "tuned": edited(model_dir, folder / "tuned-model", scaled),
    }
    settings = {
        "constraints": {"max_new_tokens": 6, "temperature": 1.0},
        "kl": {"max_new_tokens": 16, "samples": 2, "temperature": 1.0},
        "preference": {"max_new_tokens": 0, "samples": 2},
    }
    job = {
        "schema_version": scores_schema.SCHEMA_VERSION,
        "engine": {"backend": "vllm", "dtype": "float32", "max_model_len": 256, "kv_cache_gib": 1},
        "base_model": str(model_dir),
        "events": str(folder / "events.jsonl"),
        "policies": [
            {"run_id": name, "path": str(path), "fingerprint": name, "out": str(folder / name)}
            for name, path in weights.items()
        ],
        "benchmarks": [
            {"name": kind, "kind": kind, "prompts": str(folder / f"{kind}.jsonl"), "fingerprint": "bench", **more}
            for kind, more in settings.items()
        ],
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

    return Ran(folder, run_job(job, folder / "job.json", kill_once), events, groups)


def test_engine_killed_in_the_middle_and_lost_to_a_bad_policy(ran: Ran) -> None:
    """SIGKILL to vLLM's own process, not the worker: the policy is resumed, and nothing is missing, doubled or left.

    Then a policy whose weights ruin the engine: it fails, and those after it are evaluated.
    """
    result, folder = ran.result, ran.folder
    assert set(result.done) == {"reference", "twin", "tuned"} and list(result.failed) == ["bad"], result.failed
    assert result.failed["bad"]["class"] == "EngineLostError" and "did not load" in str(result.failed["bad"]["message"])
    died = [event["policy"] for event in ran.events if event["event"] == "worker_died"]
    assert died == ["reference", None] and result.engine_starts == 3
    written = {
        name: scores_schema.read_rows(scores_schema.generations_path(folder / name, "constraints"))
        for name in ("reference", "twin")
    }
    for name, rows in written.items():
        assert [row["prompt_id"] for row in rows] == [f"b{i}" for i in range(150)]
        assert scores_schema.is_scored(folder / name, "constraints", scores_schema.cell_fingerprint(name, "bench"))
    texts = [[row["text"] for row in rows] for rows in written.values()]
    assert texts[0] == texts[1], "the same weights and seeds give the same samples, interrupted or not"
    for group in ran.groups:
        assert _processes(group) == {}


def test_kl_and_preference_are_those_of_transformers(ran: Ran, model_dir: Path) -> None:
    folder, engine = ran.folder, TransformersEngine(model_dir, CONFIG)
    tuned, own = (scores_schema.read_scores(folder / name, "kl") for name in ("tuned", "reference"))
    assert tuned is not None and own is not None
    rows = scores_schema.read_rows(scores_schema.generations_path(folder / "tuned", "kl"))
    requests = [(chat_ids(engine.tokenizer, row["prompt"]), row["token_ids"]) for row in rows]
    scored = engine.token_logprobs(requests)
    total = math.fsum(k1(row["logprobs"], theirs) for row, theirs in zip(rows, scored, strict=True))
    assert tuned["metrics"]["kl_k1"]["value"] == pytest.approx(total / len(rows), abs=5e-3)
    assert tuned["metrics"]["kl_k3"]["value"] > 0.05, "the policy has moved"
    if not torch.cuda.is_available():  # on a GPU vLLM leaves no room for two more models
        assert tuned["kl_estimator"] == "exact"
        assert 0.3 < tuned["metrics"]["kl_exact"]["value"] / tuned["metrics"]["kl_k3"]["value"] < 3
    assert abs(own["metrics"]["kl_k1"]["value"]) < 5e-3 and own["metrics"]["kl_k3"]["value"] < 1e-3
    held = scores_schema.read_scores(folder / "tuned", "preference")
    assert held is not None
    for item in held["items"]:
        said = [{"role": "user", "content": item["prompt"]}, {"role": "assistant", "content": "Paris is nice."}]
        context, full = chat_ids(engine.tokenizer, item["prompt"]), message_ids(engine.tokenizer, said, answered=True)
        (theirs,) = engine.token_logprobs([(context, full[len(context) :])])
        assert item["reference_logps"][0] == pytest.approx(sum(theirs), abs=5e-3)
