"""The data of a matrix: every kind of source, mixtures, and the pairs as the workers get them."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness.prepare import freeze
from tests.harness.conftest import write_jsonl
from trainers.formats import load_pairs

LINE = "  train: pairs.jsonl"


def sharegpt(number: int) -> dict[str, Any]:
    said = [{"from": "human", "value": f"第{number}题"}]
    return {"conversations": said, "chosen": {"from": "gpt", "value": "对"}, "rejected": {"from": "gpt", "value": "错"}}


@pytest.fixture
def llamafactory(world: Any) -> Path:
    """LLaMA-Factory's folder beside the matrix file."""
    folder: Path = world.root / "data"
    folder.mkdir()
    write_jsonl(folder / "zh.jsonl", [sharegpt(i) for i in range(6)])
    info = {"zh": {"file_name": "zh.jsonl", "ranking": True, "formatting": "sharegpt"}}
    (folder / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")
    return folder


def test_a_data_set_of_llamafactory_reaches_the_worker(world: Any, llamafactory: Path) -> None:
    world.replace(LINE, "  train: data/dataset_info.json#zh")
    plan = world.plan()
    freeze(plan)
    data = plan.train_job(plan.specs[0])["data"]
    worker = load_pairs(Path(data["path"]), data["limit"], data["seed"])
    assert [pair.content() for pair in worker] == [pair.content() for pair in plan.pairs] and len(worker) == 6
    assert plan.pairs[2].prompt == [{"role": "user", "content": "第2题"}]
    assert plan.run_record(plan.specs[0]).data.train == "data/dataset_info.json#zh"


def test_the_pairs_do_not_follow_a_file_that_changes(world: Any) -> None:
    plan = world.plan()
    freeze(plan)
    world.pairs.write_text("gone\n", encoding="utf-8")
    assert [pair.content() for pair in load_pairs(plan.training_pairs(plan.data_hash))] == [
        pair.content() for pair in plan.pairs
    ]
    plan.training_pairs(plan.data_hash).write_text("damaged\n", encoding="utf-8")
    freeze(plan)
    assert len(load_pairs(plan.training_pairs(plan.data_hash))) == 4


def test_a_mixture(world: Any, llamafactory: Path) -> None:
    parts = (
        "\n    - {source: pairs.jsonl, weight: 1}\n    - {source: 'data/dataset_info.json#zh', weight: 1.0, limit: 5}"
    )
    world.replace(LINE, f"  train: {parts}")
    plan = world.plan()
    assert [pair.id.split("/")[0] for pair in plan.pairs] == ["pairs"] * 4 + ["zh"] * 4
    record = plan.run_record(plan.specs[0]).plain()
    assert record["data"]["train"][1] == {
        "source": "data/dataset_info.json#zh",
        "weight": 1.0,
        "limit": 5,
        "share": None,
    }
    json.dumps(record, allow_nan=False)

    freeze(plan)
    worker = load_pairs(plan.training_pairs(plan.data_hash))
    assert [pair.content() for pair in worker] == [pair.content() for pair in plan.pairs]


def test_the_limit_of_all_pairs(world: Any, llamafactory: Path) -> None:
    world.replace(LINE, "  train: data/dataset_info.json#zh\n  max_train_pairs: 3")
    plan = world.plan()
    assert len(plan.pairs) == 3 and plan.train_job(plan.specs[0])["data"]["limit"] is None


def test_rows_that_prefer_nothing(world: Any) -> None:
    with world.pairs.open("a", encoding="utf-8") as handle:
        handle.write(json.dumps({"prompt": "a", "chosen": "b", "rejected": "b"}) + "\n")
    world.refuses("without_preference: drop", at=f"{world.pairs}:5: ")
    world.replace(LINE, f"{LINE}\n  without_preference: drop")
    assert len(world.plan().pairs) == 4 and any("dropped 1 rows" in line for line in world.said)


@pytest.mark.parametrize(
    ("new", "words"),
    [
        ("train: []", ["data.train", "at least 1"]),
        ("train: 3", ["data.train is 3", "a text"]),
        ("train: [{source: pairs.jsonl, wieght: 1.0}]", ["data.train[0].wieght", "did you mean 'weight'?"]),
        ("train: [{source: pairs.jsonl, weight: 0.0}]", ["data.train[0].weight is 0.0", "greater than 0"]),
        ("train: [{source: pairs.jsonl, limit: 0}]", ["data.train[0].limit is 0"]),
        ("train: [{weight: 1.0}]", ["data.train[0].source is missing"]),
        ("train: [{source: none.jsonl}]", ["data.train[0].source is 'none.jsonl'", "no such file"]),
        ("train: [pairs.jsonl]", ["data.train[0] is 'pairs.jsonl'", "a mapping"]),
        ("train: org/name", ["data.train", "written hub:org/name"]),
        ("train: pairs.jsonl#x", ["'#' chooses from a folder"]),
        ("train: pairs.jsonl\n  without_preference: skip", ["data.without_preference is 'skip'", "'error' or 'drop'"]),
        ("train: pairs.jsonl\n  heldout: none.csv", ["data.heldout is 'none.csv'", "no such file"]),
    ],
)
def test_mistakes(world: Any, new: str, words: list[str]) -> None:
    world.replace(LINE.strip(), new)
    world.refuses(*words)
