"""The matrix files that ship, and the JSON Schema that editors check such files with."""

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from harness.checks.json_schema import schema_text
from harness.checks.static import check_static
from harness.config.source import Source, load
from reports.verdict.claims import measures_kl
from trainers.common.errors import UserError

CONFIGS = Path(__file__).resolve().parents[3] / "harness" / "configs"
READY = sorted([*CONFIGS.glob("*.yaml"), *CONFIGS.glob("study_gpu/*.yaml")])
SCHEMA = CONFIGS / "matrix.schema.json"


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_shipped_schema_is_current() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == schema_text(), (
        f"make it again: python -m harness schema --output {SCHEMA.relative_to(CONFIGS.parents[1])}"
    )


@pytest.mark.parametrize("path", READY, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_ready_config_is_well_formed(path: Path, validator: jsonschema.Draft202012Validator) -> None:
    source = load(path)
    config, runs = check_static(source)
    assert len(runs) >= len(config.methods)
    assert [error.message for error in validator.iter_errors(source.value)] == []
    schema = os.path.relpath(SCHEMA, path.parent)
    assert path.read_text(encoding="utf-8").splitlines()[0] == f"# yaml-language-server: $schema={schema}"


def test_the_claim_study_has_what_a_claim_needs() -> None:
    config, runs = check_static(load(CONFIGS / "claim_study.yaml"))
    assert len(config.seeds) == 5 and len(config.claims) >= 2
    fixed, foodpo = ([run for run in runs if run.method == name] for name in ("fixed", "foodpo"))
    assert len(fixed) == len(foodpo), "the baseline is searched as hard as the method"
    rules = {method.rule for method in config.methods if method.parent == "foodpo"}
    assert rules == {"matched_mean", "permuted", "inverse", "weight_only"}
    assert config.sensitivity is not None and config.sensitivity.flip == 0.3
    assert measures_kl(config.evaluation.model_dump(), "constraints"), "or its claim at equal KL is never judged"


def test_qwen_follows_the_plain_recipe() -> None:
    config, _ = check_static(load(CONFIGS / "qwen2.5_7b_lora.yaml"))
    assert config.lora is not None and config.lora["r"] == 64 and config.lora["target_modules"] == "all-linear"
    training = config.training
    assert (training["learning_rate"], training["num_train_epochs"], training["max_length"]) == (5e-6, 2, 2048)
    assert (training["per_device_train_batch_size"], training["gradient_accumulation_steps"]) == (1, 16)


def _set(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(matrix: dict[str, Any]) -> None:
        place: Any = matrix
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return change


MISTAKES = {
    "a misspelt top key": _set("modle", value={}),
    "a misspelt training field": _set("training", "learning_rat", value=1e-6),
    "a text for a number": _set("training", "learning_rate", value="5e-6"),
    "a field the harness owns": _set("training", "output_dir", value="x"),
    "a misspelt LoRA field": _set("lora", "rank", value=8),
    "an unknown rule": _set("methods", 0, "rule", value="fixd"),
    "a parameter of another rule": _set("methods", 0, "pref_beta_scale", value=0.5),
    "a beta of 0": _set("methods", 0, "pref_beta", value=0),
    "a wrong value in a grid": _set("methods", 1, "grid", value={"pref_beta": ["high"]}),
    "a grid over a key the rule lacks": _set("methods", 1, "grid", value={"beta": [0.1]}),
    "a loss that sorts": _set("methods", 0, "pref_loss", value="aot"),
    "an unknown kind": _set("evaluation", "benchmarks", 0, "kind", value="constraint"),
    "a key its kind does not read": _set("evaluation", "benchmarks", 0, "beta0", value=0.1),
    "a seed that is no number": _set("seeds", value=["one"]),
    "a rule that KTO has not": _set("methods", 2, "objective", value="kto"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_schema_and_loader_refuse_the_same_mistakes(mistake: str, validator: jsonschema.Draft202012Validator) -> None:
    matrix = copy.deepcopy(load(CONFIGS / "demo.yaml").value)
    MISTAKES[mistake](matrix)
    assert not validator.is_valid(matrix)
    with pytest.raises(UserError):
        check_static(Source(CONFIGS / "demo.yaml", matrix, {}))


@pytest.mark.parametrize(
    "method",
    [
        {"name": "mine", "rule": "rules/mine.py:Mine", "anything": 1},
        {"name": "fixed"},
        {"name": "foodpo", "grid": {"pref_beta_scale": [0.1, 1]}},
        {"name": "kto", "rule": "foodpo", "objective": "kto", "pref_loss": "kto"},
        {"name": "scheduled", "rule": "foodpo", "scale_schedule": "linear", "pref_beta_scale_end": 0.1},
    ],
    ids=lambda method: str(method["name"]),
)
def test_schema_takes_what_is_right(method: dict[str, Any], validator: jsonschema.Draft202012Validator) -> None:
    matrix = copy.deepcopy(load(CONFIGS / "demo.yaml").value)
    matrix["methods"].append(method)
    assert [error.message for error in validator.iter_errors(matrix)] == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("\n  dtype: float32", "\n  dtype: float32\n  quantization: {}", "neither load_in_4bit nor load_in_8bit"),
        ("\n  dtype: float32", "\n  dtype: float32\n  adapter_revision: main", "no adapter is named"),
        ("lora: #", "lora_: #", "unknown key lora_"),
        (
            "sentiment\n      prompts: embedded:sentiment/dev",
            "sentiment\n      prompts: embedded:sentiment/def",
            "no such embedded data; did you mean",
        ),
        ("kind: gold_reward", "kind: gold_rewrd", "did you mean 'gold_reward'?"),
        ("primary: sentiment/gold_reward", "primary: sentiment/gold_rewrd", "did you mean 'gold_reward'?"),
    ],
)
def test_check_names_file_line_and_fix(old: str, new: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    text = (CONFIGS / "demo.yaml").read_text(encoding="utf-8")
    assert text.count(old) == 1
    file.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        check_static(load(file))
    assert said in str(caught.value) and str(caught.value).startswith(f"{file}:")


def test_quantised_weights_need_lora(tmp_path: Path) -> None:
    matrix = load(CONFIGS / "demo.yaml").value
    matrix["model"]["quantization"], matrix["lora"] = {"load_in_4bit": True}, None
    with pytest.raises(UserError, match="quantised weights cannot be trained; add lora"):
        check_static(Source(tmp_path / "m.yaml", matrix, {}))


def test_check_and_schema_on_the_command_line(cli: Any, tmp_path: Path) -> None:
    result = cli("run-matrix", CONFIGS / "claim_study.yaml", "--check", "--output", tmp_path / "out")
    assert result.returncode == 0 and "13 methods, 155 runs" in result.stdout
    assert not (tmp_path / "out").exists()
    result = cli("run-matrix", CONFIGS / "demo.yaml", "--check", "--set", "methods[0].pref_beta=-1")
    assert result.returncode == 2 and "pref_beta" in result.stderr
    assert cli("schema", "--output", tmp_path / "s.json").returncode == 0
    assert (tmp_path / "s.json").read_bytes() == SCHEMA.read_bytes()
