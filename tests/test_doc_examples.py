"""Python blocks of the documentation, run for real: copied into a file as a reader would, and used on tiny parts."""

import ast
import json
import re
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.test_docs import ROOT, blocks

#: Page and heading of every Python block, and the test that runs it.
RUN_BY = {
    ("evals/README.md", "Adding a benchmark"): "test_benchmark",
    ("evals/README.md", "Adding a constraint"): "test_constraint",
    ("evals/README.md", "Adding a judge"): "test_judge",
    ("evals/README.md", "Adding a reward"): "test_reward",
    ("harness/README.md", "Adding an executor"): "test_executor",
    ("harness/README.md", "Python"): "tests/harness/test_api.py",
    ("harness/STARTS.md", "4. With a custom beta rule"): "tests/test_five_starts.py",
    ("trainers/README.md", "The policy with its beta head"): "test_beta_head",
    ("trainers/README.md", "Writing a beta rule"): "tests/trainers/rules/test_outside_rule.py",
}
LONGEST = 30


def documented(page: str, heading: str) -> str:
    """The Python block under a heading."""
    for block in blocks("python"):
        if (str(block.page.relative_to(ROOT)), _heading(block.page, block.line)) == (page, heading):
            return block.text
    raise AssertionError(f"{page} has no Python block under {heading!r}")


def _heading(page: Path, line: int) -> str:
    before = page.read_text(encoding="utf-8").splitlines()[: line - 1]
    return next(text.lstrip("#").strip() for text in reversed(before) if re.match(r"#{1,4} ", text))


def test_every_block_is_run_by_a_test() -> None:
    found = sorted((str(block.page.relative_to(ROOT)), _heading(block.page, block.line)) for block in blocks("python"))
    assert found == sorted(RUN_BY), "write a test that runs the new block, and name it in RUN_BY"
    for page, heading in RUN_BY:
        where = RUN_BY[page, heading]
        if where.endswith(".py"):
            text = (ROOT / where).read_text(encoding="utf-8")
            assert Path(page).name.partition(".")[0] in text, f"{where} does not read {page}"
        else:
            assert where in globals()


@pytest.mark.parametrize("place", sorted(RUN_BY), ids=lambda place: place[1])
def test_blocks_are_short(place: tuple[str, str]) -> None:
    assert len(documented(*place).splitlines()) <= LONGEST


