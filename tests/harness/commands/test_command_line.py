"""Help, completion, JSON and colours, for every verb alike."""

import json
import shutil
import subprocess
from typing import Any

import pytest

from harness.cli import build_parsers
from harness.commands import VERBS
from harness.commands.completion import script
from harness.prepare import freeze


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_examples_and_fits_80_columns(verb: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        build_parsers(verb)[0].parse_args([verb, "--help"])
    text = capsys.readouterr().out
    assert "examples:\n" in text and max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_verb_and_option(shell: str) -> None:
    text = script(shell)
    assert all(word in text for word in (*VERBS, "dry-run", "dataset-dir", "watch"))
    program = shutil.which(shell)
    if program is not None:
        checked = subprocess.run([program, "-n", "/dev/stdin"], input=text, text=True, capture_output=True, check=False)
        assert checked.returncode == 0, checked.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["dpo-beta-harness", "run-m"], {"run-matrix"}),
        (["python", "-m", "harness", "import-"], {"import-llamafactory", "import-trl"}),
        (["python", "-m", "harness", "status", "--j"], {"--json"}),
        (["dpo-beta-harness", "run-matrix", "--dr"], {"--dry-run"}),
    ],
)
def test_bash_completes(words: list[str], expected: set[str]) -> None:
    line = " ".join(words)
    asked = f'{script("bash")}\nCOMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _dpo_beta_harness; echo "${{COMPREPLY[@]}}"'
    result = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True)
    assert set(result.stdout.split()) == expected


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("dpo-beta-harness run-m", {"run-matrix"}),
        ("python -m harness import-", {"import-llamafactory", "import-trl"}),
        ("python -m harness status --j", {"--json"}),
        ("python other.py --j", set()),
    ],
)
def test_fish_completes(line: str, expected: set[str]) -> None:
    asked = f"{script('fish')}\ncomplete -C '{line}'"
    result = subprocess.run(["fish", "--no-config", "-c", asked], capture_output=True, text=True, check=True)
    assert {found.split("\t")[0] for found in result.stdout.splitlines()} == expected
    assert result.stderr == ""


def test_a_dry_run_as_json(world: Any, cli: Any) -> None:
    result = cli("run-matrix", world.config, "--output", world.output, "--dry-run", "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert [run["run_id"] for run in found["runs"]] == [spec.run_id for spec in world.plan().specs]
    assert found["matrix"] == "small" and found["estimate"]["memory_bytes"] > 0 and found["stages"]
    result = cli("run-matrix", world.config, "--output", world.output, "--json")
    assert result.returncode == 2 and "--json goes with --dry-run" in result.stderr
    assert not world.output.exists()


def test_clean_as_json(world: Any, cli: Any) -> None:
    freeze(world.plan())
    old = world.output / "runs" / "old-000000000000"
    old.mkdir(parents=True)
    (old / "run.json").write_text("{}", encoding="utf-8")
    found = json.loads(cli("clean", "--output", world.output, "--json").stdout)
    assert [item["path"] for item in found["items"]] == ["runs/old-000000000000"] and found["removed"] is False
    assert old.is_dir()
    assert json.loads(cli("clean", "--output", world.output, "--json", "--yes").stdout)["removed"] is True
    assert not old.exists()
