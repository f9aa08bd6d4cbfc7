"""IFEval by its own checkers: equal to lm-eval's scoring where they are complete, and counted where they are not."""

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from evals.benchmarks import ifeval
from evals.benchmarks.base import BenchmarkError, Visit

PACKAGES = [name for name in ifeval.PACKAGES if importlib.util.find_spec(name) is None]
needs_packages = pytest.mark.skipif(bool(PACKAGES), reason=f"{', '.join(PACKAGES)} not installed: lm-eval[ifeval]")
ROW = {"id": "1", "prompt": "Use no commas.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}


def test_missing_packages_are_named_with_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BenchmarkError, match=r"langdetect, immutabledict, nltk; pip install 'lm-eval\[ifeval\]'"):
        ifeval.IfEval().load(tmp_path / "any.jsonl", None)


class Checkers:
    """What `evals.benchmarks.ifeval` reads of lm-eval's module, where a checker's data is missing."""

    class InputExample:
        def __init__(self, key: str, names: list[str], prompt: str, kwargs: list[dict[str, Any]]) -> None:
            self.name = names[0]

    @staticmethod
    def test_instruction_following_strict(one: Any, text: str) -> Any:
        if one.name == "length_constraints:number_sentences":
            raise LookupError("Resource punkt_tab not found")
        return type("Output", (), {"follow_all_instructions": "," not in text})

    test_instruction_following_loose = test_instruction_following_strict


def test_instructions_whose_data_is_missing_are_left_out_and_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from tests.evals.benchmarks.scored import entry, policy_entry
    from trainers.common import scores_schema

    monkeypatch.setattr(ifeval, "checkers", lambda: Checkers)
    both = ["punctuation:no_comma", "length_constraints:number_sentences"]
    rows: list[dict[str, Any]] = [ROW, {**ROW, "id": "2", "instruction_id_list": both, "kwargs": [{}, {}]}]
    answer = {"sample": 0, "finish_reason": "stop", "token_ids": [1]}
    scores_schema.append_rows(
        scores_schema.generations_path(tmp_path, "if"),
        [{**answer, "prompt_id": "1", "text": "one, two"}, {**answer, "prompt_id": "2", "text": "fine"}],
    )
    visit = Visit(None, policy_entry("p", tmp_path), entry("if", "ifeval"), None, lambda **_: None)
    scores = ifeval.IfEval().score(visit, rows, "cell")
    prompt_level: Mapping[str, Any] = scores["metrics"]["prompt_level_strict_acc"]
    assert (prompt_level["value"], prompt_level["n"]) == (0.0, 1), "a prompt that is not wholly checked has no score"
    level = scores["instruction_level"]["inst_level_strict_acc"]
    assert (level["value"], level["n"]) == (0.5, 2)
    assert scores["left_out"]["instructions"] == {"length_constraints:number_sentences": 1}
    assert scores["left_out"]["prompts"] == 1 and "punkt_tab" in scores["left_out"]["reason"]


@needs_packages
def test_real_file_scores_as_lm_eval_scores_it(shared_data: Path) -> None:
    """Every published prompt, with the prompt itself as answer: instruction by instruction what lm-eval's code says."""
    rows = ifeval.IfEval().load(shared_data / "benchmarks" / "ifeval.jsonl", None)
    assert len(rows) == 541 and sum(len(row["instruction_id_list"]) for row in rows) == 834
    module, compared = ifeval.checkers(), 0
    for row in rows:
        letters = [kwargs.get("letter") for kwargs in row["kwargs"]]
        mine = ifeval.check(row, row["prompt"])
        if any(one["strict"] is None for one in mine) or any(letter and not letter.isalpha() for letter in letters):
            continue  # data is missing, or the checker draws a letter of its own
        theirs = module.process_results({"key": row["id"], **row}, [row["prompt"]])
        assert theirs["inst_level_strict_acc"] == [one["strict"] for one in mine], row["id"]
        assert theirs["inst_level_loose_acc"] == [one["loose"] for one in mine], row["id"]
        compared += 1
    assert compared > 450


@needs_packages
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"instruction_id_list": ["punctuation:no_coma"]}, "unknown instruction 'punctuation:no_coma'"),
        ({"instruction_id_list": []}, "'instruction_id_list' must be a non-empty list"),
        ({"kwargs": []}, "'kwargs' must be a list with one object for each of 1 instructions"),
    ],
)
def test_bad_rows(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = tmp_path / "if.jsonl"
    path.write_text(json.dumps({**ROW, **change}) + "\n")
    with pytest.raises(BenchmarkError, match=rf"if\.jsonl:1: {words}"):
        ifeval.IfEval().load(path, None)
