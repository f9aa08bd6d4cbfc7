"""Prompts that fill max_length: dropped and counted; and where a model's directory is looked for."""

import json
import shutil
from pathlib import Path

import pytest

from tests.harness.small_matrix import SmallMatrix
from trainers.common.errors import UserError

ONE = ["methods=[{name: fixed}]", "seeds=[0]"]


@pytest.fixture
def small(tmp_path: Path, tiny_model: Path) -> SmallMatrix:
    """The second of four prompts has more tokens than max_length (64; a token is a byte here)."""
    made = SmallMatrix(tmp_path / "study", tiny_model)
    pairs = made.root / "pairs.jsonl"
    rows = [json.loads(line) for line in pairs.read_text(encoding="utf-8").splitlines()]
    rows[1]["prompt"] = "long " * 20
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return made


def test_or_dropped_and_counted(small: SmallMatrix) -> None:
    plan = small.plan(small.root / "out", *ONE, "data.without_preference=drop")
    assert [pair.id for pair in plan.pairs] == ["p0", "p2", "p3"]
    assert any(line.startswith("dropped 1 rows whose prompts leave no room") and ":2:" in line for line in small.said)
    # what is left counts: a file without that row gives the same runs
    pairs = small.root / "pairs.jsonl"
    lines = pairs.read_text(encoding="utf-8").splitlines()
    pairs.write_text("\n".join([lines[0], *lines[2:]]) + "\n", encoding="utf-8")
    again = small.plan(small.root / "out", *ONE)
    assert [spec.run_id for spec in again.specs] == [spec.run_id for spec in plan.specs]
    with pytest.raises(UserError, match=r"the prompt has \d+ tokens .*raise max_length.*3 of 3 rows"):
        small.plan(small.root / "out", *ONE, "data.without_preference=drop", "training.max_length=8")


def test_a_model_beside_the_matrix_file_is_found_and_its_path_is_absolute(small: SmallMatrix, tiny_model: Path) -> None:
    """Workers of a cluster run in other directories."""
    shutil.copytree(tiny_model, small.root / "its-model")
    plan = small.plan(small.root / "out", *ONE, "model.name_or_path=its-model", "training.max_length=256")
    assert Path(plan.train_job(plan.specs[0])["train_job"]["model_path"]) == small.root / "its-model"
    assert plan.model.path.is_absolute()
