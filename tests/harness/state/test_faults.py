"""A sample of the fault campaign (`make faults`): after every kill or fault a restart ends with the undisturbed results."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FAULTS, ARTIFACTS = 6, 3


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_restarts_end_with_the_undisturbed_results(tmp_path: Path) -> None:
    """Also that the same matrix twice gives the same files, and that damaged artifacts, some kinds of them, are made anew."""
    if sys.platform != "linux":
        pytest.skip("the campaign forks, and adopts orphans, as Linux does")
    outcomes = tmp_path / "outcomes.json"
    words = f"-m tests.faults --runs {FAULTS} --seed 1 --artifacts {ARTIFACTS} --json".split()
    result = subprocess.run(
        [sys.executable, *words, str(outcomes)], capture_output=True, text=True, cwd=ROOT, timeout=1700
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    found = json.loads(outcomes.read_text())
    records = found["outcomes"]
    assert len(records) == FAULTS + ARTIFACTS and all(record["good"] for record in records)
    assert {"kill", "damage"} < {record["kind"] for record in records}
    assert {"train", "evaluate", "judge"} & {record["role"] for record in records}
    assert found["summary"]["struck"] == found["summary"]["same_results"] == len(records)
