"""`data.heldout_share` and `data.streaming`: a part of the training pairs held out by prompt, and sources read no further
than asked for."""

from pathlib import Path
from typing import Any

import pytest

from tests.harness.conftest import write_jsonl
from trainers.common.rows import Row
from trainers.formats import Part, load, load_mixture, load_pairs

TRAIN = "  train: pairs.jsonl"
HELDOUT = "    - {name: heldout, kind: preference, limit: 100}\nreport:"


def pair(i: int, prompt: int | None = None) -> dict[str, str]:
    number = i if prompt is None else prompt
    return {"id": f"p{i}", "prompt": f"问题 {number}?", "chosen": f"对 {i}", "rejected": f"错 {i}"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("heldout_share: 1.0", ["data.heldout_share is 1.0", "less than 1"]),
        ("heldout_share: 0", ["data.heldout_share is 0", "greater than 0"]),
        ("heldout_share: '0.1'", ["data.heldout_share is '0.1'", "a number, without quotes"]),
        ("heldout_share: 0.01", ["data.heldout_share is 0.01", "a side would be empty"]),
        (
            "heldout: pairs.jsonl\n  heldout_share: 0.1",
            ["data.heldout_share is 0.1", "but data.heldout is set too; remove one of them"],
        ),
        ("streaming: yes please", ["data.streaming is 'yes please'", "true or false"]),
        ("streaming: true", ["data.streaming is true", "add data.max_train_pairs"]),
    ],
)
def test_mistakes(world: Any, text: str, words: list[str]) -> None:
    line = world.replace(TRAIN, f"{TRAIN}\n  {text}") + 1 + text.count("\n")
    world.refuses(f"{world.config}:{line}:", *words)


def test_a_stream_of_a_mixture_needs_every_limit(world: Any) -> None:
    world.replace(
        TRAIN, "  streaming: true\n  train:\n    - {source: pairs.jsonl, limit: 2}\n    - {source: pairs.jsonl}"
    )
    world.refuses(f"{world.config}:8: data.streaming is true", "add data.train[1].limit")


