"""Reading preference pairs: what is accepted, what is refused and how; and the pairs that ship with the project."""

import json
from pathlib import Path

import pytest

from evals.constraints import gold_reward
from trainers.common.turns import DataError
from trainers.formats import load_pairs

SHIPPED = Path(__file__).resolve().parents[3] / "trainers" / "data" / "constraint_pairs"


def write(path: Path, *rows: object) -> Path:
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8"
    )
    return path


GOOD = {"id": "a", "prompt": "p", "chosen": "c", "rejected": "r"}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ('{"prompt": ', "not valid JSON"),
        ([1, 2], "expected a JSON object"),
        ({"prompt": "p", "chosen": "c"}, "missing rejected"),
        ({**GOOD, "chosen": "r"}, "identical"),
        ({**GOOD, "prompt": "  "}, "'prompt' is empty"),
        ({**GOOD, "chosen": 3}, "'chosen' must be"),
        ({**GOOD, "chosen": [{"role": "assistant"}]}, "'chosen[0]' has no content"),
        ({**GOOD, "beta": -1}, "'beta' is -1"),
        ({**GOOD, "id": "first"}, "was used on line 1"),
    ],
)
def test_bad_rows_name_file_and_line(tmp_path: Path, row: object, words: str) -> None:
    path = write(tmp_path / "pairs.jsonl", {**GOOD, "id": "first"}, "", row)
    with pytest.raises(DataError) as caught:
        load_pairs(path)
    assert str(caught.value).startswith(f"{path}:3: ") and words in str(caught.value)


def test_missing_empty_and_binary_files(tmp_path: Path) -> None:
    for content, words in ((None, "no such file"), (b"\n", "no rows"), (b"\xff\xfe\x00", "not UTF-8")):
        if content is not None:
            (tmp_path / "pairs.jsonl").write_bytes(content)
        with pytest.raises(DataError, match=words):
            load_pairs(tmp_path / "pairs.jsonl")


def test_chat_rows_and_any_script(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "你好"}]
    pair = load_pairs(write(tmp_path / "p.jsonl", {**GOOD, "prompt": turns, "chosen": "你好！"}))[0]
    assert pair.prompt == turns and pair.chosen == [{"role": "assistant", "content": "你好！"}] and pair.line == 1


def test_a_larger_limit_keeps_the_rows_of_a_smaller_one(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", *({**GOOD, "id": f"p{i}"} for i in range(30)))
    chosen = [{pair.id for pair in load_pairs(path, limit, seed=3)} for limit in (5, 12, 30)]
    assert [len(ids) for ids in chosen] == [5, 12, 30] and chosen[0] < chosen[1] < chosen[2]
    assert {pair.id for pair in load_pairs(path, 5, seed=4)} != chosen[0]


def test_real_pairs_load(shared_data: Path) -> None:
    pairs = load_pairs(shared_data / "preferences" / "gsm8k_correctness_pairs.jsonl")
    assert len(pairs) == 2429 and len({pair.group for pair in pairs}) == 731


def test_shipped_pairs_are_what_their_card_says() -> None:
    rows = {
        name: [json.loads(line) for line in (SHIPPED / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
        for name in ("train", "heldout", "benchmark_prompts")
    }
    assert len(rows["train"]) >= 600 and len(rows["heldout"]) >= 200
    for name in ("train", "heldout"):
        assert load_pairs(SHIPPED / f"{name}.jsonl")
        for row in rows[name]:
            for side in ("chosen", "rejected"):
                assert gold_reward(row[side], row["constraints"]).score == pytest.approx(row[f"score_{side}"]), row[
                    "id"
                ]
            assert row["score_chosen"] > row["score_rejected"]
            assert row["how"] and row["rule"] and row["seed_chosen"] != row["seed_rejected"]
    trained = {row["prompt"] for row in rows["train"]}
    assert not trained & {row["prompt"] for row in rows["heldout"] + rows["benchmark_prompts"]}
    assert not {row["topic"] for row in rows["train"]} & {row["topic"] for row in rows["benchmark_prompts"]}
