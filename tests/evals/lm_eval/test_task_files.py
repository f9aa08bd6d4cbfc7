"""Tasks are found by the `task:` key of their YAML, not by the file's name."""

from pathlib import Path
from typing import Any

import pytest

from evals.lm_eval.run import TASKS, load_task
from evals.lm_eval.task_files import files_of, tasks_in

YAML = """\
task: {task}
dataset_path: json
dataset_kwargs: {{data_files: {{test: rows/q.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{q}}}}"
doc_to_choice: ["yes", "no"]
doc_to_target: 0
process_docs: !function helpers.clean
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path.resolve() / "tasks"
    (root / "rows").mkdir(parents=True)
    (root / "rows" / "q.jsonl").write_text('{"q": "Is it?"}\n{"q": "Was it?"}\n')
    (root / "version_2.yaml").write_text(YAML.format(task="my_task"))
    (root / "helpers.py").write_text("def clean(docs):\n    return docs\n")
    (root / "group.yaml").write_text("group: all\ntask: [my_task]\n")
    (root / "broken.yaml").write_text("task: [\n")
    return root


def test_a_task_and_what_it_is_made_of(folder: Path) -> None:
    assert tasks_in(folder) == {"my_task": folder / "version_2.yaml"}
    found = [folder / "helpers.py", folder / "rows" / "q.jsonl", folder / "version_2.yaml"]
    assert files_of(folder, "my_task") == found
    assert files_of(folder, "version_2") == [folder / "version_2.yaml"], "called so, whoever looks for the old name"
    assert {path.name for path in files_of(TASKS, "capitals")} == {"capitals.jsonl", "capitals.yaml"}


def test_included_files_count(folder: Path) -> None:
    (folder / "parts").mkdir()
    (folder / "child.yaml").write_text("include: parts/base.yaml\ntask: child\nprocess_docs: !function helpers.clean\n")
    (folder / "parts" / "base.yaml").write_text("include: ../child.yaml\ndataset_kwargs: {data_files: rows.jsonl}\n")
    for name in ("rows.jsonl", "code.py"):
        (folder / "parts" / name).touch()
    names = ["child.yaml", "helpers.py", "parts/base.yaml", "parts/rows.jsonl"]
    assert files_of(folder, "child") == [folder / name for name in names], "and what includes itself ends"


def test_lm_eval_loads_it(folder: Path) -> None:
    task, _ = load_task("my_task", folder)
    assert [task.doc_to_text(doc) for doc in task.test_docs()] == ["Is it?", "Was it?"]


def test_the_matrix_takes_it_and_its_data_identify_it(folder: Path, tmp_path: Path) -> None:
    from tests.harness.conftest import World

    (tmp_path / "world").mkdir()
    world: Any = World(tmp_path / "world")
    lines = f"      prompts: prompts.jsonl\n  lm_eval: [{{task: my_task, include_path: {folder}}}]\n"
    world.replace("      prompts: prompts.jsonl\n", lines)
    first = world.plan().benchmarks[-1]
    (folder / "rows" / "q.jsonl").write_text('{"q": "Is it not?"}\n')
    second = world.plan().benchmarks[-1]
    (folder / "helpers.py").write_text("def clean(docs):\n    return docs.select([0])\n")
    third = world.plan().benchmarks[-1]
    assert first.task == "my_task"
    assert len({benchmark.fingerprint for benchmark in (first, second, third)}) == 3
    world.replace("task: my_task", "task: my_tusk")
    assert "did you mean 'my_task'?" in world.error()
