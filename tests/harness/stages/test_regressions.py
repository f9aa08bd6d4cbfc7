"""Mistakes that once ended in a traceback, at the wrong line, or only after training had started."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness.prepare import freeze


def test_max_length_of_one_method_is_checked_too(world: Any, tiny_model: Path) -> None:
    world.replace(str(world.model), str(tiny_model))
    world.replace("pref_beta: 0.1", "pref_beta: 0.1\n    training: {max_length: 8}")
    assert "max_length is 8" in world.error()


def test_a_dry_run_leaves_status_files_alone(world: Any) -> None:
    from harness.state import RunRecord, RunStore

    store = RunStore(world.root / "run")
    store.create(RunRecord(run_id="run"))
    (store.directory / "w").write_bytes(b"x")
    store.mark_stage("train", "f", ["w"], 1.0)
    (store.directory / "w").unlink()
    before = (store.directory / "status.json").read_bytes()
    assert not store.is_done("train", "f", verify=False)
    assert (store.directory / "status.json").read_bytes() == before


def test_a_damaged_matrix_json_is_made_anew_from_matrix_yaml(world: Any) -> None:
    freeze(world.plan())
    frozen = world.output / "matrix.json"
    whole = json.loads(frozen.read_text(encoding="utf-8"))
    for damaged in (frozen.read_text(encoding="utf-8").replace('"small"', '"smalm"', 1), '{"na'):
        frozen.write_text(damaged, encoding="utf-8")
        freeze(world.plan())
        assert json.loads(frozen.read_text(encoding="utf-8")) | {"frozen": whole["frozen"]} == whole
    frozen.write_text('{"na', encoding="utf-8")
    world.replace("name: small", "name: other")
    assert "holds the matrix 'small'" in world.error()


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_kill_between_the_first_files_blocks_nothing(world: Any, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Wherever it comes, the next start goes on, and writes the claims before anything is trained."""
    from harness import prepare
    from reports.verdict.claims import thaw
    from trainers.common import files

    claim = "{name: foo-wins, method: foodpo, against: fixed, metric: constraints/gold_reward}"
    world.write(f"{world.text}claims:\n  - {claim}\n")
    writes, write_bytes = [], files.write_bytes

    def killed(path: Path, data: bytes) -> None:
        writes.append(path.name)
        if len(writes) == at:
            raise KeyboardInterrupt
        write_bytes(path, data)

    with monkeypatch.context() as patched:
        patched.setattr(files, "write_bytes", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare.freeze(world.plan())
    prepare.freeze(world.plan())
    claims, _ = thaw(json.loads((world.output / "claims.json").read_text(encoding="utf-8")))
    assert [one.name for one in claims] == ["foo-wins"]


def test_what_a_kill_before_the_first_freeze_left_is_no_ones_work(world: Any) -> None:
    setup = world.output / "work" / "setup"  # of a worker
    setup.mkdir(parents=True)
    left = ["work/setup/.lock", "work/setup/.lock.json", "claims.json", ".lock", ".matrix.json.123.tmp"]
    for name in left:  # claims were once written first
        (world.output / name).write_text("{", encoding="utf-8")
    assert len(world.plan().specs) == 4
    (world.output / "work" / "notes.txt").write_text("mine", encoding="utf-8")
    assert "is not empty and holds no matrix" in world.error()


def test_two_classes_of_one_rule_file_are_different_runs(world: Any) -> None:
    (world.root / "mine.py").write_text("class A: ...\nclass B: ...\n", encoding="utf-8")
    world.replace("- name: fixed", "- name: fixed\n    rule: mine.py:A")
    world.replace("- name: foodpo\n    pref_beta_scale: 0.5", "- name: other\n    rule: mine.py:B\n    pref_beta: 0.1")
    assert len({spec.fingerprint for spec in world.plan().specs}) == 4
