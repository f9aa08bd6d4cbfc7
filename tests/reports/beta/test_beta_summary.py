"""`summary.beta` on run directories: its schema, what it says of each kind of run, and its figures."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from reports.beta import beta_summary
from reports.beta.cells import within
from reports.beta.learned import probe
from reports.beta.matrix import _linked
from reports.beta.null import sigmoid_loss
from reports.beta.run import FIXED, NO_ROWS, read_rows
from reports.panels.base import looks, style
from reports.panels.beta import PANELS
from reports.panels.beta_drawing import chosen
from reports.runs.arms import arms
from reports.runs.records import MatrixData, ReportError, load_matrix, load_run
from reports.schema import Summary
from reports.schema.beta import Beta
from tests.reports.builder import FIXED as FIXED_METHOD
from tests.reports.builder import FOODPO, HEAD, Method, write_matrix, write_run
from tests.simulation.trends import CLOCK, saturating

SCHEMA = json.loads((Path(__file__).parents[3] / "reports" / "summary.schema.json").read_text(encoding="utf-8"))
PERMUTED = Method("permuted", "permuted", 0.03, {"pref_beta": 0.1})


def typed(beta: Beta) -> Summary:
    """A summary with nothing but this part."""
    return Summary.model_construct(beta=beta)


def check(beta: Beta) -> None:
    document = {"$schema": SCHEMA["$schema"], "$ref": "#/$defs/Beta", "$defs": SCHEMA["$defs"]}
    plain = json.loads(json.dumps(beta.plain(), allow_nan=False))
    jsonschema.Draft202012Validator(document).validate(plain)
    assert Beta.model_validate(plain) == beta


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> MatrixData:
    root = tmp_path_factory.mktemp("matrix")
    ids = write_matrix(root, (FIXED_METHOD, FOODPO, PERMUTED), seeds=(0, 1, 2, 3), steps=24)
    return load_matrix(root, ids)


@pytest.fixture(scope="module")
def beta(matrix: MatrixData) -> Beta:
    return beta_summary(matrix, arms(matrix.runs))


def test_schema_holds(beta: Beta) -> None:
    check(beta)


def test_fixed_beta_is_null_with_a_reason(beta: Beta) -> None:
    fixed = beta.runs[0]
    assert not fixed.dynamic and fixed.examples is None and fixed.reason == FIXED
    assert fixed.perplexity_quantiles


def test_dynamic_run_has_every_target(beta: Beta) -> None:
    run = beta.runs[4]
    rows = {r.against: r for r in run.examples}
    assert rows["loss"].contains_beta and not rows["delta"].contains_beta
    assert rows["log_prompt_perplexity"].raw.spearman.value == pytest.approx(1)
    assert rows["loss"].partial.log_perplexity.pearson.reason.startswith("nothing varies")
    assert rows["prompt_tokens"].reason
    assert run.learned.elasticity.value == pytest.approx(1)
    assert run.learned.probe.reason
    assert run.null.mean < 0 and run.steps and run.lags


def test_groups_say_what_is_within_between_and_pooled(beta: Beta) -> None:
    everything, fixed, foodpo, _ = beta.matrix.groups
    assert everything.label == "all runs" and everything.dynamic_runs == 8 and fixed.reason
    row = next(r for r in foodpo.examples if r.against == "delta")
    assert row.runs == 4 and row.simpson.flag is False
    assert row.linked and row.linked.low is not None and row.linked.low <= row.linked.value <= row.linked.high
    assert all(one.linked is None for one in (*everything.examples, *foodpo.steps))
    weight = next(r for r in foodpo.examples if r.against == "gradient_weight")
    assert weight.linked.value is None and "contains beta" in weight.linked.reason
    assert {s.benchmark for s in foodpo.scores} == {"constraints", "capitals"}
    assert any(p.control for p in beta.matrix.profiles)


def test_collapse_is_reported(tmp_path: Path) -> None:
    run_id = write_run(tmp_path, HEAD, 0, steps=5)
    matrix = load_matrix(tmp_path, [run_id])
    collapse = beta_summary(matrix, arms(matrix.runs)).runs[0].collapse
    assert collapse.step == 5 and "variance" in collapse.reason


def test_run_without_rows_is_analysed_by_steps(tmp_path: Path) -> None:
    run_id = write_run(tmp_path, FOODPO, 0, steps=20)
    (tmp_path / "runs" / run_id / "example_metrics.parquet").unlink()
    matrix = load_matrix(tmp_path, [run_id])
    beta = beta_summary(matrix, arms(matrix.runs))
    check(beta)
    run = beta.runs[0]
    assert run.examples is None and run.reason == NO_ROWS and run.steps


def test_rows_of_other_tools_need_few_columns(tmp_path: Path) -> None:
    run_id = write_run(tmp_path, FOODPO, 0)
    path = tmp_path / "runs" / run_id / "example_metrics.parquet"
    rng = np.random.default_rng(0)
    pd.DataFrame({"step": np.arange(60), "dynamic_beta": rng.random(60), "loss": rng.random(60)}).to_parquet(path)
    matrix = load_matrix(tmp_path, [run_id])
    beta = beta_summary(matrix, arms(matrix.runs))
    check(beta)
    assert [r.against for r in beta.runs[0].examples] == ["loss"] and beta.runs[0].null is None
    for columns, words in (
        ({"step": [1], "loss": [1.0]}, "'dynamic_beta' is missing"),
        ({"step": [1], "dynamic_beta": [0.1], "loss": ["low"]}, "a column of numbers holds something else"),
    ):
        pd.DataFrame(columns).to_parquet(path)
        with pytest.raises(ReportError, match=words):
            read_rows(load_run(tmp_path / "runs" / run_id))
    path.write_bytes(b"PAR1 no")
    with pytest.raises(ReportError, match="not a readable parquet"):
        read_rows(load_run(tmp_path / "runs" / run_id))


def test_the_two_answers_of_a_pair_under_kto_are_two_examples(tmp_path: Path) -> None:
    run_id = write_run(tmp_path, FOODPO, 0)
    path = tmp_path / "runs" / run_id / "example_metrics.parquet"
    frame = pd.DataFrame({"step": np.arange(40) // 4, "example_id": [f"e{i % 20}" for i in range(40)]})
    frame["dynamic_beta"] = np.random.default_rng(0).random(40)
    frame["chosen_tokens"] = [5.0 if i < 20 else None for i in range(40)]
    frame["rejected_tokens"] = [None if i < 20 else 5.0 for i in range(40)]
    frame.to_parquet(path)
    rows = read_rows(load_run(tmp_path / "runs" / run_id))
    assert rows is not None and np.unique(rows.example).size == 40, "no example was seen twice"
    frame.drop(columns=["chosen_tokens"]).to_parquet(path)
    rows = read_rows(load_run(tmp_path / "runs" / run_id))
    assert rows is not None and np.unique(rows.example).size == 20


def test_large_runs_are_thinned_in_order(tmp_path: Path) -> None:
    run_id = write_run(tmp_path, FOODPO, 0, steps=8)
    rows = read_rows(load_run(tmp_path / "runs" / run_id), most=20)
    assert rows is not None and rows.counts.used == 20 and rows.counts.recorded == 64
    assert (np.diff(rows.columns["step"]) >= 0).all()


def test_probe_tells_hidden_from_perplexity(tmp_path: Path) -> None:
    run_id = write_run(tmp_path, FOODPO, 0)
    path = tmp_path / "runs" / run_id
    rng = np.random.default_rng(0)
    states = rng.normal(size=(256, 16))
    table = {"example_id": [f"e{i}" for i in range(256)], "dynamic_beta": 0.1 * np.exp(0.3 * states[:, 0])}
    table |= {"log_prompt_perplexity": rng.normal(3, 0.5, 256)}
    pd.DataFrame(table | {f"pc_{k:02d}": states[:, k] for k in range(16)}).to_parquet(path / "beta_probe.parquet")
    found = probe(load_run(path))
    assert found.n == 256 and found.hidden.value > 0.95 and found.perplexity.value < 0.05
    (path / "beta_probe.parquet").write_bytes(b"broken")
    with pytest.raises(ReportError, match=r"beta_probe\.parquet: not a readable parquet"):
        probe(load_run(path))


def test_every_panel_draws_its_rows(matrix: MatrixData, beta: Beta) -> None:
    import matplotlib.pyplot as plt

    look = looks([a.label for a in arms(matrix.runs)], "fixed")
    with style():
        for panel in PANELS:
            rows = panel.rows(matrix, typed(beta))
            assert rows and set().union(*rows) <= set(panel.columns), panel.name
            figure = panel.draw(rows, look)
            assert figure.axes[0].has_data()
            plt.close(figure)


def test_nothing_to_draw_without_a_moving_beta(tmp_path: Path) -> None:
    run_id = write_run(tmp_path, FIXED_METHOD, 0)
    matrix = load_matrix(tmp_path, [run_id])
    beta = beta_summary(matrix, arms(matrix.runs))
    check(beta)
    assert all(panel.rows(matrix, typed(beta)) == [] for panel in PANELS)


def test_of_many_arms_one_of_each_method_comes_first() -> None:
    labels = [f"{m}[c={c}]" for m in "abc" for c in range(5)]
    assert chosen(labels, 4) == ["a[c=0]", "a[c=1]", "b[c=0]", "c[c=0]"]


def test_a_trend_that_runs_share_is_no_link() -> None:
    """The mean of the runs' own correlations announces it in every matrix; found by `linked` in about one of twenty."""
    rng, announced = np.random.default_rng(5), {"linked": 0, "within": 0}
    for _ in range(60):
        beta, delta = saturating(rng, 5)
        columns = [{"dynamic_beta": b, "delta": d, "step": CLOCK} for b, d in zip(beta, delta, strict=True)]
        own = [float(spearmanr(b, sigmoid_loss(b, d)).statistic) for b, d in zip(beta, delta, strict=True)]
        for name, found in (("linked", _linked(columns, "loss")), ("within", within(own))):
            announced[name] += found.low > 0 or found.high < 0
    assert announced["within"] >= 55 and announced["linked"] <= 8
    short = [columns[0], {k: v[:-1] for k, v in columns[1].items()}]
    assert _linked(short, "loss").reason.startswith("takes two runs") and _linked(columns[:1], "delta").value is None
