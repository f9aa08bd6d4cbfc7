"""What the report says of the engines that measured the policies."""

from __future__ import annotations

import json
import re
from pathlib import Path

from reports.compare.engine import engine_summary
from reports.files.report import write_report
from reports.runs.records import load_matrix
from tests.reports.builder import FIXED, FOODPO, write_matrix


def measured(root: Path, engines: dict[str, str]) -> list[str]:
    ids = write_matrix(root, [FIXED, FOODPO], seeds=(0,))
    for name in ids:
        for path in (root / "runs" / name / "scores").glob("*.json"):
            scores = json.loads(path.read_text(encoding="utf-8"))
            path.write_text(json.dumps(scores | {"engine": engines[name.split("-")[0]]}), encoding="utf-8")
    return ids


def test_policies_measured_by_different_engines_are_named(tmp_path: Path) -> None:
    ids = measured(tmp_path, {"fixed": "vllm 1 (float32)", "foodpo": "vllm 1 (bfloat16)"})
    found = engine_summary(load_matrix(tmp_path, ids)).measured_by
    assert found.engines == {"vllm 1 (bfloat16)": [ids[1]], "vllm 1 (float32)": [ids[0]]}
    assert "measured by 2 different engines (vllm 1 (bfloat16) 1 of them; vllm 1 (float32)" in found.sentence
    write_report(tmp_path, ids)
    for name in ("report.md", "report.html"):
        assert "measured by 2 different engines" in re.sub("<[^>]+>", "", (tmp_path / name).read_text(encoding="utf-8"))


def test_one_engine_needs_no_sentence(tmp_path: Path) -> None:
    ids = measured(tmp_path, {"fixed": "vllm 1 (float32)", "foodpo": "vllm 1 (float32)"})
    found = engine_summary(load_matrix(tmp_path, ids)).measured_by
    assert found.plain() == {"engines": {"vllm 1 (float32)": sorted(ids)}, "sentence": None}
