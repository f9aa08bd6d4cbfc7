"""Data parallelism: two replicas answer as one engine does, are swapped together, and are missed when they end."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evals.engine.base import EngineConfig, EngineError, EngineLostError, Sampling
from evals.engine.chat import chat_ids
from evals.engine.replicas import _call, devices
from evals.engine.start import start_engine
from evals.engine.swap_check import check_swap
from evals.worker import engine_died
from trainers.tiny import build_tiny_model

CONFIG = EngineConfig(backend="transformers", dtype="float32", max_model_len=256, data_parallel_size=2)
PROMPTS = [f"Tell me about {word}." for word in ("tea", "rain", "maps", "bees", "ink")]

pytestmark = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two replicas need two cores")


@pytest.fixture(scope="module")
def both(tiny_model: Path) -> Iterator[tuple[Any, Any]]:
    """Two replicas, and one engine with the same weights."""
    replicas = start_engine(tiny_model, CONFIG)
    yield replicas, start_engine(tiny_model, EngineConfig(backend="transformers", dtype="float32", max_model_len=256))
    replicas.close()


def test_each_has_its_own_devices() -> None:
    shares = devices(CONFIG)
    assert len(shares) == 2 and not set(shares[0]) & set(shares[1])
    with pytest.raises(EngineError, match="lower data_parallel_size"):
        devices(EngineConfig(data_parallel_size=10_000))


def test_answers_come_in_order_and_equal_those_of_one_engine(both: tuple[Any, Any]) -> None:
    replicas, one = both
    assert replicas.name.endswith(" x 2") and replicas.alive()
    rows = [chat_ids(replicas.tokenizer, text) for text in PROMPTS]
    for sampling in (Sampling(6), Sampling(6, temperature=1.0, seeds=(5, 4, 3, 2, 1))):
        ours, theirs = replicas.generate(rows, sampling), one.generate(rows, sampling)
        assert [answer.token_ids for answer in ours] == [answer.token_ids for answer in theirs]
    requests = [(row[:4], row[4:]) for row in rows]
    scored = [engine.loglikelihood(requests) for engine in both]
    assert [value for value, _ in scored[0]] == pytest.approx([value for value, _ in scored[1]], abs=1e-4)
    assert [len(row) for row in replicas.token_logprobs(requests)] == [len(row) - 4 for row in rows]
    assert replicas.generate(rows[:1], Sampling(2))[0].token_ids == one.generate(rows[:1], Sampling(2))[0].token_ids


def test_all_are_swapped(both: tuple[Any, Any], tiny_model: Path, tmp_path: Path) -> None:
    replicas, one = both
    other = build_tiny_model(tmp_path / "other", seed=9)
    rows = [chat_ids(replicas.tokenizer, text) for text in PROMPTS]
    before = replicas.generate(rows, Sampling(8))
    replicas.swap(other), one.swap(other)
    after = replicas.generate(rows, Sampling(8))
    assert all(a.token_ids != b.token_ids for a, b in zip(before, after, strict=True))
    assert [a.token_ids for a in after] == [a.token_ids for a in one.generate(rows, Sampling(8))]
    with pytest.raises(EngineError, match=r"replica 0: .*no \*\.safetensors"):
        replicas.swap(tmp_path)
    replicas.swap(tiny_model), one.swap(tiny_model)
    assert [a.token_ids for a in replicas.generate(rows, Sampling(8))] == [a.token_ids for a in before]


def test_a_swap_that_one_of_them_missed_is_noticed(both: tuple[Any, Any], tiny_model: Path, tmp_path: Path) -> None:
    replicas, _ = both
    other = build_tiny_model(tmp_path / "other", seed=9)
    before = check_swap(replicas, tiny_model, "float32")
    assert len(before.engine_tokens) == 2
    replicas._pools[0].submit(_call, "swap", other).result()
    for weights in (tiny_model, other):
        with pytest.raises(EngineError, match="does not serve these weights"):
            check_swap(replicas, weights, "float32", before)
    replicas.swap(other)
    assert check_swap(replicas, other, "float32", before).distinguishable
    replicas.swap(tiny_model)


def test_one_that_ends_is_missed(tiny_model: Path, tmp_path: Path) -> None:
    replicas: Any = start_engine(tiny_model, CONFIG)
    os.kill(replicas._processes[1].pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while replicas.alive() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not replicas.alive()
    with pytest.raises(EngineLostError, match="replica 1 of the engine ended") as caught:
        replicas.generate([[1, 2], [1, 3]], Sampling(2))
    assert engine_died(caught.value), "the worker ends and is started again, as with one engine"
    replicas.close()
    with pytest.raises(EngineError, match="replica 0"):
        start_engine(tmp_path, CONFIG)
