"""Runs of other tools: what the real tools wrote is read whole, damaged files name themselves, and gaps are said."""

import json
import math
import re
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import reports
from reports.files.metrics import COLUMNS, MEASURES, training_rows
from reports.foreign.analysis import analyse
from reports.foreign.convert import place
from reports.foreign.detect import find_runs
from reports.foreign.synonyms import SYNONYMS, found_names
from reports.runs.records import ReportError, load_matrix
from reports.statistics.intervals import welch
from reports.writing import write_csv
from tests.reports.builder import FIXED, FOODPO, write_matrix
from tests.reports.foreign_files import evaluation, factory, factory_line, trainer_state, trl_record

SCHEMA = json.loads((Path(reports.__file__).parent / "summary.schema.json").read_text())
FILES = ("training_metrics.csv", "training_curves.png", "summary.json", "log_history.json", "report.html", "report.md")


def summary_of(output: Path) -> dict[str, Any]:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in summary.json")

    for name in FILES:
        assert (output / name).stat().st_size
    summary = json.loads((output / "summary.json").read_text(), parse_constant=refuse)
    jsonschema.Draft202012Validator(SCHEMA).validate(summary)
    for run in summary["runs"]:
        inner = json.loads((output / "runs" / run["run_id"] / "summary.json").read_text(), parse_constant=refuse)
        jsonschema.Draft202012Validator(SCHEMA).validate(inner)
    return summary


def analysed(named: list[Path], output: Path, baseline: str | None = None) -> dict[str, Any]:
    """The summary of an analysis, whose files all hold their schema."""
    analyse(named, output, baseline)
    return summary_of(output)


def missing(summary: dict[str, Any]) -> dict[str, list[str]]:
    return {g["what"]: g["runs"] for g in summary["foreign"]["gaps"]}


