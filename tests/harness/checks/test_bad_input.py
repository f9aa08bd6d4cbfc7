"""Every mistake is one line with the file, the line, the key, the value and the fix, before anything is written."""

import json
from typing import Any

import pytest

from harness.prepare import freeze


def test_the_unbroken_matrix_passes_and_writes_nothing(world: Any) -> None:
    plan = world.plan()
    assert [(spec.method, spec.seed) for spec in plan.specs] == [
        ("fixed", 0), ("foodpo", 0), ("fixed", 1), ("foodpo", 1),
    ]  # fmt: skip
    assert plan.config.training["learning_rate"] == 5e-6
    assert not world.output.exists()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("seeds: [0, 1]", "seed: [0, 1]", ["unknown key seed", "[0, 1]", "did you mean 'seeds'?"]),
        ("  train: pairs", "  trian: pairs", ["unknown key data.trian", "did you mean 'train'?"]),
        ("prompts: prompts.jsonl", "prompts: prompts.jsonl\n      limt: 3", ["limt", "did you mean 'limit'?"]),
        ("seeds: [0, 1]", "seeds: ['0']", ["seeds[0]", "'0'", "a whole number"]),
        ("seeds: [0, 1]", "seeds: [0, 0]", ["seeds are [0, 0]", "each seed once"]),
        ("seeds: [0, 1]", "seeds: [true]", ["seeds[0]", "True", "a whole number"]),
        ("name: small", "name: 'a/b'", ["name is 'a/b'", "letters, digits"]),
        ("pref_beta: 0.1", "pref_beta: '0.1'", ["pref_beta", "'0.1'", "a number above 0"]),
        ("pref_beta: 0.1", "pref_beta: -1", ["pref_beta", "-1", "a number above 0"]),
        ("pref_beta: 0.1", "pref_bta: 0.1", ["pref_bta", "did you mean 'pref_beta'?"]),
        ("pref_beta: 0.1", "grid: {pref_beta: []}", ["grid of pref_beta is empty", "at least one value"]),
        ("pref_beta: 0.1", "grid: {pref_beta: [1, 1.0]}", ["same run"]),
        ("- name: fixed", "- name: fixed\n    rule: none.py:Mine", ["none.py", "no such file"]),
        ("learning_rate: 5e-6", "learning_rate: .nan", ["training.learning_rate", "nan"]),
        ("learning_rate: 5e-6", "learning_rate: .inf", ["training.learning_rate", "inf"]),
        ("seeds: [0, 1]", "seeds: [-1]", ["seeds[0]", "-1"]),
        ("primary: constraints/gold_reward", "primary: constraints/gold_rewrd", ["report.primary", "gold_rewrd"]),
        ("name: foodpo", "name: fixed\n    rule: foodpo", ["duplicate method name 'fixed'", "must be unique"]),
        ("- name: foodpo", "- name: again\n    rule: fodpo", ["unknown rule 'fodpo'", "did you mean 'foodpo'?"]),
        ("max_length: 256", "max_lenght: 256", ["training.max_lenght", "256", "did you mean 'max_length'?"]),
        ("max_length: 256", "max_length: '256'", ["training.max_length", "'256'", "int"]),
        ("max_length: 256", "max_length: 256\n  beta: 0.1", ["training.beta", "pref_beta"]),
        ("max_length: 256", "max_length: 256\n  seed: 1", ["training.seed", "seeds: [...]"]),
        ("max_length: 256", "max_length: 256\n  output_dir: x", ["training.output_dir", "--output"]),
        ("seeds:", "lora: {rank: 8}\nseeds:", ["lora.rank", "8", "peft.LoraConfig"]),
        ("train: pairs.jsonl", "train: none.jsonl", ["data.train", "'none.jsonl'", "no such file"]),
        ("train: pairs.jsonl", "train: embedded:constraint-pairs/trian", ["no such embedded data", "train"]),
        ("baseline: fixed", "baseline: fixd", ["report.baseline", "'fixd'", "did you mean 'fixed'?"]),
        ("primary: constraints/", "primary: constrains/", ["report.primary", "did you mean 'constraints'?"]),
        ("- name: constraints", "- name: c\n      temperature: hot", ["temperature", "'hot'", "a number"]),
    ],
)
def test_mistakes_in_the_matrix_file(world: Any, old: str, new: str, words: list[str]) -> None:
    line = world.replace(old, new)
    message = world.error()
    # a misspelt required key is also a missing one, in a line of its own
    first = next(line for line in message.splitlines() if "is missing" not in line)
    assert first.startswith(f"{world.config}:")
    reported = int(first.removeprefix(f"{world.config}:").split(":")[0])
    assert abs(reported - line) <= 1 + new.count("\n"), first
    assert all(word in first for word in words) and not world.output.exists(), first


