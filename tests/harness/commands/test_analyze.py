"""`python -m harness analyze` as a user meets it: files, exit codes, one-line errors, no torch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import main
from tests.reports.foreign_files import evaluation, factory, trainer_state, trl_record


def test_files_gaps_and_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, scores in (("dpo", [1, 0, 1, 0]), ("new", [1, 1, 1, 0])):
        trainer_state(tmp_path / name / "trainer_state.json", [trl_record(s, 2) for s in (1, 2)], 2, 2)
        evaluation(tmp_path / name / "eval" / "model", scores)
    output = tmp_path / "out"
    assert main(["analyze", str(tmp_path / "dpo"), str(tmp_path / "new"), "--output", str(output)]) == 0
    for name in ("training_metrics.csv", "training_curves.png", "summary.json", "log_history.json", "report.html"):
        assert (output / name).stat().st_size
    said = " ".join(capsys.readouterr().out.split())
    assert "Missing from these runs:" in said and "no rows per example" in said and "no training seed" in said
    assert "Single checkpoints are compared" in said and "new +0.250 -0.546..+1.046" in said
    summary = json.loads((output / "summary.json").read_text())
    assert summary["baseline"]["value"] == "dpo" and "--baseline NAME" in summary["baseline"]["note"]


def test_baseline_is_chosen_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, scores in (("dpo", [1, 0, 1, 0]), ("new", [1, 1, 1, 0])):
        evaluation(tmp_path / name, scores)
    named = ["analyze", str(tmp_path), "--output", str(tmp_path / "out")]
    assert main([*named, "--baseline", "new"]) == 0
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["baseline"]["value"] == "new"
    capsys.readouterr()
    assert main([*named, "--baseline", "old"]) == 2
    assert "error: --baseline old: no run of that name; there are" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("trainer_log.jsonl", '{"current_steps": 1, "total_steps": 1}\n{oops\n', "trainer_log.jsonl:2: not valid JSON"),
        ("m.csv", "step,loss\n1,x\n", "m.csv:2: 'loss' is 'x', not a number"),
        ("nothing.txt", "", "no runs found; looked for trainer_state.json"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, said: str
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / name).write_text(text)
    assert main(["analyze", str(run), "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and said in error


def test_missing_folder_and_foreign_output_leave_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    factory(tmp_path / "lf", 2, 2)
    assert main(["analyze", str(tmp_path / "absent"), "--output", str(tmp_path / "out")]) == 2
    assert "absent: no such folder or CSV file" in capsys.readouterr().err
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("x")
    assert main(["analyze", str(tmp_path / "lf"), "--output", str(mine)]) == 2
    assert "no earlier analysis" in capsys.readouterr().err
    assert [p.name for p in mine.iterdir()] == ["thesis.tex"]


def test_it_needs_no_torch(tmp_path: Path) -> None:
    factory(tmp_path / "lf", 2, 2)
    code = (
        "import sys\n"
        "from harness.cli import main\n"
        f"code = main(['analyze', {str(tmp_path / 'lf')!r}, '--output', {str(tmp_path / 'out')!r}])\n"
        "assert code == 0, code\n"
        "assert not {'torch', 'transformers', 'vllm', 'lm_eval'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