@pytest.fixture(scope="module")
def trl_output(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two steps of trl.DPOTrainer leave behind, with two checkpoints and an evaluation."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    directory = tmp_path_factory.mktemp("trl") / "dpo"
    rows = [{"prompt": f"Q{i}?", "chosen": f" yes {i}", "rejected": f" no {i}"} for i in range(6)]
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny_model),
        args=DPOConfig(
            output_dir=str(directory),
            max_steps=2,
            per_device_train_batch_size=2,
            logging_steps=1,
            save_steps=1,
            eval_strategy="steps",
            eval_steps=2,
            report_to=[],
            use_cpu=True,
            bf16=False,
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(rows[:2]),
        processing_class=AutoTokenizer.from_pretrained(tiny_model),
    )
    result = trainer.train()
    trainer.save_metrics("train", result.metrics)
    return directory


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two random models scored by lm-eval itself on the shipped tasks, written by its EvaluationTracker."""
    from lm_eval import simple_evaluate
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.models.huggingface import HFLM

    from evals.lm_eval.run import load_task
    from trainers.tiny import build_tiny_model

    root = tmp_path_factory.mktemp("lm_eval")
    for seed in (0, 1):
        model = build_tiny_model(root / f"model{seed}", seed=seed)
        lm = HFLM(pretrained=str(model), device="cpu", dtype="float32", batch_size=8, max_length=512)
        tracker = EvaluationTracker(output_path=str(root / f"eval{seed}"))
        tasks = [load_task(name, None)[0] for name in ("capitals", "word_arithmetic")]
        output = simple_evaluate(
            lm, tasks=tasks, limit=8, log_samples=True, bootstrap_iters=10, evaluation_tracker=tracker
        )
        samples = output.pop("samples")
        tracker.save_results_aggregated(results=output, samples=samples)
        for name, rows in samples.items():
            tracker.save_results_samples(task_name=name, samples=rows)
    return root


def test_a_real_trl_run_is_read_whole(trl_output: Path, tmp_path: Path) -> None:
    assert not (trl_output / "trainer_state.json").exists()  # so the newest checkpoint counts
    summary = analysed([trl_output], tmp_path / "out")
    real = json.loads((trl_output / "checkpoint-2" / "trainer_state.json").read_text())["log_history"]
    table = pd.read_csv(tmp_path / "out" / "training_metrics.csv")
    assert list(table.columns) == list(COLUMNS)
    steps = [r for r in real if "loss" in r]
    assert len(steps) == 2
    shared = [c for c in MEASURES if c in steps[0]]
    assert {"loss", "grad_norm", "learning_rate", "rewards/margins", "logps/chosen", "epoch", "step"} <= set(shared)
    for column in shared:
        assert table[column].tolist() == pytest.approx([r[column] for r in steps])
    run = summary["runs"][0]
    assert (run["state"], run["step"], run["total_steps"], run["seed"]) == ("done", 2, 2, None)
    history = json.loads((tmp_path / "out" / "log_history.json").read_text())[run["run_id"]]
    assert any("eval_loss" in r for r in history)
    source = summary["foreign"]["sources"][0]
    assert "checkpoint-2/trainer_state.json" in source["files"] and source["results"]["train_loss"] > 0
    lacks = missing(summary)
    assert {"no rows per example", "no column of beta", "no training seed", "no scores"} <= set(lacks)
    assert "no training log" not in lacks
    assert "No scores were found" in summary["verdict"]["answer"][0]


def test_real_lm_eval_folders_are_paired(evaluated: Path, tmp_path: Path) -> None:
    summary = analysed([evaluated / "eval0", evaluated / "eval1"], tmp_path / "out")
    assert [r["label"] for r in summary["runs"]] == ["eval0", "eval1"]
    raw = {}
    for seed in (0, 1):
        path = next((evaluated / f"eval{seed}").rglob("samples_capitals_*.jsonl"))
        raw[seed] = [json.loads(line) for line in path.read_text().splitlines()]
    entry = next(m for m in summary["metrics"] if (m["benchmark"], m["metric"]) == ("capitals", "acc"))
    comparison = entry["comparisons"][0]
    checkpoint = comparison["checkpoints"][0]
    difference = np.array([b["acc"] - a["acc"] for a, b in zip(raw[0], raw[1], strict=True)])
    assert (comparison["label"], comparison["against"], checkpoint["n"]) == ("eval1", "eval0", 8)
    assert checkpoint["difference"]["value"] == pytest.approx(difference.mean())
    assert checkpoint["wins"] == (difference > 0).sum() and checkpoint["losses"] == (difference < 0).sum()
    flips = int((difference != 0).sum())
    if flips:
        expected = stats.binomtest(int((difference > 0).sum()), flips).pvalue
        assert checkpoint["test"]["p_value"] == pytest.approx(expected)
    assert comparison["verdict"] == "undecided" and "Single checkpoints" in summary["verdict"]["answer"][0]
    assert comparison["crossed_test"]["p_value"] is None  # one run each: no claim about the method
    assert not summary["foreign"]["unpaired"] and not summary["foreign"]["pairing"]
    results = json.loads(next((evaluated / "eval0").rglob("results_*.json")).read_text())["results"]
    level = entry["methods"][0]["mean"]["value"]
    assert level == pytest.approx(results["capitals"]["acc,none"])
    page = (tmp_path / "out" / "report.html").read_text()
    assert "seed None" not in page and "Question: Rosa has 3 lemons" in page  # answers of the generated task


def test_newest_checkpoint_wins_and_an_older_state_does_not(tmp_path: Path) -> None:
    run = tmp_path / "run"
    trainer_state(run / "checkpoint-2" / "trainer_state.json", [trl_record(s, 12) for s in (1, 2)], 2, 12)
    trainer_state(run / "checkpoint-10" / "trainer_state.json", [trl_record(s, 12) for s in range(1, 11)], 10, 12)
    found = find_runs([run])[0]
    assert (found.step, found.state, len(found.steps)) == (10, "running", 10)
    trainer_state(run / "trainer_state.json", [trl_record(s, 12) for s in range(1, 13)], 12, 12)
    assert (find_runs([run])[0].state, find_runs([run])[0].files) == ("done", [run / "trainer_state.json"])


def test_llamafactory_alone_and_beside_a_state_file(tmp_path: Path) -> None:
    factory(tmp_path / "lf", 4, 4, "seed: 7\npref_beta: 0.2\npref_loss: sigmoid\nmodel_name_or_path: base\n")
    run = find_runs([tmp_path / "lf"])[0]
    assert (run.state, run.seed, run.settings["pref_beta"], run.model) == ("done", 7, 0.2, "base")
    assert run.steps[0]["learning_rate"] == 2.777777777777778e-05
    assert run.steps[0]["rewards/accuracies"] == 0.4000000059604645
    assert run.steps[0]["elapsed_time"] == "0:00:27"
    both = tmp_path / "killed"
    factory(both, 5, 8, ended=False)
    trainer_state(both / "checkpoint-3" / "trainer_state.json", [trl_record(s, 8) for s in (1, 2, 3)], 3, 8)
    with (both / "trainer_log.jsonl").open("a") as log:
        log.write('{"current_steps": 6, "total_st')  # killed while writing
    run = find_runs([both])[0]
    assert [r["step"] for r in run.steps] == [1, 2, 3, 4, 5] and (run.step, run.state) == (5, "running")
    assert "rewards/margins" in run.steps[2] and "rewards/margins" not in run.steps[3]
    assert any("2 steps after the last saved state" in note for note in run.notes)


def test_a_resumed_log_counts_the_later_record(tmp_path: Path) -> None:
    factory(tmp_path / "lf", 0, 4, ended=False)
    lines = [factory_line(s, 4, loss=loss) for s, loss in ((1, 0.9), (2, 0.8), (3, 0.7), (2, 0.5), (3, 0.4), (4, 0.3))]
    (tmp_path / "lf" / "trainer_log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [r["loss"] for r in find_runs([tmp_path / "lf"])[0].steps] == [0.9, 0.5, 0.4, 0.3]


@pytest.mark.parametrize(
    ("logged", "column"),
    [
        ("beta", "dynamic_beta"),
        ("beta/mean", "dynamic_beta"),
        ("rewards/beta", "dynamic_beta"),
        ("beta_dpo/beta_used", "dynamic_beta"),
        ("pref_beta", "dynamic_beta"),
        ("train/beta", "dynamic_beta"),
        ("Train/Global_Step", "step"),
        ("lr", "learning_rate"),
        ("prompt_ppl", "prompt_perplexity"),
    ],
)
def test_other_names_are_found(logged: str, column: str) -> None:
    assert found_names(["x", logged]) == {column: logged}


def test_synonyms_are_unambiguous_and_own_names_win() -> None:
    names = [n for others in SYNONYMS.values() for n in others]
    assert len(set(names)) == len(names) and not set(names) & set(MEASURES)
    assert found_names(["beta", "dynamic_beta"])["dynamic_beta"] == "dynamic_beta"
    assert "prompt_perplexity" not in found_names(["loss", "perplexity"])  # exp(eval_loss) in most scripts
    assert found_names(["beta", "perplexity"])["prompt_perplexity"] == "perplexity"


def test_dynamic_beta_under_another_name_is_correlated_over_steps(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    beta = 0.1 + 0.02 * rng.random(40)
    delta = rng.normal(1, 0.5, 40)
    records = [
        trl_record(s, 40, **{"beta/mean": b, "delta": d, "loss": math.log1p(math.exp(-b * d))})
        for s, b, d in zip(range(1, 41), beta, delta, strict=True)
    ]
    trainer_state(tmp_path / "head" / "trainer_state.json", records, 40, 40)
    trainer_state(tmp_path / "dpo" / "trainer_state.json", [trl_record(s, 40) for s in range(1, 41)], 40, 40)
    summary = analysed([tmp_path / "head", tmp_path / "dpo"], tmp_path / "out")
    rows = {r["against"]: r for r in summary["beta"]["runs"][0]["steps"]}
    expected = stats.spearmanr(beta, delta).statistic
    assert rows["delta"]["raw"]["spearman"]["value"] == pytest.approx(expected, abs=1e-6)  # kept to six digits
    assert summary["foreign"]["sources"][0]["columns"] == {"dynamic_beta": "beta/mean"}
    assert summary["foreign"]["sources"][0]["beta"]["kind"] == "dynamic"
    lacks = missing(summary)
    assert lacks["beta differs"] == ["head", "dpo"] and lacks["no column of beta"] == ["dpo"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "dynamic_beta over logged steps" in page and "not comparable" in page


def test_losses_of_one_fixed_beta_are_comparable(tmp_path: Path) -> None:
    for name, beta in (("a", 0.1), ("b", 0.1), ("c", 0.3)):
        factory(tmp_path / name, 3, 3, f"pref_beta: {beta}\n")
    for other, said in (("b", set()), ("c", {"beta differs"})):
        found = missing(analysed([tmp_path / "a", tmp_path / other], tmp_path / f"with-{other}"))
        assert {"beta differs", "beta is not known for every run"} & set(found) == said


def test_documents_pair_by_hash_not_by_number_and_other_prompts_are_said(tmp_path: Path) -> None:
    evaluation(tmp_path / "a" / "m", [1, 0, 1, 1, 0, 1])
    evaluation(tmp_path / "b" / "m", [0, 1, 1, 0, 1, 1], first=2)  # documents 2..7 under the numbers 0..5
    evaluation(tmp_path / "c" / "m", [1, 1, 1, 0, 0, 1], shots=5)  # those of a, put with other prompts
    summary = analysed([tmp_path / "a", tmp_path / "b", tmp_path / "c"], tmp_path / "out")
    checkpoint = summary["metrics"][0]["comparisons"][0]["checkpoints"][0]
    assert checkpoint["n"] == 4 and (checkpoint["wins"], checkpoint["losses"]) == (1, 2)
    (note,) = summary["foreign"]["pairing"]
    assert "6 documents were put with different prompts" in note and "0, 5" in note


def test_without_samples_or_shared_documents_intervals_are_unpaired(tmp_path: Path) -> None:
    evaluation(tmp_path / "base", [1, 0, 1, 1, 0, 1, 1, 1])
    evaluation(tmp_path / "far", [0, 1, 0, 0, 1, 0], first=100)
    evaluation(tmp_path / "bare", [0, 1, 0, 1], samples=False)
    summary = analysed([tmp_path / "base", tmp_path / "far", tmp_path / "bare"], tmp_path / "out")
    rows = {r["label"]: r for r in summary["foreign"]["unpaired"]}
    assert set(rows) == {"far", "bare"} and "scores without samples" in missing(summary)
    a, b = np.array([0, 1, 0, 1.0]), np.array([1, 0, 1, 1, 0, 1, 1, 1.0])
    assert rows["bare"]["difference"]["value"] == pytest.approx(a.mean() - b.mean())
    assert rows["bare"]["reason"] == "samples were not kept" and rows["bare"]["n"] == 4
    assert rows["far"]["reason"] == "no document in common with the baseline"
    assert [r["difference"]["value"] for r in summary["inference"]["rows"]] == [None, None]
    assert "No documents could be paired" in summary["verdict"]["answer"][0]
    states = {c["name"]: c["state"] for c in summary["checklist"]}
    assert states["Equal tuning budget"] == states["Failed runs listed"] == "missing"
    low, high = stats.binomtest(6, 8).proportion_ci(method="wilson")
    shown = re.sub(r"<[^>]*>", "", (tmp_path / "out" / "report.html").read_text())
    assert f"{low:.3f} to {high:.3f} over prompts" in shown
    only = tmp_path / "only"
    assert analysed([tmp_path / "bare"], only)["foreign"]["unpaired"][0]["difference"] is None


def _welch(rng: np.random.Generator, level: float, spread: float, n: int, m: int) -> tuple[Any, Any, Any]:
    """Two normal samples and the interval of their difference."""
    a, b = rng.normal(level, spread, n), rng.normal(0, 1, m)
    errors = a.std(ddof=1) / math.sqrt(n), b.std(ddof=1) / math.sqrt(m)
    return a, b, welch((a.mean(), b.mean()), errors, (n, m))


def test_welch_is_scipys() -> None:
    a, b, found = _welch(np.random.default_rng(3), 1, 2, 30, 12)
    expected = stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert welch((0.5, 0.4), (None, 0.1), (10, 10)).low is None
    wide, narrow = welch((0.5, 0.4), (0.1, 0.1), (5, 5)), welch((0.5, 0.4), (0.1, 0.1), (None, None))
    assert wide.high - wide.low > narrow.high - narrow.low == pytest.approx(2 * 1.959964 * math.sqrt(0.02), rel=1e-5)


def test_welch_covers_the_truth() -> None:
    rng = np.random.default_rng(0)
    found = [_welch(rng, 0.3, 2, 8, 20)[-1] for _ in range(2000)]
    assert 0.935 <= np.mean([one.low <= 0.3 <= one.high for one in found]) <= 0.965


def test_seeds_in_folder_names_make_methods(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for seed in range(6):
        base = rng.random(30) < 0.5
        evaluation(tmp_path / f"dpo-seed{seed}" / "m", base.astype(float).tolist())
        evaluation(tmp_path / f"new-seed{seed}" / "m", (base | (rng.random(30) < 0.4)).astype(float).tolist())
    summary = analysed(sorted(tmp_path.glob("*-seed*")), tmp_path / "out", baseline="dpo")
    assert {r["label"] for r in summary["runs"]} == {"dpo", "new"}
    assert summary["metrics"][0]["comparisons"][0]["seeds"] == list(range(6))
    assert [r["verdict"] for r in summary["inference"]["rows"]] == ["better"]
    assert summary["verdict"]["answer"][0].startswith("new is better than dpo: new +0.")
    assert "no training seed" not in missing(summary)


def test_seeds_that_do_not_pair_are_not_used(tmp_path: Path) -> None:
    evaluation(tmp_path / "a-seed1", [1, 0, 1, 1])
    evaluation(tmp_path / "b-seed2", [1, 1, 1, 0])
    found = find_runs([tmp_path / "a-seed1", tmp_path / "b-seed2"])
    base = place(found, None)
    assert [(p.method, p.seed, p.known_seed) for p in found] == [("a-seed1", None, 1), ("b-seed2", None, 2)]
    assert base == "a-seed1"
    summary = analysed([tmp_path / "a-seed1", tmp_path / "b-seed2"], tmp_path / "out")
    assert summary["metrics"][0]["comparisons"][0]["checkpoints"][0]["n"] == 4
    assert "training seed not used" in missing(summary)


def test_own_runs_and_foreign_ones_together(tmp_path: Path) -> None:
    write_matrix(tmp_path / "matrix", [FIXED, FOODPO], seeds=(0,))
    factory(tmp_path / "lf", 8, 8)
    summary = analysed([tmp_path / "matrix", tmp_path / "lf"], tmp_path / "out")
    assert len(summary["runs"]) == 3 and missing(summary)["no rows per example"] == ["lf"]
    assert any(c["examples"] for c in summary["beta"]["runs"])
    assert {m["benchmark"] for m in summary["metrics"]} == {"capitals", "constraints"}


def test_csv_with_several_runs(tmp_path: Path) -> None:
    write_matrix(tmp_path / "matrix", [FIXED, FOODPO], seeds=(0, 1))
    ids = sorted(p.name for p in (tmp_path / "matrix" / "runs").iterdir())
    runs = load_matrix(tmp_path / "matrix", ids).runs
    write_csv(tmp_path / "matrix" / "training_metrics.csv", COLUMNS, training_rows(runs))
    analyse([tmp_path / "matrix" / "training_metrics.csv"], tmp_path / "out")
    ours, theirs = (pd.read_csv(d / "training_metrics.csv") for d in (tmp_path / "matrix", tmp_path / "out"))
    columns = [c for c in MEASURES if c != "beta_collapse"]
    pd.testing.assert_frame_equal(ours[columns], theirs[columns], check_dtype=False)
    assert theirs["method"].unique().tolist() == ["fixed", "foodpo"] and sorted(theirs["seed"].unique()) == [0, 1]


def test_a_chart_exported_from_a_dashboard(tmp_path: Path) -> None:
    """Weights & Biases writes RUN - METRIC with __MIN and __MAX beside it, and leaves cells of other runs empty."""
    names = [f"{run} - train/loss{end}" for run in ("dpo - a-seed0", "new-seed0") for end in ("", "__MIN", "__MAX")]
    lines = [",".join(f'"{name}"' for name in ("Step", *names))]
    lines += [f'"{i}","{0.7 - i / 100}","0","1","","",""' for i in range(1, 6)]
    lines += [f'"{i}","","","","{0.6 - i / 100}","0","1"' for i in range(2, 5)]
    _write(tmp_path / "chart.csv", "\n".join(lines) + "\n")
    first, second = find_runs([tmp_path / "chart.csv"])
    assert (first.name, second.name) == ("dpo - a-seed0", "new-seed0")
    assert [r["step"] for r in first.history] == [1, 2, 3, 4, 5] and [r["step"] for r in second.history] == [2, 3, 4]
    assert second.history[0]["loss"] == pytest.approx(0.58) and set(second.history[0]) == {"step", "loss"}
    (tmp_path / "folder").mkdir()
    (tmp_path / "chart.csv").rename(tmp_path / "folder" / "chart.csv")
    assert {r["method"] for r in analysed([tmp_path / "folder"], tmp_path / "out")["runs"]} == {"dpo - a", "new"}


@pytest.mark.parametrize(
    ("name", "text"),
    [("m.csv", "step;loss;note\n1;0,5;a\n2;2,5e-1;b\n"), ("m.tsv", "step\tloss\tnote\n1\t0.5\ta\n2\t0,25\tb\n")],
)
def test_semicolons_tabs_and_decimal_commas(tmp_path: Path, name: str, text: str) -> None:
    _write(tmp_path / name, text)
    (run,) = find_runs([tmp_path / name])
    assert [(r["step"], r["loss"], r["note"]) for r in run.history] == [(1, 0.5, "a"), (2, 0.25, "b")]


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        # a column that names the run (trackio), rows of the machine's state between the steps (W&B)
        (
            "run_name,step,loss,lr\na,1,0.7,1\nb,1,0.6,1\na,2,0.5,1\na,,,\nb,NaN,NaN,NaN\n",
            {"a": [0.7, 0.5], "b": [0.6]},
        ),
        # NaN is what is missing, but for a loss beside other figures
        ("_step,loss,lr\n1,0.7,1\n2,NaN,NaN\n3,NaN,1\n4,null,1\n", {"log": [0.7, "NaN"]}),
        # a row for each figure (MLflow)
        (
            "run_id,key,value,step\na,loss,0.7,1\na,gap_mean,0.1,1\nb,loss,0.6,1\na,loss,0.5,2\n",
            {"a": [0.7, 0.5], "b": [0.6]},
        ),
        (
            "method,seed,step,loss\ndpo,0,1,0.7\ndpo,1,1,0.6\nnew,0,1,0.5\n",
            {"dpo-0": [0.7], "dpo-1": [0.6], "new-0": [0.5]},
        ),
    ],
)
def test_csv_histories_of_several_runs(tmp_path: Path, text: str, runs: dict[str, list[Any]]) -> None:
    _write(tmp_path / "log.csv", text)
    found = find_runs([tmp_path / "log.csv"])
    assert {run.name: [r["loss"] for r in run.steps] for run in found} == runs
    assert ("gap_mean" not in text) or found[0].steps[0]["delta"] == 0.1


_OF_RUNS = r"a table of runs.*one row for each run"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("m.csv", "Name,State,Created,Runtime,step,loss\na,finished,x,1,9,0.5\nb,finished,x,1,9,0.4\n", _OF_RUNS),
        ("m.csv", "run_name,beta,step,loss\na,0.1,9,0.5\nb,0.2,9,0.4\n", _OF_RUNS),
        ("m.csv", "Run ID,Duration,step,loss\na,5,9,0.5\n", _OF_RUNS),
        ("m.csv", "run_id,metrics.loss,metrics.step,params.beta\na,0.5,9,0.1\n", _OF_RUNS),
        ("m.csv", "time,loss\n1,2\n", r"no column for the step \(known: step, global_step.*found time, loss"),
        ("trainer_state.json", "{}", r"a file, and no CSV; name the folder that holds it: .*run$"),
    ],
)
def test_a_file_that_is_no_log_says_what_to_name(tmp_path: Path, name: str, text: str, said: str) -> None:
    _write(tmp_path / "run" / name, text)
    with pytest.raises(ReportError, match=said):
        find_runs([tmp_path / "run" / name])


def test_runs_below_a_run_are_found(tmp_path: Path) -> None:
    saves = tmp_path / "saves"
    for name in ("", "a-seed0", "deep/er/b"):
        trainer_state(saves / name / "trainer_state.json", [trl_record(s, 2) for s in (1, 2)], 2, 2)
    trainer_state(saves / "checkpoint-1" / "trainer_state.json", [trl_record(1, 2)], 1, 2)
    evaluation(saves / "a-seed0" / "eval", [1, 0, 1])
    evaluation(saves / "base", [1, 1, 1])
    write_matrix(saves / "matrix", [FIXED], seeds=(0,))
    (saves / "link").symlink_to(saves / "a-seed0")
    (saves / "table.csv").write_text("a,b\n1,2\n")
    found = find_runs([saves])
    assert [run.name for run in found if run.own is None] == ["saves", "a-seed0", "base", "deep/er/b"]
    assert sum(run.own is not None for run in found) == 1
    assert [bool(run.scores) for run in found[:3]] == [False, True, True]
    assert any("link" in note for note in found[0].notes) and any(
        "table.csv left out" in note for note in found[0].notes
    )


def _restarted(of: int) -> list[dict[str, Any]]:
    first = [factory_line(s, 10, loss=0.9) for s in range(1, 6)]
    return first + [factory_line(s, of, loss=0.1 * s) for s in range(1, 4)]


@pytest.mark.parametrize(
    ("lines", "losses", "said"),
    [
        (_restarted(6), [0.1, 0.2, 0.3], "5 steps of an earlier training"),
        (_restarted(10), [0.1, 0.2, 0.3], "5 steps of an earlier training"),
        (
            [factory_line(s, 3, loss=loss) for s in (1, 2) for loss in (0.5, 0.4)],
            [0.4, 0.4],
            "2 steps (1 to 2) are logged more than once, 2 with different losses",
        ),
        ([factory_line(s, 4, loss=float(s)) for s in (4, 3, 2, 1)], [1.0, 2.0, 3.0, 4.0], None),
    ],
)
def test_two_writers_of_one_log_are_told_apart(
    tmp_path: Path, lines: list[dict[str, Any]], losses: list[float], said: str | None
) -> None:
    _write(tmp_path / "lf" / "trainer_log.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    (run,) = find_runs([tmp_path / "lf"])
    assert [r["loss"] for r in run.steps] == pytest.approx(losses)
    assert any(said in note for note in run.notes) if said else run.notes == []


def _blocks(
    path: Path, scores: dict[str, list[float]], results: bool = True, means: dict[str, float] | None = None
) -> None:
    """gsm8k as lm-eval 0.4.3 to 0.4.6 wrote it: one block of documents a filter, without the filter's name."""
    rows = [
        {"doc_id": i, "arguments": [[f"Q{i}"]], "doc_hash": f"{i:064}", "exact_match": score}
        for block in scores.values()
        for i, score in enumerate(block)
    ]
    _write(path / f"samples_gsm8k_{_T}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    if results:
        means = means or {name: sum(block) / len(block) for name, block in scores.items()}
        row = {f"exact_match,{name}": mean for name, mean in means.items()}
        config = {"gsm8k": {"filter_list": [{"name": name} for name in means]}}
        _write(
            path / f"results_{_T}.json",
            json.dumps({"results": {"gsm8k": row}, "configs": config, "versions": {"gsm8k": 3}}),
        )


_T = "2024-09-10T12-30-45.123456"


def test_blocks_of_filters_are_named_by_the_results(tmp_path: Path) -> None:
    strict, flexible = [1.0, 0.0, 0.0], [1.0, 1.0, 0.0]
    _blocks(tmp_path / "a", {"strict-match": strict, "flexible-extract": flexible})
    scores = find_runs([tmp_path / "a"])[0].scores["gsm8k"]
    assert [item["values"] for item in scores.items] == [
        {"exact_match,strict-match": s, "exact_match,flexible-extract": f}
        for s, f in zip(strict, flexible, strict=True)
    ]
    _blocks(tmp_path / "b", {"strict-match": strict, "flexible-extract": flexible}, results=False)
    run = find_runs([tmp_path / "b"])[0]
    assert set(run.scores["gsm8k"].metrics) == {"exact_match,1", "exact_match,2"} and "numbered" in run.notes[0]
    for blocks, means, said in (
        (
            {"s": strict, "f": flexible},
            {"s": 0.9, "f": 0.5},
            "of the block of filter s is 0.3333 on average, and the results say 0.9",
        ),
        ({"s": strict, "f": flexible[:2]}, None, "2 blocks of 2 and 3 documents"),
        ({"s": strict, "f": flexible}, {"s": 1 / 3}, "for 1 filters"),
    ):
        _blocks(tmp_path / "c", blocks, means=means)
        with pytest.raises(ReportError, match=said):
            find_runs([tmp_path / "c"])


def test_older_layouts_of_lm_eval(tmp_path: Path) -> None:
    old = {"qa": {"mc1": 0.25, "mc1_stderr": 0.015}, "text": {"word_perplexity": 9.0}}
    _write(
        tmp_path / "v03" / "my-model.json",
        json.dumps({"results": old, "versions": {"qa": 1}, "config": {"num_fewshot": 5}}),
    )
    scores = find_runs([tmp_path / "v03"])[0].scores
    assert scores["qa"].metrics["mc1"] == {"value": 0.25, "stderr": 0.015, "n": None, "higher_is_better": True}
    assert not scores["text"].metrics["word_perplexity"]["higher_is_better"] and scores["qa"].facts["num_fewshot"] == 5
    board = {
        "config_general": {"model_name": "m"},
        "results": {"harness|arc|25": {"acc": 0.5}, "all": {"acc": 0.5}},
        "versions": {},
    }
    _write(tmp_path / "board" / f"results_{_T}.json", json.dumps(board))
    assert list(find_runs([tmp_path / "board"])[0].scores) == ["harness|arc|25"]
    samples = [{"doc_id": i, "doc": {}, "target": 1, "acc": float(i % 2)} for i in range(4)]
    folder = tmp_path / "v042"
    results = {
        "results": {"boolq": {"acc,none": 0.5}, "q": {"acc,none": 0.5}},
        "versions": {},
        "config": {"model_args": "pretrained=m"},
    }
    _write(folder / "results.json", json.dumps(results))
    _write(folder / "pretrained__m_boolq.jsonl", json.dumps(samples, indent=1))
    scores = find_runs([folder])[0].scores
    assert [item["values"]["acc"] for item in scores["boolq"].items] == [0, 1, 0, 1] and not scores["q"].items
    _write(folder / "other.json", json.dumps(results | {"config": {"model_args": "pretrained=n,dtype=float16"}}))
    with pytest.raises(ReportError, match=r"of the model m, and other\.json of n; give each model its folder"):
        find_runs([folder])


def _write(path: Path, text: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("trainer_state.json", '{\n "global_step": 1,\n', "trainer_state.json:3: not valid JSON"),
        ("trainer_state.json", "[]", "trainer_state.json:1: expected an object, found list"),
        ("trainer_state.json", '{"global_step": 1}', "has no list 'log_history'"),
        ("trainer_state.json", '{"global_step": "x", "log_history": []}', "'global_step' is 'x'"),
        ("trainer_state.json", '{"global_step": 1, "log_history": [3]}', r"log_history\[0\]: int, not an object"),
        (
            "trainer_state.json",
            '{"global_step": 1, "log_history": [{"loss": "high", "step": 1}]}',
            r"log_history\[0\]: 'loss' is 'high', not a number",
        ),
        ("trainer_state.json", b'{\n"a": "\xff"}', "trainer_state.json:2: not UTF-8"),
        ("trainer_state.json", "[" * 100_000, "nested too deep"),
        (
            "trainer_log.jsonl",
            '{"current_steps": 1, "total_steps": 2, "loss": 1}\nnope\n{}\n',
            "jsonl:2: not valid JSON",
        ),
        ("trainer_log.jsonl", '{"total_steps": 2, "loss": 1}\n', "jsonl:1: 'current_steps' is None"),
        ("trainer_log.jsonl", '{"current_steps": 1.5, "total_steps": 2}\n', "'current_steps' is 1.5"),
        ("all_results.json", "{", "all_results.json:1: not valid JSON"),
        ("log_history.json", '{"a": [], "b": []}', "holds 2 entries"),
        ("logs.jsonl", '{"step": 1}\n', "no record has both a step and a loss"),
        ("m.csv", "step,loss\n1,0.5\n2\n", "m.csv:3: 1 cells under 2 columns"),
        ("m.csv", "step,loss\n1,0.5\n2,low\n", "m.csv:3: 'loss' is 'low', not a number"),
        ("m.csv", "step,loss\n1,0.5\n,0.4\n", "m.csv:3: 'step' is empty"),
        ("m.csv", "step,loss\n1,0.5\n1,0.4\n", "m.csv:3: step 1 stands on line 2 too"),
        ("events.out.tfevents.1", "x", "TensorBoard's events are not read"),
        ("m.csv", "step,loss,loss\n1,0.5,1\n", "m.csv:1: the column 'loss' appears twice"),
        ("m.csv", "step,loss\n", "m.csv:2: no rows"),
        ("results_2026-01-02T03-04-05.1.json", "{}", "has no object 'results'"),
        ("samples_x_2026-01-02T03-04-05.1.jsonl", '{"acc": 1}\n', "jsonl:1: no 'doc_id'"),
        ("samples_x.jsonl", '{"doc_id": 0, "acc": 1}\n{"doc_id": 0, "acc": 1}\n', "jsonl:2: doc_id 0 is scored twice"),
        ("samples_x.jsonl", '{"doc_id": 0, "acc": 1}\n{"doc_id": 1, "a', "jsonl:2: not valid JSON"),
        ("notes.txt", "hello", "no runs found"),
    ],
)
def test_damaged_files_name_themselves(tmp_path: Path, name: str, text: str | bytes, said: str) -> None:
    _write(tmp_path / "run" / name, text)
    with pytest.raises(ReportError, match=said):
        analyse([tmp_path / "run"], tmp_path / "out")


