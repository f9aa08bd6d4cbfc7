"""Claims over base models and data sets: several outputs on disk through the command and the function behind it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.cli import main
from reports.runs.subset import Source, read_source
from reports.verdict.claims import freeze, parse_claims
from reports.verdict.over_matrices import over_matrices
from tests.reports.builder import FIXED, Method, write_matrix

CLAIM = {
    "name": "helps",
    "method": "foodpo",
    "against": "fixed",
    "metric": "constraints/gold_reward",
    "min_effect": 0.02,
}


def outputs(root: Path, gains: list[float], claim: dict[str, Any] | None = CLAIM, frozen: bool = True) -> list[Source]:
    found = []
    for number, gain in enumerate(gains):
        path = root / f"matrix{number}"
        seeds = range(10 * number, 10 * number + 5)
        write_matrix(path, [FIXED, Method("foodpo", "foodpo", gain)], seeds=list(seeds), prompts=20)
        config = yaml.safe_load((path / "matrix.yaml").read_text())
        config["claims"] = [] if claim is None else [claim]
        (path / "matrix.yaml").write_text(yaml.safe_dump(config))
        if claim is not None and frozen:
            (path / "claims.json").write_text(
                json.dumps(freeze(parse_claims([claim])) | {"frozen": "2026-01-01T00:00:00+00:00"})
            )
        found.append(read_source(path))
    return found


def test_three_matrices_are_judged_and_two_are_too_few(tmp_path: Path) -> None:
    sources = outputs(tmp_path, [0.3, 0.33, 0.28])
    (one,) = over_matrices(sources, ["foodpo", "fixed"], "fixed", CLAIM["metric"])
    effect = one.effects[0]
    assert one.declared and one.verdict in ("better", "better by more than m") and one.family_size == 1
    assert effect.mean is not None and effect.mean.n == 3 and len(effect.matrices) == 3
    shown = [row.difference or 0.0 for row in effect.matrices]
    assert effect.mean.value is not None and min(shown) < effect.mean.value < max(shown)
    assert {(row.model, row.data, row.seeds) for row in effect.matrices} == {("tiny", "train.jsonl", 5)}
    assert effect.new_low is not None and effect.mean.low is not None and effect.new_low < effect.mean.low
    assert "over 3 matrices (gain)" in one.sentence and "SD between matrices" in one.sentence
    (two,) = over_matrices(sources[:2], ["foodpo"], "fixed", CLAIM["metric"])
    assert two.verdict == "undecided" and two.adjusted_p is None and "two matrices are too few" in two.sentence
    assert over_matrices(sources[:1], ["foodpo"], "fixed", CLAIM["metric"]) == []


def test_what_only_some_froze_is_exploratory_and_opposite_effects_decide_nothing(tmp_path: Path) -> None:
    sources = outputs(tmp_path, [0.3, -0.3, 0.3], None)
    (one,) = over_matrices(sources, ["foodpo", "fixed"], "fixed", CLAIM["metric"])
    assert not one.declared and one.name == "foodpo against fixed" and one.verdict == "undecided"
    assert one.effects[0].share is not None and one.effects[0].share > 0.8
    other = outputs(tmp_path / "other", [0.3, 0.3, 0.3], frozen=False)
    (late,) = over_matrices(other, [], None, None)
    assert not late.declared and "exploratory" in late.sentence


def test_the_command_says_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources = outputs(tmp_path, [0.3, 0.31])
    named = [part for source in sources for part in ("--from", str(source.root))]
    assert main(["compare", "fixed", "foodpo", *named, "--output", str(tmp_path / "out")]) == 0
    assert "two matrices are too few" in capsys.readouterr().out
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["over_matrices"][0]["verdict"] == "undecided"