def written(folder: Path, page: str, heading: str) -> str:
    """The block in a file of its own in `folder`; `file.py:Class` of the last class in it."""
    code = documented(page, heading)
    classes = [node.name for node in ast.parse(code).body if isinstance(node, ast.ClassDef)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mine.py").write_text(code, encoding="utf-8")
    return f"{folder / 'mine.py'}:{classes[-1]}"


@pytest.fixture
def constraints() -> Iterator[dict[str, Any]]:
    """The registry of constraints, as it was before the block."""
    from evals.constraints import registry

    added = registry.KINDS.added
    before = dict(added)
    yield added
    added.clear()
    added.update(before)


@pytest.mark.usefixtures("constraints")
def test_constraint(tmp_path: Path) -> None:
    from evals.benchmarks import registry
    from evals.benchmarks.base import Visit
    from evals.constraints import ConstraintError, kinds, register
    from tests.evals.benchmarks.scored import entry as benchmark_entry
    from tests.evals.benchmarks.scored import policy_entry
    from trainers.common import scores_schema

    kind = written(tmp_path / "elsewhere", "evals/README.md", "Adding a constraint")
    registry.build(kind)
    benchmark = registry.build(kind)  # a file by its path is loaded more than once in a process
    assert "has_question" in kinds()
    prompts = tmp_path / "prompts.jsonl"
    rows = [{"id": i, "prompt": "p", "constraints": [{"kind": "has_question", "args": {}}]} for i in "ab"]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    answers = scores_schema.generations_path(tmp_path / "p", "mine")
    answers.parent.mkdir(parents=True)
    texts = [{"prompt_id": i, "sample": 0, "prompt": "p", "text": text} for i, text in (("a", "Why?"), ("b", "So."))]
    answers.write_text("".join(json.dumps(row) + "\n" for row in texts), encoding="utf-8")
    policy, entry = policy_entry("p", tmp_path / "p"), benchmark_entry("mine", kind)
    found = benchmark.score(Visit(None, policy, entry, None, print), benchmark.load(prompts, None), "f")
    assert found["metrics"]["gold_reward"]["value"] == 0.5
    with pytest.raises(ConstraintError, match="already registered"):
        register("has_question")(type("Other", (type(registry.build(kind)),), {"check": lambda *_: True}))


def test_benchmark(tmp_path: Path, tiny_model: Path) -> None:
    from evals.benchmarks import registry
    from evals.benchmarks.base import BenchmarkError, Visit
    from evals.engine.base import EngineConfig
    from evals.engine.transformers_engine import TransformersEngine
    from trainers.common import scores_schema

    kind = written(tmp_path / "elsewhere", "evals/README.md", "Adding a benchmark")
    benchmark = registry.build(kind, {"within": 2})
    rows_file = tmp_path / "capitals.jsonl"
    rows_file.write_text('{"question": "Capital of Italy?", "answer": "Rome"}\n{"question": "Of Peru?"}\n', "utf-8")
    with pytest.raises(BenchmarkError, match=r"capitals\.jsonl:2: the row has no 'answer'"):
        benchmark.load(rows_file, None)
    rows = benchmark.load(rows_file, 1)
    for text, hit in (("It is rome indeed", 0.0), ("Rome.  rome", 1.0), ("", 0.0)):
        assert benchmark.values(rows[0], {"text": text}) == {"hit": hit, "words": float(len(text.split()))}  # type: ignore[attr-defined]
    policy = {"run_id": "p", "path": str(tiny_model), "fingerprint": "p", "out": str(tmp_path / "p")}
    entry = {"name": "mine", "kind": kind, "fingerprint": "b", "max_new_tokens": 4, "samples": 2, "seed": 0}
    engine = TransformersEngine(tiny_model, EngineConfig(backend="transformers", dtype="float32", max_model_len=128))
    visit = Visit(engine, policy, entry | {"temperature": 1.0, "top_p": 1.0}, None, lambda **event: None)
    benchmark.collect(visit, rows)
    found = benchmark.score(visit, rows, "f")
    answers = [
        json.loads(line) for line in scores_schema.generations_path(tmp_path / "p", "mine").read_text().splitlines()
    ]
    assert len(answers) == 2 and found["primary_metric"] == "hit"
    assert found["metrics"]["words"]["value"] == sum(len(a["text"].split()) for a in answers) / 2


def test_judge(tmp_path: Path) -> None:
    from evals.judges import registry
    from evals.judges.base import Judging, Question
    from evals.judges.cache import JudgeCache

    kind = written(tmp_path / "elsewhere", "evals/README.md", "Adding a judge")
    judging = Judging(registry.build(kind, {"limit": 2, "penalty": 0.25}), JudgeCache(tmp_path / "replies.jsonl"))
    question = Question("Say it.")
    assert [r.value for r in judging.score([question] * 3, ["a b", "a b c d", ""])] == [1.0, 0.5, None]
    longer, equal, silent = judging.compare([question] * 3, ["a b c", "a b", ""], ["a b", "b a", "a b"])
    assert (longer.preference, equal.preference, silent.preference) == (0.0, 0.5, None)
    assert silent.reason == "empty answer" and judging.tally.as_dict()["unparsed"] == {"empty answer": 2}


def test_reward(tmp_path: Path) -> None:
    from evals.rewards.registry import from_spec

    reward = from_spec({"kind": written(tmp_path / "elsewhere", "evals/README.md", "Adding a reward"), "most": 2})
    assert reward.score([{"prompt": "p"}] * 3, ["Oh!", "no", "So!!!"]) == [1.0, 0.0, 2.0]
    assert reward.identity.startswith("exclaims/1: exclamation marks, at most 2 (code ")


def test_executor(tmp_path: Path, tiny_model: Path) -> None:
    from harness.executors.registry import executor_of
    from tests.harness.small_matrix import SmallMatrix, statuses
    from trainers.common.errors import UserError

    small = SmallMatrix(tmp_path, tiny_model)
    kind = written(tmp_path / "elsewhere", "harness/README.md", "Adding an executor")
    hour = datetime.now().hour
    shut = [f"executor.kind={kind}", f"executor.begin={(hour + 2) % 24}", f"executor.end={(hour + 3) % 24}"]
    plan = small.plan(tmp_path / "day", *shut)
    with executor_of(plan) as executor:
        assert executor.seat(plan.train_job(plan.specs[0])) is None
    with pytest.raises(UserError, match=r"executor\.begin is 24; .*less than or equal to 23"):
        small.plan(tmp_path / "no", shut[0], "executor.begin=24")
    always = [shut[0], "executor.begin=0", "executor.end=0"]
    small.train(tmp_path / "night", *always, "methods=[{name: fixed}]", "seeds=[0]")
    assert small.all_trained(tmp_path / "night") and statuses(tmp_path / "night")["fixed"]["step"] == 4


def test_beta_head(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The block, in a directory where a run of rule beta_head lies under the name that the block writes."""
    from tests.trainers.helpers import make_job, make_pairs
    from trainers.run.train import train

    code = documented("trainers/README.md", "The policy with its beta head")
    (place,) = re.findall(r'"(output/[^"]+)"', code)
    train(make_job(tiny_model, tmp_path / "run", "beta_head", training={"max_steps": 2}), make_pairs(8), lambda _: None)
    shutil.copytree(tmp_path / "run", tmp_path / place)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(code, "README", "exec"), names)
    assert names["lm_logits"].shape[:2] == names["prompt"]["input_ids"].shape and names["loss"] is None
    assert names["beta"].shape == (1,) and 0.01 <= float(names["beta"].detach()) <= 1
    from transformers import AutoModelForCausalLM

    assert AutoModelForCausalLM.from_pretrained(tmp_path / "my_policy").config.hidden_size == 32
