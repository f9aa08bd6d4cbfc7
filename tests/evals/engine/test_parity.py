"""The share of greedy answers on which two engines agree, and where they part."""

import json
from pathlib import Path
from typing import Any

import pytest

from evals.engine.base import EngineConfig, Generated, Sampling
from evals.engine.chat import chat_ids
from evals.engine.parity import MAX_NEW_TOKENS, compare, measure, spread
from evals.engine.transformers_engine import TransformersEngine
from evals.job import Policy
from tests.evals.benchmarks.scored import policy_entry
from tests.evals.weights import nudged
from trainers.common import scores_schema

CONFIG = EngineConfig(backend="transformers", dtype="float32", max_model_len=512)
PROMPTS = [(f"p{i}", f"Tell me about {word}.") for i, word in enumerate(["tea", "rain", "maps", "bees", "ink"])]


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> Any:
    return TransformersEngine(tiny_model, CONFIG)


@pytest.fixture(scope="module")
def moved(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its greedy answers are others."""
    return nudged(tiny_model, tmp_path_factory.mktemp("moved") / "model", 0.05, 3)


def answers_of(engine: Any) -> tuple[list[str], list[list[int]], list[Generated]]:
    rows = [chat_ids(engine.tokenizer, text) for _, text in PROMPTS]
    return [name for name, _ in PROMPTS], rows, engine.generate(rows, Sampling(MAX_NEW_TOKENS))


def test_spread_takes_the_first_and_keeps_the_order() -> None:
    assert spread(list(range(10)), 4) == [0, 2, 5, 7]
    assert spread([1, 2], 8) == [1, 2]


def test_an_engine_agrees_with_itself(engine: Any) -> None:
    assert compare(*answers_of(engine), engine) == []


def test_differences_say_where_and_how_close(engine: Any, moved: Path) -> None:
    other = TransformersEngine(moved, CONFIG)
    names, rows, ours = answers_of(engine)
    found = compare(names, rows, ours, other)
    assert 0 < len(found) <= 5
    theirs = dict(zip(names, other.generate(rows, Sampling(MAX_NEW_TOKENS)), strict=True))
    mine = dict(zip(names, ours, strict=True))
    for difference in found:
        name, place = difference.prompt, difference.position
        assert mine[name].token_ids[:place] == theirs[name].token_ids[:place]
        assert mine[name].token_ids[place] == difference.engine_token != difference.transformers_token
        assert difference.gap is not None and difference.gap > 0, "transformers took the token it likes best"


def test_an_answer_that_ended_earlier_differs_where_it_ends(engine: Any) -> None:
    names, rows, ours = answers_of(engine)
    cut = Generated("", ours[0].token_ids[:3], ours[0].logprobs[:3], "stop")
    [found] = compare(names[:1], rows[:1], [cut], engine)
    assert (found.prompt, found.position, found.gap) == ("p0", 3, None)
    assert (found.engine_token, found.transformers_token) == (None, ours[0].token_ids[3])


def reference(tiny_model: Path, out: Path) -> Policy:
    return policy_entry(scores_schema.REFERENCE, out, tiny_model, "weights")


def test_it_is_written_once(engine: Any, tiny_model: Path, tmp_path: Path) -> None:
    entry = reference(tiny_model, tmp_path)
    found = measure(engine, CONFIG, entry, PROMPTS, 3)
    assert found is not None and (found.agree, found.total, found.reason) == (3, 3, None)
    written = json.loads((tmp_path / "parity.json").read_text())
    assert written == found.model_dump() and written["against"].startswith("transformers")
    assert measure(engine, CONFIG, entry, PROMPTS, 3) is None
    assert measure(engine, CONFIG, entry, PROMPTS, 4) is not None, "other prompts are another comparison"


def test_a_failure_of_transformers_is_written_down(engine: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    found = measure(engine, CONFIG, reference(tmp_path / "empty", tmp_path), PROMPTS, 2)
    assert found is not None and found.agree is None and "transformers failed" in str(found.reason)


def test_one_that_took_the_process_down_is_not_tried_again(
    engine: Any, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    entry = reference(tiny_model, tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("evals.engine.parity.TransformersEngine", dies)
        measure(engine, CONFIG, entry, PROMPTS, 2)
    assert measure(engine, CONFIG, entry, PROMPTS, 2) is None
    assert scores_schema.read_json(tmp_path / "parity.json")["reason"] == "the comparison did not finish"