def test_no_prompt_is_on_both_sides(world: Any) -> None:
    write_jsonl(world.pairs, [pair(i, i // 3) for i in range(60)])
    world.replace(TRAIN, f"{TRAIN}\n  heldout_share: 0.25")
    world.replace("report:", HELDOUT)
    plan = world.plan()
    held = load_pairs(Path(plan.benchmarks[1].prompts))
    assert len(held) == 15 and len(plan.pairs) == 45
    prompts = [{pair.prompt[-1]["content"] for pair in side} for side in (held, plan.pairs)]
    assert not prompts[0] & prompts[1] and len(prompts[0]) == 5 and len(prompts[1]) == 15
    assert plan.contamination["heldout"]["exact"] == 0
    again = world.plan()
    assert again.benchmarks == plan.benchmarks and again.data_hash == plan.data_hash
    world.replace("heldout_share: 0.25", "heldout_share: 0.25\n  seed: 1")
    other = world.plan()
    assert other.benchmarks[1].fingerprint != plan.benchmarks[1].fingerprint


def test_the_limit_is_of_the_pairs_that_are_left(world: Any) -> None:
    write_jsonl(world.pairs, [pair(i) for i in range(40)])
    world.replace(TRAIN, f"{TRAIN}\n  heldout_share: 0.25\n  max_train_pairs: 12")
    world.replace("report:", HELDOUT)
    plan = world.plan()
    assert len(plan.pairs) == 12 and len(load_pairs(Path(plan.benchmarks[1].prompts))) == 10
    world.replace("max_train_pairs: 12", "max_train_pairs: 12\n  streaming: true")
    plan = world.plan()
    assert len(plan.pairs) == 12 and len(load_pairs(Path(plan.benchmarks[1].prompts))) == 4


def test_a_benchmark_without_held_out_pairs_says_how_to_get_them(world: Any) -> None:
    world.replace("report:", HELDOUT)
    assert "data.heldout_share: 0.1 to hold out a part of the training pairs" in world.error()


def test_nothing_behind_the_limit_is_read(world: Any) -> None:
    write_jsonl(world.pairs, [*(pair(i) for i in range(6)), "no row at all"])
    assert "expected a JSON object" in world.error()
    world.replace(TRAIN, f"{TRAIN}\n  max_train_pairs: 4\n  streaming: true")
    plan = world.plan()
    assert [pair.id for pair in plan.pairs] == ["p0", "p1", "p2", "p3"]


def test_dropped_rows_are_made_up_for(tmp_path: Path) -> None:
    same = {"prompt": "a", "chosen": "b", "rejected": "b"}
    write_jsonl(tmp_path / "p.jsonl", [same, same, same, *(pair(i) for i in range(9))])
    loaded = load_mixture([Part("p.jsonl", limit=4)], tmp_path, 0, "drop", streaming=True)
    assert [pair.id for pair in loaded.pairs] == ["p0", "p1", "p2", "p3"] and len(loaded.dropped) == 3
    short = load_mixture([Part("p.jsonl", limit=40)], tmp_path, 0, "drop", streaming=True)
    assert len(short.pairs) == 9 and "40 pairs requested, 9 available" in short.notes[0]


def test_many_dropped_rows_are_not_checked_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checks: list[int] = []
    check = load.check_rows

    def counted(rows: Any, form: Any) -> Any:
        checks.append(len(rows))
        return check(rows, form)

    monkeypatch.setattr(load, "check_rows", counted)
    same = {"prompt": "a", "chosen": "b", "rejected": "b"}
    write_jsonl(tmp_path / "p.jsonl", [*[same] * 4000, pair(0), pair(1)])
    loaded = load_mixture([Part("p.jsonl", limit=1)], tmp_path, 0, "drop", streaming=True)
    assert [pair.id for pair in loaded.pairs] == ["p0"] and sum(checks) < 4 * 4002


def test_an_answer_whose_counterpart_was_not_read_is_no_mistake(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{i // 2}", "completion": f"c{i}", "label": i % 2 == 0} for i in range(20)]
    write_jsonl(tmp_path / "kto.jsonl", rows)
    loaded = load_mixture([Part("kto.jsonl", limit=3)], tmp_path, streaming=True)
    assert [pair.prompt[-1]["content"] for pair in loaded.pairs] == ["q0", "q1", "q2"] and not loaded.dropped


def test_the_hub_is_asked_for_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    from trainers.common.turns import DataError

    asked: list[tuple[str, dict[str, Any]]] = []
    given: list[int] = []

    def load_dataset(path: str, **options: Any) -> Any:
        asked.append((path, options))

        def rows() -> Any:
            for i in range(1000):
                given.append(i)
                yield pair(i)

        return rows()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    part = Part("hub:owner/name@v1#train_prefs", limit=5)
    loaded = load_mixture([part], tmp_path, streaming=True)
    assert len(loaded.pairs) == 5 and len(given) == 5
    assert asked[0][1]["streaming"] is True and asked[0][1]["revision"] == "v1"
    with pytest.raises(DataError, match="a stream has no slices; name the split alone"):
        load_mixture([Part("hub:owner/name#train[:9]", limit=5)], tmp_path, streaming=True)
    with pytest.raises(DataError, match="nothing says how many pairs to read"):
        load_mixture([Part("hub:owner/name")], tmp_path, streaming=True)


def test_a_folder_of_parquet_files_as_a_stream(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    (tmp_path / "set" / "data").mkdir(parents=True)
    table = pyarrow.Table.from_pylist([pair(i) for i in range(50)])
    parquet.write_table(table, tmp_path / "set" / "data" / "train-00000-of-00001.parquet")
    loaded = load_mixture([Part("set", limit=7)], tmp_path, streaming=True)
    assert [pair.id for pair in loaded.pairs] == [f"p{i}" for i in range(7)]


def test_inspect_data_reads_the_first_rows(tmp_path: Path) -> None:
    from trainers.formats.inspect import inspect_source

    write_jsonl(tmp_path / "p.jsonl", [pair(i) for i in range(9)])
    found = inspect_source("p.jsonl", tmp_path, first=4)
    assert found.figures["rows"] == 4 and found.figures["first_rows_only"] is True
    assert inspect_source("p.jsonl", tmp_path, first=40).figures["first_rows_only"] is False
    assert isinstance(found.rows[0], Row)
