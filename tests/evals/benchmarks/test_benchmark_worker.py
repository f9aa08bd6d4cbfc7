"""Preference, KL, multi-turn and noise through the worker, on a tiny model and a policy beside it."""

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from evals.benchmarks.base import BenchmarkError
from evals.engine.chat import chat_ids
from evals.job import Job
from evals.supervise import run_job
from evals.worker import Cells, Served, run_policies
from tests.evals.weights import nudged
from trainers.common import Events, scores_schema

PAIRS = [
    {
        "id": f"h{i}",
        "prompt": f"Question number {i}" + " please" * i,
        "chosen": "Yes, " + "of course " * (i % 3) + "it is.",
        "rejected": "No" + ", not at all" * (i % 2) + ".",
        "group": f"g{i // 2}",
        "subset": "chat" if i < 3 else "math",
    }
    for i in range(8)
]
PROMPTS = [{"id": f"k{i}", "prompt": f"Tell me about {word}."} for i, word in enumerate(["tea", "rain", "maps"])]
TURNS = [{"question_id": 1, "turns": ["Say one.", "And two?"]}, {"instruction": "Say three."}]


@pytest.fixture(scope="module")
def tuned(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nudged(tiny_model, tmp_path_factory.mktemp("tuned") / "model", 0.02, 5)


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def make_job(root: Path, reference: Path, tuned: Path) -> dict[str, Any]:
    common = {"fingerprint": "b", "limit": None, "temperature": 0.0, "top_p": 1.0, "seed": 0}
    pairs, prompts = write(root / "pairs.jsonl", PAIRS), write(root / "prompts.jsonl", PROMPTS)
    turns = write(root / "turns.jsonl", TURNS)
    return {
        "schema_version": 1,
        "engine": {"backend": "transformers", "dtype": "float32", "max_model_len": 512},
        "base_model": str(reference),
        "events": str(root / "events.jsonl"),
        "policies": [
            {"run_id": name, "path": str(path), "fingerprint": name, "out": str(root / name)}
            for name, path in (("reference", reference), ("tuned", tuned))
        ],
        "benchmarks": [
            {**common, "name": "held", "kind": "preference", "prompts": pairs, "max_new_tokens": 0, "samples": 2}
            | {"params": {"beta0": 0.2, "quantiles": 2}, "noise": True},
            {**common, "name": "kl", "kind": "kl", "prompts": prompts, "max_new_tokens": 12, "samples": 3}
            | {"temperature": 1.0, "noise": True, "params": {"reward": "length"}},
            {**common, "name": "chat", "kind": "prompts", "prompts": turns, "max_new_tokens": 8, "samples": 2}
            | {"temperature": 1.0, "noise": True},
        ],
    }


def engine_of(job: dict[str, Any]) -> Any:
    from evals.engine.base import EngineConfig
    from evals.engine.transformers_engine import TransformersEngine

    return TransformersEngine(Path(job["base_model"]), EngineConfig(**job["engine"]))


def run(job: dict[str, Any], engine: Any) -> list[dict[str, Any]]:
    given = Job.model_validate(job)
    given.events.unlink(missing_ok=True)
    run_policies(given, given.policies, Cells(engine, Events(given.events), given.reference), Served(engine, "float32"))
    return [json.loads(line) for line in Path(job["events"]).read_text().splitlines()]


@pytest.fixture(scope="module")
def world(tiny_model: Path, tuned: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("job")
    job = make_job(root, tiny_model, tuned)
    events = run(job, engine_of(job))
    assert [event for event in events if event["event"] == "policy_failed"] == []
    scores = {
        (policy["run_id"], entry["name"]): scores_schema.read_scores(Path(policy["out"]), entry["name"])
        for policy in job["policies"]
        for entry in job["benchmarks"]
    }
    return {"root": root, "job": job, "events": events, "scores": scores}


def logprob(model: Any, context: list[int], continuation: list[int]) -> list[float]:
    """Log-prob of each token of the continuation by one unbatched forward pass."""
    with torch.inference_mode():
        logits = model(torch.tensor([[*context, *continuation]])).logits[0].log_softmax(-1)
    start = len(context) - 1
    return [float(logits[start + k, token]) for k, token in enumerate(continuation)]


def test_preference_equals_a_plain_forward_pass(world: dict[str, Any], tiny_model: Path, tuned: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    models = [AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32) for path in (tuned, tiny_model)]
    items = {item["id"]: item for item in world["scores"]["tuned", "held"]["items"]}
    for pair in PAIRS:
        user = {"role": "user", "content": pair["prompt"]}
        prompt = tokenizer.apply_chat_template([user], add_generation_prompt=True, tokenize=False)
        head = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        rewards = []
        for side in ("chosen", "rejected"):
            answer = {"role": "assistant", "content": pair[side]}
            text = tokenizer.apply_chat_template([user, answer], tokenize=False)
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert ids[: len(head)] == head
            ours, theirs = (sum(logprob(model, head, ids[len(head) :])) for model in models)
            rewards.append(0.2 * (ours - theirs))
        values = items[pair["id"]]["values"]
        assert values["chosen_reward"] == pytest.approx(rewards[0], abs=1e-3)
        assert values["margin"] == pytest.approx(rewards[0] - rewards[1], abs=1e-3)
        assert values["loss_at_beta0"] == pytest.approx(math.log1p(math.exp(-values["margin"])))
        assert values["accuracy"] == float(values["margin"] > 0)
        assert values["displacement"] == float(values["chosen_reward"] < 0)
        nll = -sum(logprob(models[1], head[:1], head[1:])) / (len(head) - 1)
        assert items[pair["id"]]["log_prompt_perplexity"] == pytest.approx(nll, abs=1e-4)


def test_preference_metrics_and_groups(world: dict[str, Any]) -> None:
    ours, reference = world["scores"]["tuned", "held"], world["scores"]["reference", "held"]
    assert ours["primary_metric"] == "accuracy" and ours["metrics"]["margin"]["stderr"] > 0
    assert ours["metrics"]["loss_at_beta0"]["higher_is_better"] is False
    assert reference["metrics"]["accuracy"]["value"] == 0.5 and reference["metrics"]["margin"]["value"] == 0
    assert reference["metrics"]["loss_at_beta0"]["value"] == pytest.approx(math.log(2))
    for groups in ("by_prompt_perplexity", "by_answer_tokens", "by_longer_answer"):
        assert sum(entry["n"] for entry in ours[groups]) == len(PAIRS), groups
        weighted = sum(entry["n"] * entry["metrics"]["margin"]["value"] for entry in ours[groups])
        assert weighted / len(PAIRS) == pytest.approx(ours["metrics"]["margin"]["value"])
    right = {pair["id"]: ours_of["values"]["accuracy"] for pair, ours_of in zip(PAIRS, ours["items"], strict=True)}
    for subset, ids in {"chat": ["h0", "h1", "h2"], "math": ["h3", "h4", "h5", "h6", "h7"]}.items():
        found = ours["metrics"][f"accuracy:{subset}"]
        assert found["n"] == len(ids) and found["value"] == pytest.approx(sum(right[i] for i in ids) / len(ids))


def test_kl_is_measured_on_the_policys_own_samples(world: dict[str, Any], tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    scores = world["scores"]["tuned", "kl"]
    rows = scores_schema.read_rows(scores_schema.generations_path(world["root"] / "tuned", "kl"))
    assert len(rows) == 9 and {row["sampling"]["temperature"] for row in rows} == {1.0}
    for item in scores["items"]:
        expected: list[tuple[float, float]] = []
        perplexities: list[float] = []
        for row in sorted((r for r in rows if r["prompt_id"] == item["id"]), key=lambda r: r["sample"]):
            reference = logprob(model, chat_ids(tokenizer, row["prompt"]), row["token_ids"])
            gaps = [p - r for p, r in zip(row["logprobs"], reference, strict=True)]
            expected.append((sum(gaps), sum(math.exp(-d) - 1 + d for d in gaps)))
            perplexities.append(-sum(reference) / len(reference))
        assert item["samples"]["kl_k1"] == pytest.approx([one for one, _ in expected], abs=1e-3)
        assert item["samples"]["kl_k3"] == pytest.approx([three for _, three in expected], abs=1e-3)
        assert item["values"]["kl_k3"] == pytest.approx(sum(item["samples"]["kl_k3"]) / 3)
        assert item["values"]["response_log_perplexity_reference"] == pytest.approx(sum(perplexities) / 3, abs=1e-4)
        asked = chat_ids(tokenizer, row["prompt"])
        nll = -sum(logprob(model, asked[:1], asked[1:])) / (len(asked) - 1)
        assert item["log_prompt_perplexity"] == pytest.approx(nll, abs=1e-4)
        words = [len(row["text"].split()) for row in rows if row["prompt_id"] == item["id"]]
        assert item["values"]["response_words"] == pytest.approx(np.mean(words), abs=2)
        assert item["values"]["gold_reward"] is not None
    assert (scores["kl_estimator"], scores["primary_metric"]) == ("exact", "gold_reward")
    assert scores["metrics"]["kl_k3"]["value"] > 0.01 and scores["metrics"]["kl_k3"]["higher_is_better"] is None
    own = world["scores"]["reference", "kl"]["metrics"]
    assert abs(own["kl_k1"]["value"]) < 1e-3 and abs(own["kl_k3"]["value"]) < 1e-3


def test_the_exact_kl_is_that_of_whole_distributions(world: dict[str, Any], tiny_model: Path, tuned: Path) -> None:
    """One unbatched pass of each model an answer; and no lower than zero at any token."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    models = [AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32) for path in (tuned, tiny_model)]
    rows = scores_schema.read_rows(scores_schema.generations_path(world["root"] / "tuned", "kl"))
    kept = scores_schema.read_rows(scores_schema.logprobs_path(world["root"] / "tuned", "kl"))
    by_token = {row["id"]: row["kl"] for row in kept if row["id"].startswith("exact/")}
    for item in world["scores"]["tuned", "kl"]["items"]:
        for row in (r for r in rows if r["prompt_id"] == item["id"]):
            head = chat_ids(tokenizer, row["prompt"])
            with torch.inference_mode():
                ours, theirs = (
                    m(torch.tensor([[*head, *row["token_ids"]]])).logits[0].double().log_softmax(-1) for m in models
                )
            whole = (ours.exp() * (ours - theirs)).sum(-1)[len(head) - 1 : -1]
            assert by_token[f"exact/{row['prompt_id']}/{row['sample']}"] == pytest.approx(whole.tolist(), abs=1e-5)
            assert item["samples"]["kl_exact"][row["sample"]] == pytest.approx(float(whole.sum()), abs=1e-4)
    assert "kl_exact" not in world["scores"]["reference", "kl"]["metrics"]


def test_where_an_engine_has_log_probs_alone_k3_is_what_counts(tiny_model: Path, tuned: Path, tmp_path: Path) -> None:
    job = make_job(tmp_path, tiny_model, tuned)
    job["benchmarks"] = [
        entry | {"noise": False, "params": None} for entry in job["benchmarks"] if entry["name"] == "kl"
    ]
    engine = engine_of(job)
    engine.token_kl = lambda *_: None  # as evals.engine.replicas and vLLM on a GPU
    run(job, engine)
    scores = scores_schema.read_scores(tmp_path / "tuned", "kl")
    assert scores is not None and scores["kl_estimator"] == "k3" and "kl_exact" not in scores["metrics"]
    assert all("kl_exact" not in item["values"] for item in scores["items"])


def test_the_reference_is_loaded_once_more_and_finishes_last(world: dict[str, Any]) -> None:
    order = [(e["event"], e["policy"]) for e in world["events"] if e["event"].startswith("policy_")]
    assert order == [
        ("policy_started", "reference"), ("policy_done", "reference"),
        ("policy_started", "tuned"), ("policy_started", "tuned"), ("policy_done", "tuned"),
    ]  # fmt: skip
    done = [e["benchmark"] for e in world["events"] if e["event"] == "benchmark_done" and e["policy"] == "tuned"]
    assert done == ["held", "kl", "chat"], (
        "the reference's log-probs of the pairs are on disk, those of the samples not"
    )


def test_a_later_turn_sees_the_answer_to_the_first(world: dict[str, Any]) -> None:
    rows = scores_schema.read_rows(scores_schema.generations_path(world["root"] / "tuned", "chat"))
    by_key = {(row["prompt_id"], row["sample"]): row for row in rows}
    assert sorted(by_key) == [(name, k) for name in ("1", "1#turn2", "row-2") for k in (0, 1)]
    for sample in (0, 1):
        first, second = by_key["1", sample], by_key["1#turn2", sample]
        assert second["prompt"] == "And two?"
        assert [m["content"] for m in second["messages"]] == ["Say one.", first["text"]]
    assert world["scores"]["tuned", "chat"]["metrics"]["response_tokens"]["n"] == 3


def test_the_report_reads_every_kind(world: dict[str, Any]) -> None:
    from reports.runs.records import load_scores

    for run_id in ("reference", "tuned"):
        for entry in world["job"]["benchmarks"]:
            scores = load_scores(scores_schema.scores_path(world["root"] / run_id, entry["name"]))
            assert scores.kind == entry["kind"] and scores.primary_metric in scores.metrics
            assert all(set(item.values) == set(scores.metrics) for item in scores.items)
            assert all("higher_is_better" in metric for metric in scores.metrics.values())


def test_noise_is_measured_on_the_reference_alone(world: dict[str, Any]) -> None:
    scores = world["scores"]
    assert scores["tuned", "chat"]["noise"] is None
    noise = scores["reference", "kl"]["noise"]["metrics"]
    assert noise["response_log_perplexity"]["changed"] == 1.0, "other seeds sample other answers"
    held = scores["reference", "held"]["noise"]["metrics"]
    assert abs(held["margin"]["difference"]) < 1e-3 and held["margin"]["item_difference"]["n"] == len(PAIRS)


def test_scores_can_be_made_again_without_the_engine(world: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    job, root = world["job"], world["root"]
    files = sorted(root.glob("*/scores/*.json"))
    before = {path: path.read_text() for path in files}
    for path in files:
        path.unlink()
    engine = engine_of(job)

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("everything is on disk")

    monkeypatch.setattr(engine, "generate", never)
    monkeypatch.setattr(engine, "token_logprobs", never)
    monkeypatch.setattr(Served, "swap", lambda served, policy: None)  # its check asks the engine for log-probs
    events = run(job, engine)
    assert [event for event in events if event["event"] == "policy_failed"] == []
    assert {path: path.read_text() for path in files} == before


def test_the_order_of_policies_does_not_matter(
    world: dict[str, Any], tiny_model: Path, tuned: Path, tmp_path: Path
) -> None:
    job = make_job(tmp_path, tiny_model, tuned)
    job["policies"].reverse()
    run(job, engine_of(job))
    for name in ("held", "kl", "chat"):
        assert scores_schema.read_scores(tmp_path / "tuned", name) == world["scores"]["tuned", name]


def test_without_a_reference_the_policy_fails_and_says_why(tiny_model: Path, tuned: Path, tmp_path: Path) -> None:
    job = make_job(tmp_path, tiny_model, tuned)
    job["policies"] = job["policies"][1:]
    events = run(job, engine_of(job))
    failed = [event for event in events if event["event"] == "policy_failed"]
    assert [event["error"] for event in failed] == [BenchmarkError.__name__]
    assert "compares with the reference, and the job lists no reference" in failed[0]["message"]


def test_prompts_that_do_not_fit_are_refused_with_the_fix(tiny_model: Path, tuned: Path, tmp_path: Path) -> None:
    job = make_job(tmp_path, tiny_model, tuned)
    job["engine"]["max_model_len"] = 40
    events = run(job, engine_of(job))
    messages = [event["message"] for event in events if event["event"] == "policy_failed"]
    assert "h0/chosen has" in messages[0] and "max_model_len" in messages[0]


@pytest.mark.slow
def test_killed_while_scoring_under_the_reference(tiny_model: Path, tuned: Path, tmp_path: Path) -> None:
    job = make_job(tmp_path, tiny_model, tuned)
    seen: dict[str, Any] = {"starts": 0, "pid": None, "killed": False}

    def kill_in_second_pass(event: dict[str, Any]) -> None:
        if event["event"] == "started":
            seen["pid"] = event["pid"]
        if event["event"] == "policy_started" and event["policy"] == "tuned":
            seen["starts"] += 1
            if seen["starts"] == 2:
                seen["killed"] = True
                os.kill(seen["pid"], signal.SIGKILL)

    result = run_job(job, tmp_path / "job.json", kill_in_second_pass)
    assert seen["killed"] and result.failed == {} and result.done == ["reference", "tuned"]
    scores = scores_schema.read_scores(tmp_path / "tuned", "kl")
    assert scores is not None and len(scores["items"]) == len(PROMPTS)
    rows = scores_schema.read_rows(scores_schema.generations_path(tmp_path / "tuned", "kl"))
    assert len({(row["prompt_id"], row["sample"]) for row in rows}) == len(rows) == 9