def test_every_mistake_of_shape_is_listed(world: Any) -> None:
    world.replace("seeds: [0, 1]", "seed: 3")
    world.replace("  baseline: fixed", "  basline: fixed")
    assert len(world.error().splitlines()) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: a\nname: b\n", [":2:", "'name'", "line 1", "keep one"]),
        ("name: [a\n", ["not valid YAML"]),
        ("- a\n", [":1:", "mapping"]),
        ("", [":1:", "mapping"]),
        ("name: a\nmodel: {name_or_path: x, name_or_path: y}\n", [":2:", "'name_or_path'"]),
        ("name: !!python/object:os.system x\n", ["not valid YAML"]),
    ],
)
def test_files_that_are_no_matrix(world: Any, text: str, words: list[str]) -> None:
    world.write(text)
    world.refuses(*words, at=str(world.config))


@pytest.mark.parametrize(("what", "word"), [("config", "no such file"), ("model", "no such directory")])
def test_what_is_not_there(world: Any, what: str, word: str) -> None:
    getattr(world, what).rename(world.root / "elsewhere")
    world.refuses(word, str(getattr(world, what)))


@pytest.mark.parametrize(
    ("line", "text", "words"),
    [
        (2, '{"prompt": "a", "chosen": ', ["not valid JSON"]),
        (2, '{"prompt": "a", "chosen": "b"}', ["missing rejected"]),
        (3, '{"prompt": "a", "chosen": "b", "rejected": "b"}', ["identical", "remove the row"]),
        (1, '{"prompt": "", "chosen": "b", "rejected": "c"}', ["'prompt' is empty"]),
        (4, '{"id": "p0", "prompt": "a", "chosen": "b", "rejected": "c"}', ["'p0'", "line 1"]),
        (2, "[1]", ["expected a JSON object"]),
        (None, "", []),
    ],
)
def test_bad_rows_are_named_by_file_and_line(world: Any, line: int | None, text: str, words: list[str]) -> None:
    rows = world.pairs.read_text().splitlines() if line else []
    rows[(line or 1) - 1 : line] = [text]
    world.pairs.write_text("\n".join(rows) + "\n")
    world.refuses(*words, at=f"{world.pairs}:{line}: " if line else str(world.pairs))


def test_the_same_run_under_two_names_and_twice_in_a_grid(world: Any) -> None:
    world.replace("- name: foodpo\n    pref_beta_scale: 0.5", "- name: copy\n    rule: fixed\n    pref_beta: 0.1")
    world.refuses("copy seed 0 is the same run as fixed seed 0", "remove one")
    world.write(
        world.text.replace("- name: fixed\n    pref_beta: 0.1", "- name: fixed\n    grid: {pref_beta: [0.1, 0.1]}")
    )
    world.refuses("same run")


@pytest.mark.parametrize(
    ("missing", "word"),
    [("model.safetensors", "no weights"), ("tokenizer*", "no tokenizer"), ("config.json", "no config.json")],
)
def test_incomplete_model_directories(world: Any, missing: str, word: str) -> None:
    for file in world.model.glob(missing):
        file.unlink()
    world.refuses(word, str(world.model), at=f"{world.config}:3: ")


def test_an_output_that_is_a_file_or_has_foreign_files(world: Any) -> None:
    world.output.write_text("x")
    world.refuses("is a file")
    world.output.unlink()
    world.output.mkdir()
    (world.output / "thesis.tex").write_text("x")
    world.refuses("not empty")


def test_freezing_again_changes_nothing(world: Any) -> None:
    freeze(world.plan())
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in world.output.iterdir()}
    freeze(world.plan())
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in world.output.iterdir()} == before
    assert json.loads((world.output / "matrix.json").read_text())["runs"] == [s.run_id for s in world.plan().specs]
