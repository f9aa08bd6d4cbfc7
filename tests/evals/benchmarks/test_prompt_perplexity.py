"""Perplexity of prompts and answers under the reference: for every kind with prompts, scored once, and right."""

import json
from pathlib import Path
from typing import Any

import pytest

from evals.engine.chat import chat_ids
from tests.evals.benchmarks.test_benchmark_worker import engine_of, logprob, run, write
from tests.evals.weights import edited
from trainers.common import scores_schema

CONSTRAINTS: list[dict[str, Any]] = [
    {
        "id": f"c{i}",
        "prompt": f"Write about {word}.",
        "constraints": [{"kind": "no_commas", "args": {}}],
        "log_prompt_perplexity": 99.0,
    }
    for i, word in enumerate(["tea", "rain", "maps"])
]
MATHS: list[dict[str, Any]] = [{"question": f"What is {i} plus {i}?", "answer": f"#### {2 * i}"} for i in range(3)]
TURNS: list[dict[str, Any]] = [{"question_id": 1, "turns": ["Say one.", "And two?"]}, {"instruction": "Say three."}]
KINDS = {"constraints": CONSTRAINTS, "gsm8k": MATHS, "prompts": TURNS}


@pytest.fixture(scope="module")
def moved(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with other weights, so that what is measured under the policy differs."""
    path = tmp_path_factory.mktemp("moved") / "model"
    return edited(tiny_model, path, lambda weights: weights.update({name: 1.1 * w for name, w in weights.items()}))


def make_job(root: Path, *policies: tuple[str, Path]) -> dict[str, Any]:
    common = {"fingerprint": "b", "limit": None, "max_new_tokens": 6, "temperature": 0.0, "top_p": 1.0, "samples": 1}
    return {
        "schema_version": 1,
        "engine": {"backend": "transformers", "dtype": "float32", "max_model_len": 256},
        "base_model": str(policies[0][1]),
        "events": str(root / "events.jsonl"),
        "policies": [
            {"run_id": name, "path": str(path), "fingerprint": name, "out": str(root / name)} for name, path in policies
        ],
        "benchmarks": [
            {**common, "name": kind, "kind": kind, "prompts": write(root / f"{kind}.jsonl", rows), "seed": 0}
            for kind, rows in KINDS.items()
        ],
    }


def scores(root: Path, policy: str, benchmark: str) -> dict[str, Any]:
    found = scores_schema.read_scores(root / policy, benchmark)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def world(tiny_model: Path, moved: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("job")
    job = make_job(root, ("reference", tiny_model), ("one", moved), ("two", moved))
    engine, asked = engine_of(job), []
    plain = engine.token_logprobs

    def noted(requests: Any) -> Any:
        asked.extend(requests)
        return plain(requests)

    engine.token_logprobs = noted
    events = run(job, engine)
    assert [event for event in events if event["event"] == "policy_failed"] == []
    return {"root": root, "job": job, "asked": asked, "tokenizer": engine.tokenizer}


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_prompts_of_every_kind_are_scored_under_the_reference(world: dict[str, Any], model: Any, kind: str) -> None:
    by_policy = [scores(world["root"], policy, kind) for policy in ("reference", "one", "two")]
    for found in by_policy:
        assert found["prompt_perplexity_under"] == "reference"
        assert [one["log_prompt_perplexity"] for one in found["items"]] == [
            one["log_prompt_perplexity"] for one in by_policy[0]["items"]
        ]
    for item in by_policy[1]["items"]:
        if "#turn" in item["id"]:
            assert item["log_prompt_perplexity"] is None, "it follows on the policy's own answer"
            continue
        ids = chat_ids(world["tokenizer"], item["prompt"])
        nll = -sum(logprob(model, ids[:1], ids[1:])) / (len(ids) - 1)
        assert item["log_prompt_perplexity"] == pytest.approx(nll, abs=1e-4)


def test_prompts_are_scored_once_for_all_policies(world: dict[str, Any]) -> None:
    prompts = [(tuple(context), tuple(rest)) for context, rest in world["asked"] if len(context) == 1]
    assert len(prompts) == len(set(prompts)) == len(CONSTRAINTS) + len(MATHS) + len(TURNS)


def test_answers_of_prompt_sets_are_scored_under_the_reference(world: dict[str, Any], model: Any) -> None:
    rows = scores_schema.read_rows(scores_schema.generations_path(world["root"] / "one", "prompts"))
    values = {item["id"]: item["values"] for item in scores(world["root"], "one", "prompts")["items"]}
    assert len(rows) == len(values) == 3
    for row in rows:
        said = [*row.get("messages", []), {"role": "user", "content": row["prompt"]}]
        text = world["tokenizer"].apply_chat_template(said, add_generation_prompt=True, tokenize=False)
        context = world["tokenizer"](text, add_special_tokens=False)["input_ids"]
        expected = -sum(logprob(model, context, row["token_ids"])) / len(row["token_ids"])
        own = -sum(row["logprobs"]) / len(row["logprobs"])
        assert values[row["prompt_id"]]["response_log_perplexity_reference"] == pytest.approx(expected, abs=1e-4)
        assert values[row["prompt_id"]]["response_log_perplexity"] == pytest.approx(own)
        assert abs(own - expected) > 1e-3
    same = scores(world["root"], "reference", "prompts")["metrics"]
    assert same["response_log_perplexity"]["value"] == pytest.approx(
        same["response_log_perplexity_reference"]["value"], abs=1e-4
    )


def test_the_reference_may_come_last(world: dict[str, Any], tiny_model: Path, moved: Path, tmp_path: Path) -> None:
    job = make_job(tmp_path, ("one", moved), ("reference", tiny_model))
    run(job, engine_of(job))
    for kind in KINDS:
        assert scores(tmp_path, "one", kind)["items"] == scores(world["root"], "one", kind)["items"]


def test_without_a_reference_rows_keep_what_they_carry(moved: Path, tmp_path: Path) -> None:
    job = make_job(tmp_path, ("one", moved))
    run(job, engine_of(job))
    carried = scores(tmp_path, "one", "constraints")
    assert {item["log_prompt_perplexity"] for item in carried["items"]} == {99.0}
    assert carried["prompt_perplexity_under"] is None
    described = scores(tmp_path, "one", "prompts")
    assert {item["log_prompt_perplexity"] for item in described["items"]} == {None}
    assert described["metrics"]["response_log_perplexity_reference"]["value"] is None


def test_answers_of_an_earlier_version_are_not_kept(moved: Path, tmp_path: Path) -> None:
    job = make_job(tmp_path, ("one", moved))
    job["benchmarks"] = job["benchmarks"][:1]
    engine = engine_of(job)
    run(job, engine)
    path = scores_schema.generations_path(tmp_path / "one", "constraints")
    rows = [{**row, "text": "old", "version": 1} for row in scores_schema.read_rows(path)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    scores_schema.scores_path(tmp_path / "one", "constraints").unlink()
    run(job, engine)
    assert "old" not in {row["text"] for row in scores_schema.read_rows(path)}


def test_the_perplexity_of_answers_can_be_left_out(tiny_model: Path, moved: Path, tmp_path: Path) -> None:
    job = make_job(tmp_path, ("reference", tiny_model), ("one", moved))
    job["benchmarks"] = [{**job["benchmarks"][2], "params": {"reference_perplexity": False}}]
    events = run(job, engine_of(job))
    started = [event["policy"] for event in events if event["event"] == "policy_started"]
    assert started == ["reference", "one"], "no policy is visited twice"
    found = scores(tmp_path, "one", "prompts")
    assert found["metrics"]["response_log_perplexity_reference"]["value"] is None
    assert found["items"][0]["log_prompt_perplexity"] is not None


def test_the_report_takes_the_measured_values(world: dict[str, Any]) -> None:
    from reports.compare.strata import prompt_log_perplexity
    from reports.runs.records import MatrixData, load_run

    root = world["root"]
    runs = tuple(load_run(root / name, name) for name in ("one", "two"))
    matrix = MatrixData(root, runs, load_run(root / "reference", "reference"), {})
    for kind in KINDS:
        known, source = prompt_log_perplexity(matrix, kind)
        assert source == "measured under the reference with this benchmark"
        assert len(known) == len(KINDS[kind]) and 99.0 not in known.values()