def test_bad_yaml_names_its_line(tmp_path: Path) -> None:
    factory(tmp_path / "lf", 2, 2, "seed: 1\npref_beta: [\n")
    with pytest.raises(ReportError, match=r"training_args\.yaml:3: not valid YAML"):
        find_runs([tmp_path / "lf"])


def test_hostile_folder_names_stay_text_and_nan_is_strict_json(tmp_path: Path) -> None:
    names = ("<script>alert(1)<", "a|b`*_[x](y)", "$\\frac{1}{", "_hidden", "bidi \u202eevil\u202c", "=1+1", "-r")
    for i, name in enumerate(names):
        evaluation(tmp_path / "in" / name, [1, 0, 1, i % 2])
        wrong = {"loss": float("nan"), "grad_norm": float("inf")} if name == "-r" else {}
        trainer_state(
            tmp_path / "in" / name / "trainer_state.json", [trl_record(1, 2), trl_record(2, 2, **wrong)], 2, 2
        )
    summary = analysed([tmp_path / "in"], tmp_path / "out")
    assert len(summary["runs"]) == len(names) and sum(run["diverged"] for run in summary["runs"]) == 1
    assert "NaN" not in (tmp_path / "out" / "log_history.json").read_text().replace('"NaN"', "")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)&lt;" in page and "\u202e" not in page
    assert "<script>alert" not in (tmp_path / "out" / "report.md").read_text()
    for path in (tmp_path / "out" / "runs").iterdir():
        assert path.name.replace("-", "").isalnum() and path.name.isascii()


