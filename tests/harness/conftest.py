"""A small matrix on disk that passes every check, to be broken one place at a time."""

import json
import os
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import prepare
from harness.state.store import RunStore
from tests.harness.small_matrix import PROMPTS, SmallMatrix
from tests.warm import Harness
from trainers.common.errors import UserError
from trainers.tiny import CHAT_TEMPLATE, build_tiny_model

MATRIX = """\
name: small
model:
  name_or_path: MODEL
data:
  train: pairs.jsonl
training:
  learning_rate: 5e-6
  max_length: 256
methods:
  - name: fixed
    pref_beta: 0.1
  - name: foodpo
    pref_beta_scale: 0.5
seeds: [0, 1]
evaluation:
  benchmarks:
    - name: constraints
      prompts: prompts.jsonl
report:
  baseline: fixed
  primary: constraints/gold_reward
"""
PAIRS = [{"id": f"p{i}", "prompt": f"Question {i}?", "chosen": f"Yes {i}.", "rejected": f"No {i}."} for i in range(4)]


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of the tests' own, kept for the whole session: reading TRL's field names takes seconds."""
    before = os.environ.get("DPO_HARNESS_CACHE")
    os.environ["DPO_HARNESS_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["DPO_HARNESS_CACHE"]
    else:
        os.environ["DPO_HARNESS_CACHE"] = before


def write_jsonl(path: Path, rows: list[Any]) -> Path:
    """Rows that may be no objects, in whatever language."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallMatrix:
    """One for the whole session: every test of it has an output of its own."""
    root = tmp_path_factory.mktemp("small")
    return SmallMatrix(root, build_tiny_model(root / "model"))


@pytest.fixture(scope="session")
def single(small: SmallMatrix) -> Any:
    """What the runs of `small` leave when one process trains them one after another, in its output `single`."""
    small.train(small.root / "single", "executor.threads=1")
    return small.trained(small.root / "single")


def write_weights(path: Path) -> None:
    """A valid safetensors file with one weight of two numbers."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + struct.pack("<2f", 1.0, 2.0))


def write_tokenizer(directory: Path) -> None:
    """A tokenizer of bytes with a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = ["<|im_start|>", "<|im_end|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(vocabulary)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(vocabulary[:2])
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "chat_template": CHAT_TEMPLATE}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


class World:
    """A folder with matrix.yaml, its data and its model."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config, self.output = root / "m.yaml", root / "out"
        self.pairs, self.prompts, self.model = root / "pairs.jsonl", root / "prompts.jsonl", root / "model"
        write_jsonl(self.pairs, PAIRS)
        write_jsonl(self.prompts, PROMPTS)
        self.model.mkdir()
        (self.model / "config.json").write_text("{}", encoding="utf-8")
        write_tokenizer(self.model)
        write_weights(self.model / "model.safetensors")
        self.text = MATRIX.replace("MODEL", str(self.model))
        self.write(self.text)

    def write(self, text: str) -> None:
        self.text = text
        self.config.write_text(text, encoding="utf-8")

    def replace(self, old: str, new: str) -> int:
        """Change the matrix file; returns the line (from 1) where the change begins."""
        assert self.text.count(old) == 1, f"{old!r} must stand once in the matrix"
        line = self.text[: self.text.index(old)].count("\n") + 1
        self.write(self.text.replace(old, new))
        return line

    def plan(self, *overrides: str) -> Any:
        """The plan under these `--set`s; `said` holds what making it said."""
        self.said: list[str] = []
        return prepare.make_plan(self.config, self.output, self.said.append, overrides)

    def begun(self) -> tuple[Any, list[RunStore]]:
        """The plan, and its runs as `run-matrix` makes them before the first step."""
        plan = self.plan()
        prepare.freeze(plan)
        stores = [RunStore(plan.run_dir(spec)) for spec in plan.specs]
        for store, spec in zip(stores, plan.specs, strict=True):
            store.create(plan.run_record(spec))
        return plan, stores

    def error(self) -> str:
        """The message of the UserError that planning raises."""
        with pytest.raises(UserError) as caught:
            self.plan()
        return str(caught.value)

    def refuses(self, *words: str, at: str = "") -> None:
        """The error begins with `at` and says all `words`, and nothing is written."""
        there, message = self.output.exists(), self.error()
        assert message.startswith(at) and all(word in message for word in words), message
        assert self.output.exists() == there


def one_error(result: subprocess.CompletedProcess[str]) -> str:
    """The one line that a refused command says."""
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.returncode == 2 and len(errors) == 1 and "Traceback" not in result.stderr + result.stdout, result
    return errors[0]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def cli(warm_harness: Harness) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `python -m harness ...` in a process of its own, 80 columns wide."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        warm_harness.start(arguments, {**os.environ, "COLUMNS": "80"})
        return warm_harness.wait()

    return run


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """As `cli`, in this process: for what ends in a moment and leaves nothing behind."""
    from harness.cli import main

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        monkeypatch.setenv("COLUMNS", "80")
        try:
            code: Any = main([str(argument) for argument in arguments])
        except SystemExit as refused:  # the parser's own
            code = refused.code
        said = capsys.readouterr()
        return subprocess.CompletedProcess("harness", code, said.out, said.err)

    return run
