"""Studies of several matrices: the claims, and mistakes in study.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from reports.study import judge, read_study
from reports.study.__main__ import main
from reports.study.claims import WorldScores

STUDY = """\
question: Does it?
metric: kl/reward
cost: kl_exact
window: [1, 4]
looks: [6, 10]
worlds:
  a: {says: clean labels, baseline: fixed, exploratory: [mallows]}
  b: {says: noisy labels, baseline: fixed}
claims:
  - {name: C1, says: it helps, terms: [{world: a, method: dynamic, against: fixed}], min_effect: 0.05, predicted: better}
  - {name: C2, says: there too, terms: [{world: b, method: dynamic, against: fixed}], min_effect: 0.05, predicted: better}
limits: [one model]
repeat: [make run]
machine: Two cores.
"""


def answers(gain: float, seeds: int, failed: int = 0) -> WorldScores:
    """Scores with KL of 1, 4 and 9 nats at three steps and rewards of a third of sqrt(KL), more by `gain` for one method."""
    rng = np.random.default_rng(0)
    rows = [("reference", None, 0, 0.0, 0.0)]
    rows += [
        (method, seed, step, step**2, step / 3 + own)
        for method, own in (("fixed", 0.0), ("dynamic", gain), ("mallows", 0.0))
        for seed in range(seeds)
        for step in (1, 2, 3)
    ]
    table = pd.DataFrame(
        [
            {"method": m, "seed": s, "step": t, "benchmark": "kl", "id": f"p{i}", "group": f"g{i % 10}", "kl_exact": kl}
            | {"reward": reward + 0.01 * rng.standard_normal()}
            for m, s, t, kl, reward in rows
            for i in range(20)
        ]
    )
    lost = {("dynamic", seed) for seed in range(seeds - failed, seeds)}
    gone = pd.Series(list(zip(table["method"], table["seed"], strict=True))).isin(lost)
    return WorldScores(rows=table[~gone.to_numpy()], failed=lost)


def test_a_claim_is_judged_over_seeds_and_topics_and_one_not_run_keeps_its_place(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(STUDY)
    study = read_study(tmp_path)
    first, second = judge(study, {"a": answers(0.2, 6)})
    assert first.difference == pytest.approx(0.2, abs=0.01) and (first.seeds, first.prompts) == (6, 10)
    assert first.verdict == "better by more than m" and second.verdict == "not run"
    assert second.adjusted_p is None and first.ci_low is not None and first.ci_low > 0.19
    far = study.model_copy(update={"window": (1.0, 30.0)})  # runs end at 9 nats: half of it on the axis of sqrt(KL)
    assert judge(far, {"a": answers(0.2, 6)})[0].verdict == "not comparable"
    few = judge(study, {"a": answers(0.2, 3)})[0]
    assert few.verdict == "not judged at 3 seeds" and few.adjusted_p is None and few.difference is not None


def test_claims_at_different_looks_and_failed_runs_get_no_stronger_word_than_they_may(tmp_path: Path) -> None:
    """All were charged as the smallest look, or not at all; and a failed run was left out without a word."""
    (tmp_path / "study.yaml").write_text(STUDY)
    study = read_study(tmp_path)
    early, late = judge(study, {"a": answers(0.2, 6), "b": answers(0.2, 10)})
    assert early.verdict == "better by more than m" and late.verdict == "not judged at 10 seeds"
    one = judge(study, {"a": answers(0.2, 6, failed=1)})[0]
    assert (one.seeds, one.failed, one.verdict) == (5, 1, "undecided")
    rows = answers(0.2, 6).rows
    twice = rows[~((rows["method"] == "dynamic") & (rows["seed"] == 2) & (rows["step"] < 3))]
    assert judge(study, {"a": WorldScores(rows=twice)})[0].verdict == "not comparable"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (STUDY.replace("metric:", "metrik:"), "metrik"),
        (STUDY.replace("weight", "x").replace("against: fixed}", "against: fixed, sign: 1}"), "sign"),
        ("question: [", "study.yaml"),
        (None, "study.yaml"),
    ],
)
def test_mistakes_name_the_file_and_the_key(tmp_path: Path, capsys: Any, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / "study.yaml").write_text(text)
    assert main(["page", str(tmp_path)]) == 2
    assert words in capsys.readouterr().err
    assert main(["pages"]) == 2 and main(["collect", str(tmp_path), str(tmp_path / "x")]) == 2
