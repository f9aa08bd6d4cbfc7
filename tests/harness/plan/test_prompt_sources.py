"""Prompts of a benchmark from the hub or a folder, and held-out pairs in whatever format they come."""

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

BENCHMARK = "      prompts: prompts.jsonl\n"


@pytest.fixture
def repository(world: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set laid out as the hub lays it out, in a folder."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", world.root / "cache")
    folder: Path = world.root / "sets"
    (folder / "data").mkdir(parents=True)
    rows = [{"instruction": f"第{i}题: what is {i}?", "dataset": "helpful_base"} for i in range(5)]
    for split, part in (("eval", rows), ("train", rows[:1])):
        pq.write_table(pa.Table.from_pylist(part), folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


def add(world: Any, *lines: str) -> int:
    text = "".join(f"      {line}\n" if i else f"    - {line}\n" for i, line in enumerate(lines))
    return int(world.replace(BENCHMARK, BENCHMARK + text)) + 1


def entry(world: Any, name: str) -> dict[str, Any]:
    return next(one.model_dump(mode="json", exclude_unset=True) for one in world.plan().benchmarks if one.name == name)


def rows_of(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(found["prompts"]).read_text(encoding="utf-8").splitlines()]


def test_a_folder_and_a_data_set_of_the_hub_are_the_same_prompts(
    world: Any, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    load = datasets.load_dataset

    def from_folder(path: str, revision: str | None = None, **more: Any) -> Any:
        asked.append((path, revision, more["split"]))
        return load(str(repository) if path == "tatsu-lab/alpaca_eval" else path, **more)

    add(world, "name: folder", "kind: prompts", "prompts: sets#eval", "limit: 3")
    folder = entry(world, "folder")
    monkeypatch.setattr(datasets, "load_dataset", from_folder)
    world.replace("prompts: sets#eval", "prompts: hub:tatsu-lab/alpaca_eval@v1#eval")
    hub = entry(world, "folder")
    assert asked == [("tatsu-lab/alpaca_eval", "v1", "eval")]
    assert rows_of(hub) == rows_of(folder) and [row["instruction"] for row in rows_of(hub)][2] == "第2题: what is 2?"
    assert len(rows_of(hub)) == 3 and hub["prompts"] == folder["prompts"], "kept by content"
    assert not world.output.exists()


@pytest.mark.parametrize(
    ("prompts", "words"),
    [
        ("hub:no-such-org/no-such-set", ["hub:no-such-org/no-such-set#train", "not in the local cache"]),
        ("hub:name", ["write hub:OWNER/NAME"]),
        ("sets#validation", ["#validation", "cannot be loaded"]),
        ("nowhere#train", ["no such file"]),
    ],
)
def test_mistakes(world: Any, repository: Path, prompts: str, words: list[str]) -> None:
    line = add(world, "name: more", "kind: prompts", f"prompts: {prompts}") + 2
    world.refuses(f"{world.config}:{line}:", "evaluation.benchmarks[1].prompts", *words)


def test_a_hub_row_without_a_prompt_names_the_row(world: Any, repository: Path) -> None:
    add(world, "name: math", "kind: gsm8k", "prompts: sets#eval")
    assert ".jsonl:1: the row has no 'question'" in world.error()


@pytest.mark.parametrize("where", ["data.heldout", "prompts"])
def test_preference_takes_any_format_of_pairs(world: Any, where: str) -> None:
    """ShareGPT ranking rows, as LLaMA-Factory writes them, are no JSONL of prompt, chosen, rejected."""
    rows = [
        {
            "conversations": [{"from": "human", "value": f"Question {i}?"}],
            "chosen": {"from": "gpt", "value": f"Yes {i}."},
            "rejected": {"from": "gpt", "value": f"No {i}."},
        }
        for i in range(3)
    ]
    (world.root / "held.json").write_text(json.dumps(rows), encoding="utf-8")
    if where == "prompts":
        add(world, "name: held", "kind: preference", "prompts: held.json")
    else:
        world.replace("train: pairs.jsonl", "train: pairs.jsonl\n  heldout: held.json")
        add(world, "name: held", "kind: preference")
    found = rows_of(entry(world, "held"))
    assert [row["prompt"][-1]["content"] for row in found] == [f"Question {i}?" for i in range(3)]
    assert found[1]["chosen"] == [{"role": "assistant", "content": "Yes 1."}]
