"""KL and preference by the real vLLM engine in its worker, held against transformers."""

import importlib.util
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from evals.engine.base import EngineConfig
from evals.supervise import run_job
from trainers.common import scores_schema
from trainers.tiny import build_tiny_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]
QUESTIONS = ["What is the capital of France?", "Name three fruits.", "Write a sentence about rain."]


def test_kl_and_preference_by_vllm(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    from evals.engine.transformers_engine import TransformersEngine

    base = build_tiny_model(tmp_path / "base", hidden_size=128)  # heads of 32, which vLLM serves
    tuned = tmp_path / "tuned-model"
    shutil.copytree(base, tuned)
    weights = load_file(tuned / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"] *= 1.5
    save_file(weights, tuned / "model.safetensors", {"format": "pt"})
    prompts, pairs = tmp_path / "prompts.jsonl", tmp_path / "pairs.jsonl"
    prompts.write_text("".join(json.dumps({"id": str(i), "prompt": q}) + "\n" for i, q in enumerate(QUESTIONS)))
    pairs.write_text(
        "".join(json.dumps({"prompt": q, "chosen": "Paris is nice.", "rejected": "No."}) + "\n" for q in QUESTIONS)
    )
    common = {"fingerprint": "b", "limit": None, "top_p": 1.0, "seed": 0}
    job: dict[str, Any] = {
        "schema_version": 1,
        "engine": {"backend": "vllm", "dtype": "float32", "max_model_len": 256, "kv_cache_gib": 1},
        "base_model": str(base),
        "events": str(tmp_path / "events.jsonl"),
        "policies": [
            {"run_id": name, "path": str(path), "fingerprint": name, "out": str(tmp_path / name)}
            for name, path in (("reference", base), ("tuned", tuned))
        ],
        "benchmarks": [
            {**common, "name": "kl", "kind": "kl", "prompts": str(prompts), "max_new_tokens": 16, "samples": 2}
            | {"temperature": 1.0},
            {**common, "name": "held", "kind": "preference", "prompts": str(pairs), "max_new_tokens": 0, "samples": 2},
        ],
    }
    result = run_job(job, tmp_path / "job.json", lambda _: None)
    assert result.failed == {} and result.done == ["reference", "tuned"]

    engine = TransformersEngine(base, EngineConfig(**{**job["engine"], "backend": "transformers"}))
    scores = scores_schema.read_scores(tmp_path / "tuned", "kl")
    own = scores_schema.read_scores(tmp_path / "reference", "kl")
    assert scores is not None and own is not None
    rows = scores_schema.read_rows(scores_schema.generations_path(tmp_path / "tuned", "kl"))
    from evals.engine.chat import chat_ids

    requests = [(chat_ids(engine.tokenizer, row["prompt"]), row["token_ids"]) for row in rows]
    total = 0.0
    for row, theirs in zip(rows, engine.token_logprobs(requests), strict=True):
        total += math.fsum(p - r for p, r in zip(row["logprobs"], theirs, strict=True))
    assert scores["metrics"]["kl_k1"]["value"] == pytest.approx(total / len(rows), abs=5e-3)
    assert scores["metrics"]["kl_k3"]["value"] > 0.05, "the policy has moved"
    if not torch.cuda.is_available():  # on a GPU vLLM leaves no room for two more models
        assert scores["kl_estimator"] == "exact"
        assert 0.3 < scores["metrics"]["kl_exact"]["value"] / scores["metrics"]["kl_k3"]["value"] < 3
    assert abs(own["metrics"]["kl_k1"]["value"]) < 5e-3 and own["metrics"]["kl_k3"]["value"] < 1e-3
    held = scores_schema.read_scores(tmp_path / "tuned", "held")
    assert held is not None
    for item in held["items"]:
        ids = engine.tokenizer.apply_chat_template(
            [{"role": "user", "content": item["prompt"]}, {"role": "assistant", "content": "Paris is nice."}],
            tokenize=False,
        )
        full = engine.tokenizer(ids, add_special_tokens=False)["input_ids"]
        context = chat_ids(engine.tokenizer, item["prompt"])
        (theirs,) = engine.token_logprobs([(context, full[len(context) :])])
        assert item["reference_logps"][0] == pytest.approx(sum(theirs), abs=5e-3)
