"""What a matrix can show: planted effects, over what its intervals generalise, and claims over several matrices."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console

from harness.cli import main
from harness.stages.report import build
from reports.files.report import write_report
from reports.page.first import print_summary
from reports.runs.arms import arms
from reports.runs.records import MatrixData, load_matrix
from reports.runs.subset import Source, read_source
from reports.schema import read_summary
from reports.schema.verdict import Scope
from reports.summary import build_summary
from reports.verdict.claims import freeze, parse_claims
from reports.verdict.instrument import nested, scope, sensitivity
from reports.verdict.over_matrices import over_matrices
from tests.reports.builder import FIXED, Method, write_matrix

# Controls with a known effect, what they allow the report to say, and over what its intervals generalise.


SEEDS = (0, 1, 2, 3, 4, 5)
STATED = {"positive": "strong", "weak": "weak", "negative": "shuffled", "against": "fixed", "margin": 0.1, "flip": None}
CLAIM = {"name": "same", "method": "foodpo", "against": "fixed", "metric": "constraints/gold_reward", "min_effect": 0.3}
BETA = {"pref_beta": 0.1}


def write(
    root: Path,
    strong: float = 0.3,
    shuffled: float = 0.03,
    seeds: tuple[int, ...] = SEEDS,
    made: bool = True,
    **data: Any,
) -> Path:
    """A finished output: foodpo is as good as fixed; the controls gain what is said."""
    levels = {"strong": strong, "weak": 0.03 + (strong - 0.03) / 3, "shuffled": shuffled}
    roles = {"strong": "positive", "weak": "weak", "shuffled": "negative"}
    controls = [Method(name, "dataset_beta", gain, BETA) for name, gain in levels.items()]
    methods = (FIXED, Method("foodpo", "foodpo", 0.03, BETA), *controls)
    runs = write_matrix(root, methods, SEEDS, prompts=60)
    for run in runs:
        path = root / "runs" / run / "run.json"
        record = json.loads(path.read_text())
        if record["method"] in roles:
            record["planted"] = {"role": roles[record["method"]], "against": "fixed"}
        record["data"] |= {key: value(record["seed"]) for key, value in data.items()}
        path.write_text(json.dumps(record))
    config = {
        "name": "planted",
        "report": {"baseline": "fixed", "primary": "constraints/gold_reward"},
        "sensitivity": STATED,
        "claims": [CLAIM],
    }
    (root / "matrix.json").write_text(json.dumps({"name": "planted", "runs": runs, "config": config}))
    if made:
        build(root, runs, config)
    return root


def printed(root: Path) -> str:
    """Everything a reader is shown: terminal, page, Markdown, LaTeX."""
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    print_summary(root, console)
    files = [root / "report.html", root / "report.md", *(root / "tables").glob("*.tex")]
    assert len(files) > 5
    page = re.sub(r"<(script|style)\b.*?</\1>", "", files[0].read_text(), flags=re.S)
    return "\n".join([console.export_text(), page, *(path.read_text() for path in files[1:])])


NULLS = re.compile(r"(?<!not )\bequivalen\w+|does not help|do not help|no effect\b|does as well", re.I)


def test_a_matrix_that_sees_its_planted_effect_may_report_a_null(tmp_path: Path) -> None:
    summary = read_summary(write(tmp_path) / "summary.json")
    found = summary.sensitivity
    assert found is not None and found.nulls_count and found.positive.detected and not found.negative.detected
    for one in (found.positive, found.negative):
        assert one.difference is not None and one.ci_low is not None and one.ci_high is not None
        assert one.ci_low < one.difference < one.ci_high and one.standard_error and one.seeds == 6 and one.prompts == 60
    assert found.weak is not None and found.weak.detected
    assert found.sentence.startswith(
        "This matrix detected its planted effect (strong against fixed on constraints/gold_reward: +0."
    )
    assert f"it would have detected {found.positive.detectable:.3f} with chance 80 %" in found.sentence
    assert summary.claims.judged[0].verdict == "equivalent"
    text = printed(tmp_path)
    assert text.count(found.sentence[:60]) >= 3 and NULLS.search(text)
    assert summary.scope is not None and text.count(summary.scope.sentence) >= 2
    for part in (text[: text.index("DPO comparison")], (tmp_path / "report.md").read_text()):
        assert part.index("detected its planted effect") < part.index(summary.verdict.answer[0][:20]), "first of all"
    checks = {check.name: check.state for check in summary.checklist}
    assert checks["Planted effect detected, none where none was planted"] == "pass"
    labels = {(c.label, c.against) for m in summary.metrics for c in m.comparisons}
    assert ("strong", "fixed") in labels and ("foodpo", "strong") not in labels
    assert [r.label for r in summary.inference.rows] == ["foodpo"], "controls are no methods under test"


def test_a_blind_matrix_never_says_that_nothing_is_there(tmp_path: Path) -> None:
    """Its claim is the one that the matrix above calls equivalent. Of the second only the summary is made: it is written from
    the same fields."""
    blind = read_summary(write(tmp_path, strong=0.03) / "summary.json")
    text = printed(tmp_path)
    assert "failed its own controls" in text and NULLS.findall(text) == []
    assert "This matrix did not detect an effect that is there: its null results say nothing" in text
    root = write(tmp_path / "fires", shuffled=0.3, made=False)
    frozen = json.loads((root / "matrix.json").read_text())
    fires = build_summary(load_matrix(root, frozen["runs"], frozen["config"]))
    for summary, words in (
        (blind, "This matrix did not detect an effect that is there: its null results say nothing"),
        (fires, "is better where nothing was planted"),
    ):
        assert summary.sensitivity is not None and not summary.sensitivity.nulls_count
        assert words in summary.sensitivity.sentence and "failed its own controls" in summary.verdict.answer[0]
        assert summary.claims.judged[0].verdict == "undecided"


def test_a_control_is_compared_at_its_own_mean_beta(tmp_path: Path) -> None:
    write(tmp_path, made=False)
    runs = json.loads((tmp_path / "matrix.json").read_text())["runs"]
    matrix = load_matrix(tmp_path, runs, {"sensitivity": STATED})
    doubled = [dataclasses.replace(r, run_id=f"{r.run_id}x", identity={**(r.identity or {}), "params": {"pref_beta": 0.4}})
               for r in matrix.runs if r.method == "fixed"]  # fmt: skip
    wide = dataclasses.replace(matrix, runs=(*doubled, *matrix.runs))
    found = sensitivity(wide, "constraints/gold_reward", lambda *_: "none")
    assert found is not None and found.positive.against == "fixed[pref_beta=0.1]"
    along = {"benchmarks": [{"name": "kl", "kind": "kl"}], "checkpoints": [4]}
    at_kl = dataclasses.replace(matrix, config={"sensitivity": STATED, "evaluation": along})
    matched = sensitivity(at_kl, "constraints/gold_reward", lambda *_: 0.3 + 0.01 * np.arange(6.0)[:, None])
    assert matched is not None and (matched.positive.at, matched.positive.detected) == ("matched_kl", True)
    lost = sensitivity(at_kl, "constraints/gold_reward", lambda *_: "no KL")
    assert lost is not None and not lost.nulls_count and lost.positive.reason == "no KL"
    few = dataclasses.replace(matrix, runs=tuple(r for r in matrix.runs if r.seed in (0, 1, 2)))
    unjudged = sensitivity(few, "constraints/gold_reward", lambda *_: "none")
    assert unjudged is not None and not unjudged.nulls_count, "with three seeds nothing is judged"
    assert sensitivity(MatrixData(tmp_path, (), None, {}), "a/b", lambda *_: "") is None


def test_controls_are_judged_over_the_window_and_pay_for_every_look(tmp_path: Path) -> None:
    write(tmp_path, made=False)
    runs = json.loads((tmp_path / "matrix.json").read_text())["runs"]
    config = {
        "sensitivity": STATED | {"window": [1.0, 4.0]},
        "evaluation": {"benchmarks": [{"name": "kl", "kind": "kl"}], "checkpoints": [4]},
    }
    seen: list[Any] = []

    def figures(*asked: Any) -> Any:  # two-sided p .038
        seen.append(asked[-1])
        return 0.0102 + 0.01 * np.array([-1, -1, 0, 0, 1, 1.0])[:, None]

    for looks, detected in (([], True), ([6, 10], False), ([5, 10], True)):
        matrix = load_matrix(tmp_path, runs, config | {"looks": looks})
        found = sensitivity(matrix, "constraints/gold_reward", figures)
        assert found is not None and found.positive.detected is detected
        assert "over 1 to 4 nats" in found.positive.sentence
    assert set(seen) == {(1.0, 4.0)}


def test_the_report_says_over_what_it_generalises(tmp_path: Path) -> None:
    def scoped(name: str, **data: Any) -> Scope:
        root = write(tmp_path / name, made=False, **data)
        matrix = load_matrix(root, json.loads((root / "matrix.json").read_text())["runs"])
        every = arms(matrix.runs)
        return scope(matrix, every, every[0], "constraints/gold_reward")

    same = scoped("same")
    assert "All seeds train on the same pairs" in same.sentence and same.seed_spread is None
    own = {"content_hash": lambda seed: f"draw {seed}", "n_pairs": lambda seed: 10, "pool": lambda seed: 40}
    drawn = scoped("own", **own)
    assert "each seed trains on 10 of 40, 6 different draws" in drawn.sentence and drawn.seed_spread is None
    split = scoped("shared", **(own | {"content_hash": lambda seed: f"draw {seed % 3}"}))
    assert split.seed_spread is not None and "foodpo" in split.seed_spread
    (share,) = split.shares
    assert share.sd_seeds**2 == pytest.approx(share.sd_data**2 + share.sd_order**2) and share.draws == 3
    assert scope(MatrixData(tmp_path, (), None, {}), [], None, None).shares == []


def test_the_split_of_the_spread_finds_what_was_put_in() -> None:
    rng = np.random.default_rng(0)
    found = np.array([
        nested((0.3 * rng.normal(size=(4, 1)) + 0.1 * rng.normal(size=(4, 3))).tolist()) for _ in range(2000)
    ])  # fmt: skip
    assert np.mean(found[:, 1] ** 2) == pytest.approx(0.09, rel=0.1) and np.mean(found[:, 2] ** 2) == pytest.approx(
        0.01, rel=0.05
    )
    assert nested([[1.0], [2.0]]) is None and nested([[1.0, 2.0]]) is None
    assert nested([[1.0, 3.0], [2.0]]) == pytest.approx((2**0.5, 0.0, 2**0.5))


# Claims over base models and data sets: several outputs on disk through the command and the function behind it.


SHARED = {
    "name": "helps",
    "method": "foodpo",
    "against": "fixed",
    "metric": "constraints/gold_reward",
    "min_effect": 0.02,
}


def outputs(root: Path, gains: list[float], claim: dict[str, Any] | None = SHARED, frozen: bool = True) -> list[Source]:
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
    (one,) = over_matrices(sources, ["foodpo", "fixed"], "fixed", SHARED["metric"])
    effect = one.effects[0]
    assert one.declared and one.verdict in ("better", "better by more than m") and one.family_size == 1
    assert effect.mean is not None and effect.mean.n == 3 and len(effect.matrices) == 3
    shown = [row.difference or 0.0 for row in effect.matrices]
    assert effect.mean.value is not None and min(shown) < effect.mean.value < max(shown)
    assert {(row.model, row.data, row.seeds) for row in effect.matrices} == {("tiny", "train.jsonl", 5)}
    assert effect.new_low is not None and effect.mean.low is not None and effect.new_low < effect.mean.low
    assert "over 3 matrices (gain)" in one.sentence and "SD between matrices" in one.sentence
    (two,) = over_matrices(sources[:2], ["foodpo"], "fixed", SHARED["metric"])
    assert two.verdict == "undecided" and two.adjusted_p is None and "two matrices are too few" in two.sentence
    assert over_matrices(sources[:1], ["foodpo"], "fixed", SHARED["metric"]) == []


def test_what_only_some_froze_is_exploratory_and_opposite_effects_decide_nothing(tmp_path: Path) -> None:
    sources = outputs(tmp_path, [0.3, -0.3, 0.3], None)
    (one,) = over_matrices(sources, ["foodpo", "fixed"], "fixed", SHARED["metric"])
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


def test_claim_between_two_methods_answers_without_the_baseline(tmp_path: Path) -> None:
    """A matrix whose claim does not name the baseline is answered by that claim, also where the baseline was not run."""
    methods = (FIXED, Method("foodpo", "foodpo", 0.3, BETA), Method("head", "beta_head", 0.03, BETA))
    runs = write_matrix(tmp_path, methods, SEEDS, prompts=60, missing=[("fixed", seed) for seed in SEEDS])
    claim = CLAIM | {"against": "head", "min_effect": 0.05}
    config = {"claims": [claim], "report": {"baseline": "fixed", "primary": claim["metric"]}}
    (tmp_path / "matrix.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "claims.json").write_text(json.dumps(freeze(parse_claims([claim]))))
    write_report(tmp_path, runs)
    summary = read_summary(tmp_path / "summary.json")
    assert [(r.label, r.against, r.difference.value is None) for r in summary.inference.rows] == [
        ("foodpo", "fixed", True),
        ("head", "fixed", True),
        ("foodpo", "head", False),
    ]
    (said, *_) = summary.verdict.answer
    assert said.startswith("foodpo is better than head by more than 0.05: foodpo +0.2")
    console = Console(width=80, record=True, file=(tmp_path / "terminal.txt").open("w"))
    print_summary(tmp_path, console)
    lines = console.export_text().splitlines()
    assert len(lines) <= 25 and any(line.startswith("foodpo vs") for line in lines)
    assert "foodpo vs head" in (tmp_path / "report.md").read_text()
