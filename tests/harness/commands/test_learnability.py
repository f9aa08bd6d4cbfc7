"""Learnability: measured by a real run, kept by data and model, and told by run-matrix."""

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.commands.data.learnability import Learnability, Named, Settings, keep, of_data_card, pairs_hash, recall
from harness.commands.data.learnability_run import _sides
from harness.plan.references import data_path, model_hash
from tests.harness.conftest import World, one_error, write_jsonl
from trainers.formats import load_source
from trainers.formats.load import content_id

Cli = Callable[..., subprocess.CompletedProcess[str]]
MATRIX = """
name: learn
model: {name_or_path: "MODEL"}
data: {train: pairs.jsonl, max_train_pairs: 8}
training: {max_steps: 1}
methods: [{name: fixed}]
"""


def learnable(n: int) -> list[dict[str, str]]:
    """The chosen answer holds a token that the rejected one lacks."""
    return [{"prompt": f"Say {i}", "chosen": f"zz {i} zz", "rejected": f"no {i} no"} for i in range(n)]


def contradictory(n: int) -> list[dict[str, str]]:
    """Every pair stands in both orders, so no policy has more than half of them right."""
    one = [{"prompt": f"Say {i}", "chosen": f"zz {i}", "rejected": f"no {i}"} for i in range(n)]
    return one + [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in one]


@pytest.mark.parametrize(("rows", "learned"), [(learnable(200), True), (contradictory(150), False)])
def test_measured_kept_and_told(
    tmp_path: Path, tiny_model: Path, cli: Cli, rows: list[dict[str, str]], learned: bool
) -> None:
    write_jsonl(tmp_path / "pairs.jsonl", rows)
    (tmp_path / "m.yaml").write_text(MATRIX.replace("MODEL", str(tiny_model)), encoding="utf-8")
    matrix = ("run-matrix", tmp_path / "m.yaml", "--output", tmp_path / "out", "--dry-run")
    inspect = ("inspect-data", tmp_path / "pairs.jsonl", "--learnability", "--model", tiny_model)
    before = cli(*matrix)
    assert "learnability: not measured" in before.stdout, before.stderr
    result = cli(*inspect, "--json")
    assert result.returncode == 0, result.stderr
    assert "[1/1] fixed seed 0" in result.stderr
    found = json.loads(result.stdout)["sources"][0]["learnability"]
    assert found["ci_low"] <= found["accuracy"] <= found["ci_high"] and found["n_train"] == 64
    assert found["n_pairs"] + 64 <= len(rows) and found["settings"]["steps"] == found["steps"] == 16
    again = cli(*inspect)
    assert "training" not in again.stderr and f"accuracy {found['accuracy']:.3f}" in again.stdout.replace("\n", " ")
    after = cli(*matrix)
    assert after.returncode == 0, after.stderr
    assert "learnability: held-out reward accuracy" in after.stdout
    if learned:
        assert found["ci_low"] > 0.55 and "warning" not in after.stderr + again.stdout
    else:
        assert found["accuracy"] == 0.5 and found["ci_high"] < 0.55 and "clustered" in found["method"]
        for told in (after.stderr, again.stdout):
            assert "warning: a short DPO run did not learn these preferences" in told


def record(**changes: Any) -> Learnability:
    values = {"accuracy": 0.5, "ci_low": 0.46, "ci_high": 0.54, "method": "t", "n_pairs": 400}
    names = {"data": "d", "data_hash": "d", "heldout": None, "heldout_hash": None, "model": "m", "model_hash": "m"}
    rest = {"n_train": 64, "steps": 16, "settings": Settings(), "measured": "2026-01-01"}
    return Learnability(**{**values, **names, **rest, **changes})