def test_runs_in_one_folder_are_named_by_their_place_in_it(tmp_path: Path) -> None:
    evaluation(tmp_path / "all" / "bare", [1, 0], samples=False)
    for folder in (tmp_path / "all" / "dpo" / "model", tmp_path / "model"):
        evaluation(folder, [1, 0, 1])
    factory(tmp_path / "all" / "lf", 2, 2)
    evaluation(tmp_path / "all" / "lf" / "checkpoint-2" / "eval", [1, 0, 0])
    twice = find_runs([tmp_path / "all" / "dpo" / "model", tmp_path / "model"])
    place(twice, None)
    assert [p.method for p in twice] == ["dpo/model", f"{tmp_path.name}/model"], "two folders of one name"
    found = find_runs([tmp_path / "all"])
    base = place(found, None)
    assert [p.method for p in found] == ["bare", "dpo/model", "lf"]
    assert base == "dpo/model"  # documents can be paired with it
    assert "arc_easy" in found[2].scores and found[2].formats == ["LLaMA-Factory", "lm-eval"]
    with pytest.raises(ReportError, match="--baseline dpo: no run of that name; there are bare, dpo/model, lf"):
        place(find_runs([tmp_path / "all"]), "dpo")


def test_output_is_never_someone_elses_directory(tmp_path: Path) -> None:
    factory(tmp_path / "lf", 2, 2)
    for output, said in ((Path(__file__).parent, "no earlier analysis"), (tmp_path, "is or holds")):
        with pytest.raises(ReportError, match=said):
            analyse([tmp_path / "lf"], output)
    evaluation(tmp_path / "two", [1, 0, 1])
    analyse([tmp_path / "lf", tmp_path / "two"], tmp_path / "out")
    before = {p.name for p in (tmp_path / "out" / "runs").iterdir()}
    analyse([tmp_path / "two"], tmp_path / "out")  # an earlier analysis is replaced, without leftovers
    after = {p.name for p in (tmp_path / "out" / "runs").iterdir()}
    assert len(before) == 2 and after < before
    analyse([tmp_path], tmp_path / "inside")  # its own output is not read again
    assert len(summary_of(tmp_path / "inside")["runs"]) == 3  # lf, two, and the earlier analysis of two