@pytest.mark.parametrize(("ci_high", "warned"), [(0.54, True), (0.57, False)])
def test_the_data_card_is_read_where_nothing_was_measured(world: World, ci_high: float, warned: bool) -> None:
    """The embedded pairs have one: `<name>.build.json` says with which model, and what a short run reached."""
    told = {"accuracy": 0.5, "ci_low": 0.46, "ci_high": ci_high, "pairs": 400}
    card = world.pairs.with_suffix(".build.json")
    for policy, known in ((str(world.model), True), ("another/model", False)):
        card.write_text(json.dumps({"policy": policy, "learnability": told}), encoding="utf-8")
        assert (world.plan().learnability is not None) is known
        assert any("did not learn these preferences" in line for line in world.said) is (warned and known)


@pytest.mark.parametrize("name", ["constraint-pairs", "sentiment"])
def test_the_shipped_pairs_have_one(name: str) -> None:
    from harness.commands.options import DEFAULT_MODEL

    found = of_data_card(data_path(f"embedded:{name}/train", Path(), "test", "train"), DEFAULT_MODEL)
    assert found is not None and found.ci_low < found.accuracy < found.ci_high


def test_found_for_the_whole_source_and_this_model_only(world: World) -> None:
    world.replace("train: pairs.jsonl", "train: pairs.jsonl\n  max_train_pairs: 2")
    every, model = load_source(str(world.pairs)).pairs, model_hash(world.model)
    assert world.plan().learnability is None
    kept = record(data_hash=pairs_hash(every), model_hash=model)
    keep(kept)
    assert world.plan().learnability == recall(every, model) == kept
    assert recall(every[:2], model) is None and recall(every, "other") is None
    keep(replace(kept, ci_high=0.55))  # over the earlier one
    found = recall(every, model)
    assert found is not None and found.warning is None and kept.warning is not None


def test_no_prompt_on_both_sides_and_none_cut(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{i // 2}", "chosen": f"a{i}", "rejected": "b"} for i in range(40)]
    write_jsonl(tmp_path / "p.jsonl", [*rows, {"prompt": "long", "chosen": "a " * 600, "rejected": "b"}])
    write_jsonl(tmp_path / "h.jsonl", [*rows[:4], {"prompt": "new", "chosen": "a", "rejected": "b"}])
    data = Named("p.jsonl", load_source(str(tmp_path / "p.jsonl")).pairs)
    heldout = Named("h.jsonl", load_source(str(tmp_path / "h.jsonl")).pairs)
    for given, sizes in ((None, (20, 20)), (heldout, (36, 5))):
        train, held = _sides(data, given, lambda text: len(text.split()), Settings())
        assert len(train) + len(held) in (39, 40, 41) and abs(len(held) - sizes[1]) <= 2
        assert not {content_id(p.prompt) for p in train} & {content_id(p.prompt) for p in held}
        assert "long" not in {p.prompt[0]["content"] for p in train + held}
        assert len({p.group for p in held}) == len({content_id(p.prompt) for p in held})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--heldout", "p.jsonl"], "only --learnability evaluates"),
        (["--learnability", "--heldout", "none.jsonl"], "no such file"),
        (["--learnability", "--heldout", "p.jsonl"], "no training pair of at most 512 tokens"),
        (["--learnability"], "at least two prompt groups"),
        (["--learnability", "--model", "bare"], "no weights"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Path, here: Cli, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "p.jsonl", learnable(1))
    shutil.copytree(tiny_model, tmp_path / "bare", ignore=shutil.ignore_patterns("*.safetensors"))
    model = [] if "--model" in arguments else ["--model", str(tiny_model)]
    assert words in one_error(here("inspect-data", "p.jsonl", *arguments, *model))


def test_a_run_that_fails_is_said_and_leaves_the_figures(tmp_path: Path, tiny_model: Path, cli: Cli) -> None:
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"].fill_(float("nan"))
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    write_jsonl(tmp_path / "pairs.jsonl", learnable(20))
    result = cli("inspect-data", tmp_path / "pairs.jsonl", "--learnability", "--model", broken)
    assert result.returncode == 1 and "failed: learnability of" in result.stderr, result.stderr
    assert "Traceback" not in result.stderr and "20 pairs" in result.stdout
