"""Tables of others: judgments, ten made-up verdicts a format against figures worked out by hand, and tables of scores."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm

from reports.foreign.compare_scores import read_scores, score_tables
from reports.judgments.analysis import judgments_summary, rates, table_of
from reports.judgments.formats import read_judgments
from reports.judgments.judgment import style_of
from reports.runs.records import ReportError
from reports.schema.judges import JudgeTable
from reports.statistics.preferences import bradley_terry
from reports.statistics.winrate import krippendorff_alpha

# Judgments of others: ten made-up verdicts a format against figures worked out by hand, and two published tables.


def put(path: Path, rows: list[Any], whole: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = json.dumps(rows) if whole else "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(lines, encoding="utf-8")
    return path


def table(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def of(paths: list[Path], baseline: str | None = None) -> dict[str, JudgeTable]:
    return {judge.judge: judge for judge in judgments_summary(paths, baseline).judges}


def test_alpaca_eval(tmp_path: Path) -> None:
    said = [2, 1, 1.75, 0, None, 2, 1.5, 1, 2, 1.25]
    rows = [
        {
            "instruction": f"i{n // 2}",
            "generator_1": "base",
            "generator_2": "new",
            "output_1": "a",
            "output_2": "**b** c",
        }
        | {"preference": value, "annotator": "gpt"}
        for n, value in enumerate(said)
    ]
    found = of([put(tmp_path / "annotations.json", rows, whole=True)])["gpt"]
    rate = found.models[1].win_rate if found.models[0].model == "base" else found.models[0].win_rate
    # 1 + 0 + .75 + .5 + 1 + .5 + 0 + 1 + .25 over nine; four above a half, three below, two at it, one without
    assert rate.value == pytest.approx(5 / 9)
    assert (rate.wins, rate.losses, rate.draws, rate.failed) == (4, 3, 2, 1)
    assert rate.stderr == pytest.approx(np.std([1, 0, 0.75, 0.5, 1, 0.5, 0, 1, 0.25], ddof=1) / 3)
    assert style_of("# A\n- b\n1. c\n**d**\n```\n# no\n```") == (31, 1, 2, 1)


@pytest.mark.parametrize("names", [("question_id", {}), ("uid", {"baseline": "base"})])
def test_arena_hard(tmp_path: Path, names: tuple[str, dict[str, str]]) -> None:
    key, more = names
    # the model is B in the first game, A in the second
    games = [("B>A", "A>B"), ("B>>A", "A>B"), ("A>>B", "B>A"), ("A=B", "A=B"), ("A>B", None)]
    rows = [
        {key: f"q{n}", "model": "new", **more, "games": [{"score": one}, None if two is None else {"score": two}]}
        for n, (one, two) in enumerate(games)
    ]
    found = of([put(tmp_path / "judge" / "new.jsonl", rows)])["judge"]
    rate = next(m for m in found.models if m.model == "new").win_rate
    # 2 wins; 1 + 3 wins; 1 + 3 losses; 2 draws; one row without a score: (6 + 1) of 12
    assert (rate.wins, rate.losses, rate.draws, rate.failed, rate.n) == (6, 4, 2, 1, 12)
    assert rate.value == pytest.approx(7 / 12)
    assert found.position is not None and found.position.consistency.value == 1.0 and found.prompts == 5
    assert found.position.first_preference.value == pytest.approx(0.5)


def test_mt_bench_and_people(tmp_path: Path) -> None:
    both = [
        ("model_1", "model_1"),
        ("model_1", "model_2"),
        ("tie", "tie"),
        ("model_2", "model_2"),
        ("error", "model_1"),
    ]
    pairs = [
        {"question_id": n, "model_1": "a", "model_2": "b", "g1_winner": one, "g2_winner": two, "judge": ["gpt", "v2"]}
        | {"turn": turn}
        for n, (one, two) in enumerate(both)
        for turn in (1, 2)
    ]
    human = [
        {"question_id": n, "model_a": "b", "model_b": "a", "winner": winner, "judge": f"expert_{who}", "turn": 1}
        for who in (0, 1)
        for n, winner in enumerate(["model_b", "model_b", "tie", "model_b", "model_a"])
    ]
    found = judgments_summary([put(tmp_path / "gpt_pair.jsonl", pairs), put(tmp_path / "human.jsonl", human)])
    gpt, people = found.judges[0], found.judges[1]
    assert gpt.judge == "gpt v2" and not gpt.human and people.human
    rate = next(m for m in gpt.models if m.model == "a").win_rate
    assert (rate.wins, rate.losses, rate.draws, rate.failed, rate.value) == (2, 2, 4, 2, 0.5)
    assert "clustered" in gpt.pairs[0].difference.method
    # in five first turns the people say a, a, tie, a, b; the judge a, tie, tie, b and nothing, which is a tie
    assert gpt.against_people is not None and gpt.against_people.accuracy == pytest.approx(2 / 5)
    assert (gpt.against_people.n, gpt.against_people.no_verdict) == (5, 1)
    assert gpt.position is not None and gpt.position.consistency.value == pytest.approx(3 / 4)
    assert found.alpha_people.value == 1.0


def test_llmbar(tmp_path: Path) -> None:
    said = [(1, "1", "1"), (2, "2", "2"), (1, "2", "1"), (2, "1", "1"), (1, "1", None)]
    rows = [
        {"input": f"i{n}", "output_1": "x", "output_2": "yy", "label": label}
        | {"results": [{"swap = False": {"winner": one}, "swap = True": {"winner": two}}] * 1}
        for n, (label, one, two) in enumerate(said)
    ]
    path = put(tmp_path / "GPT-4" / "Vanilla" / "result.json", rows, whole=True)
    found = of([path])
    judge = found["GPT-4/Vanilla"].against_people
    # right in both orders on two of five; of the eight single orders of four items, 5 are right
    assert found["gold"].human and judge is not None
    assert judge.accuracy == pytest.approx(2 / 5) and judge.each_order == pytest.approx(5 / 8) and judge.no_verdict == 1
    position = found["GPT-4/Vanilla"].position
    assert position is not None and position.consistency.value == pytest.approx(3 / 4)


def test_a_table_pairs_and_separability(tmp_path: Path) -> None:
    rows = ["prompt_id,first,second,preference,length_first,length_second"]
    wins = {"a": 10, "b": 8, "c": 0}
    rows += [f"p{n},{m},base,{int(n < k)},{20 + n},{10 + len(m)}" for m, k in wins.items() for n in range(10)]
    found = of([table(tmp_path / "verdicts.csv", rows)])["verdicts"]
    assert found.baseline == "base" and [m.model for m in found.models] == ["a", "b", "c"]
    # b loses p8 and p9, which a wins: a mean difference of .2, sd of eight 0 and two 1
    ab = next(p for p in found.pairs if (p.first, p.second) == ("a", "b"))
    assert ab.difference.value == pytest.approx(0.2) and ab.how == "against base"
    assert ab.difference.stderr == pytest.approx(np.std([0] * 8 + [1, 1], ddof=1) / np.sqrt(10))
    # Wilson: 10 of 10 is .722 to 1, 8 of 10 .490 to .943, 0 of 10 0 to .278
    assert (found.separability.separated, found.separability.pairs) == (2, 3)
    assert found.strengths.anchor == "base" and set(found.strengths.style) == {"length"}
    direct = ["prompt_id,first,second,preference", "1,a,b,first", "2,b,a,second", "3,a,b,tie", "4,a,c,0.25", "5,b,c,"]
    pairs = of([table(tmp_path / "direct.csv", direct)])["direct"].pairs
    assert next(p for p in pairs if {p.first, p.second} == {"a", "b"}).difference.value == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            ["prompt_id,first,second,preference", "1,a,b,2"],
            r"verdicts.csv:2: preference is '2'; give a number of 0 to 1",
        ),
        (["prompt_id,first,second,preference", "1,a,a,1"], r":2: 'a' is compared with itself"),
        (
            ["prompt_id,first,second,preference", "1,a,b,1", "1,b,a,0"],
            r":3: verdicts judges b and a twice on prompt '1'",
        ),
        (["prompt_id,first,second,preference", "1,,b,1"], r":2: first is ''; give a text"),
        (["prompt,first,second,preference", "1,a,b,1"], r"csv:1: of no known format; the keys are .*Known: AlpacaEval"),
        (["prompt_id,first,second,preference"], r"verdicts.csv: no rows"),
        (["question_id,model,score", "1,a,3"], r"scores of single answers; compare them: compare-scores"),
        (["idx,pandalm_result", "1,1"], r":2: idx 1 is not in the test set; give testset-v1.json"),
    ],
)
def test_errors_name_file_row_and_key(tmp_path: Path, rows: list[str], said: str) -> None:
    with pytest.raises(ReportError, match=said):
        judgments_summary([table(tmp_path / "verdicts.csv", rows)])


def test_more_errors(tmp_path: Path) -> None:
    arena = [{"question_id": 1, "model": "m", "games": [{"score": "A>C"}, {"score": "A>B"}]}]
    with pytest.raises(ReportError, match=r"m.jsonl:1: score is 'A>C'; known: A>B"):
        read_judgments([put(tmp_path / "m.jsonl", arena)])
    own = table(tmp_path / "own.csv", ["prompt_id,first,second,preference", "1,a,b,1"])
    with pytest.raises(ReportError, match="of one at a time"):
        read_judgments([own, tmp_path / "m.jsonl"])
    with pytest.raises(ReportError, match="--baseline z: no such model"):
        judgments_summary([own], "z")


def judged(folder: Path, rows: list[dict[str, Any]], key: str, value: Any) -> str:
    """What is read where `key` of the last row is `value`, or absent where that is `...`; or the error, without its keys."""
    last = {name: said for name, said in rows[-1].items() if name != key} | ({} if value is ... else {key: value})
    try:
        return str(read_judgments([put(folder / "j.jsonl", [*rows[:-1], last])]))
    except ReportError as error:
        return str(error).partition(";")[0]


TABLE_ROW = {"prompt_id": "p", "first": "m", "second": "n", "preference": 1}
PAIR_ROW = {"question_id": 1, "model_1": "m", "model_2": "n", "g1_winner": "tie", "g2_winner": "tie"}


@pytest.mark.parametrize(
    ("row", "key"),
    [
        *((TABLE_ROW, key) for key in ("preference", "judge", "sample", "group", "human", "length_first", "prompt_id")),
        *((PAIR_ROW, key) for key in ("judge", "turn", "g2_winner", "model_2")),
    ],
)
def test_nan_null_and_a_missing_key_are_the_same(tmp_path: Path, row: dict[str, Any], key: str) -> None:
    one = "question_id" if "question_id" in row else "prompt_id"
    rows = [row | {one: 7}, row]
    assert len({judged(tmp_path, rows, key, value) for value in (float("nan"), None, ...)}) == 1


def test_nan_inside_a_verdict_is_no_verdict(tmp_path: Path) -> None:
    game = {"question_id": "q", "model": "m", "games": [{"score": float("nan")}, {"score": "B>A"}]}
    assert read_judgments([put(tmp_path / "arena.jsonl", [game])])[1][0].preference is None
    orders = [{"swap = False": {"winner": "1"}}, {"swap = False": {"winner": "1"}, "swap = True": float("nan")}]
    rows = [{"input": "i", "output_1": "a", "output_2": "b", "label": 1, "results": [one]} for one in orders]
    found = read_judgments([put(tmp_path / "llmbar.jsonl", rows)])[1]
    assert [one.preference for one in found if one.judge != "gold"] == [None, None]


def test_alpha_is_krippendorffs_own_example() -> None:
    n = np.nan
    raters = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, n, n, n], [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, n, 3],
        [n, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, n], [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, n],
    ]  # fmt: skip
    found = krippendorff_alpha(np.array(raters).T)
    assert found.value == pytest.approx(0.743, abs=5e-4)
    assert found.n == 11 and found.low is not None and found.low < 0.743
    assert krippendorff_alpha([[1, 1], [1, 1]]).value is None


def test_strengths_with_style_are_a_clustered_glm() -> None:
    rng = np.random.default_rng(2)
    names, n = np.array(["a", "b", "c"]), 600
    i = rng.integers(0, 3, n)
    j = (i + rng.integers(1, 3, n)) % 3
    z, prompts = rng.normal(size=n), rng.integers(0, 150, n)
    logit = np.array([0.0, 0.5, 1.0])[i] - np.array([0.0, 0.5, 1.0])[j] + 0.7 * z
    y = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(float)
    ours = bradley_terry(list(names[i]), list(names[j]), y, list(prompts), "a", {"length": z, "none": np.zeros(n)})
    x = np.zeros((n, 3))
    for row in range(n):
        x[row, i[row]] += 1
        x[row, j[row]] -= 1
    x = np.column_stack([x[:, 1:], (z - z.mean()) / z.std()])
    model = sm.GLM(y, x, family=sm.families.Binomial())
    oracle = model.fit(cov_type="cluster", cov_kwds={"groups": prompts, "use_correction": False})
    found = [ours.strengths["b"], ours.strengths["c"], ours.weights["length"]]
    assert [f.value for f in found] == pytest.approx(oracle.params, abs=1e-3)
    clusters = np.unique(prompts).size
    assert [f.stderr for f in found] == pytest.approx(oracle.bse * np.sqrt(clusters / (clusters - 1)), rel=1e-3)
    assert set(ours.weights) == {"length"} and abs((found[2].value or 0) - 0.7) < 0.3


def test_alpaca_eval_2_to_its_printed_digits(shared_data: Path) -> None:
    folder = shared_data / "published" / "alpaca_eval2"
    name, found = read_judgments([folder / "weighted_annotations_compact.csv.gz"])
    with (folder / "leaderboard.csv").open(encoding="utf-8") as file:
        published = {row[""]: row for row in csv.DictReader(file)}
    ours = {one.model: one.win_rate for one in rates(table_of(found), "baseline") if one.model in published}
    assert name == "AlpacaEval" and len(ours) == 57
    for model, rate in ours.items():
        row = published[model]
        assert [rate.wins, rate.losses, rate.draws, rate.n] == [
            int(row[key]) for key in ("n_wins", "n_wins_base", "n_draws", "n_total")
        ], model
        assert rate.stderr is not None and rate.value is not None and rate.discrete is not None
        for value, key in (
            (rate.value, "win_rate"),
            (rate.stderr, "standard_error"),
            (rate.discrete, "discrete_win_rate"),
        ):
            assert 100 * value == pytest.approx(float(row[key]), abs=1e-6), (model, key)


def test_pandalm_to_its_printed_digits(shared_data: Path) -> None:
    folder = shared_data / "published" / "pandalm"
    names = ("testset-v1", "gpt-3.5-turbo-testset-v1", "pandalm-7b-testset-v1")
    found = judgments_summary([folder / f"{name}.json" for name in names])
    published = {names[1]: (0.7107, 0.5879, 0.5736, 0.5755), names[2]: (0.6677, 0.5738, 0.5750, 0.5743)}
    judges = {judge.judge: judge for judge in found.judges}
    for name, figures in published.items():
        one = judges[name].against_people
        assert one is not None and one.n == 999
        assert tuple(round(float(v), 4) for v in (one.accuracy, one.precision, one.recall, one.f1)) == figures
    gpt = judges[names[1]].against_people
    assert gpt is not None and gpt.no_verdict == 25
    people = [a for a in found.agreement if all(name.startswith("annotator") for name in a.judges)]
    assert [round(float(a.kappa.value or 0), 2) for a in people if a.kappa] == [0.85, 0.88, 0.86]


# compare-scores: tables of several shapes against figures worked out by hand, lm-eval's old and new files, errors.


A, B = [1, 1, 1, 1, 0, 1, 0, 1], [1, 0, 0, 0, 0, 1, 0, 1]


def csv_of(path: Path, header: str, rows: list[str]) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def test_two_files_long_and_wide_agree(tmp_path: Path) -> None:
    one, two = (
        csv_of(tmp_path / f"{name}.csv", "q,acc", [f"{n},{v}" for n, v in enumerate(values)])
        for name, values in (("new", A), ("old", [*B, 1]))
    )
    long = csv_of(
        tmp_path / "long.csv",
        "model,id,score",
        [f"{m},{n},{v}" for m, values in (("new", A), ("old", B)) for n, v in enumerate(values)],
    )
    wide = csv_of(
        tmp_path / "wide.csv", "id,new,old", [f"{n},{a},{b}" for n, (a, b) in enumerate(zip(A, B, strict=True))]
    )
    found = [
        score_tables([one, two], "q", "acc").comparisons[0],
        score_tables([long]).comparisons[0],
        score_tables([wide], baseline="old").comparisons[0],
    ]
    d = np.array(A, dtype=float) - B
    for one_found in found:
        assert one_found.difference.value == pytest.approx(3 / 8)
        assert one_found.difference.stderr == pytest.approx(d.std(ddof=1) / np.sqrt(8))
        assert (one_found.wins, one_found.losses, one_found.ties) == (3, 0, 5)
        assert one_found.test.method == "exact McNemar" and one_found.test.p_value == pytest.approx(2 / 2**3)
    assert [f.only_second for f in found] == [1, 0, 0]


@pytest.mark.parametrize("key", ["id", "model", "score"])
def test_scores_without_a_value_are_read_alike(tmp_path: Path, key: str) -> None:
    """An id of NaN is no item called nan, and a column that the first row lacks is a column."""
    full = {"id": "b", "model": "s", "score": 1}
    said = []
    for value in (float("nan"), None, ...):
        row = {name: one for name, one in full.items() if name != key} | ({} if value is ... else {key: value})
        path = put(tmp_path / "s.jsonl", [full | {"id": "a"}, row])
        try:
            said.append(str(read_scores([path])))
        except ReportError as error:
            said.append(str(error).partition(";")[0])
    assert len(set(said)) == 1
    with pytest.raises(ReportError, match=r"w\.jsonl:1: new of id a is empty"):
        read_scores([put(tmp_path / "w.jsonl", [{"id": "a", "old": 1}, {"id": "b", "old": 1, "new": 0}])])


def test_equal_differences_have_no_interval(tmp_path: Path) -> None:
    path = csv_of(tmp_path / "s.csv", "id,new,old", [f"{n},1,0" for n in range(6)])
    found = score_tables([path]).comparisons[0]
    assert (
        found.difference.value == 1
        and found.difference.low is None
        and "all 6 differences" in str(found.difference.reason)
    )
    assert found.test.p_value == pytest.approx(2 / 2**6)


def test_clusters_widen_the_interval_and_are_flipped_whole(tmp_path: Path) -> None:
    rows = [f"{n},{n // 4},{n % 3 == 0:d},{0.5 * (n < 4)}" for n in range(8)]
    path = csv_of(tmp_path / "s.csv", "id,passage,new,old", rows)
    found = score_tables([path], "passage,id", group="passage").comparisons[0]
    assert found.clusters == 2 and "clustered" in found.difference.method
    assert found.test.p_value == 1.0 and found.test.method == "exact sign-flip permutation"  # sums 0 and 1


def test_lm_eval_of_every_age(tmp_path: Path) -> None:
    """0.4.0 wrote a list with line breaks into a .jsonl; 0.2 and 0.3 wrote means without filters."""
    for name, values in (("new", A), ("old", B)):
        folder = tmp_path / name
        folder.mkdir()
        docs = [
            {"doc_id": n, "doc": {}, "target": "x", "resps": [["y"]], "acc": float(v)} for n, v in enumerate(values)
        ]
        (folder / "samples_arc.jsonl").write_text(json.dumps(docs, indent=2), encoding="utf-8")
        old = {"results": {"arc": {"acc": np.mean(values), "acc_stderr": 0.1}}, "versions": {"arc": 0}, "config": {}}
        (folder / "out.json").write_text(json.dumps(old), encoding="utf-8")
    samples = score_tables([tmp_path / "new/samples_arc.jsonl", tmp_path / "old/samples_arc.jsonl"]).comparisons[0]
    assert (samples.metric, samples.first) == ("arc/acc", "new/samples_arc")
    assert samples.difference.value == pytest.approx(3 / 8) and samples.test.p_value == pytest.approx(0.25)
    folders = score_tables([tmp_path / "new", tmp_path / "old"]).comparisons[0]
    assert folders.first == "new" and folders.difference == samples.difference
    means = score_tables([tmp_path / "new/out.json", tmp_path / "old/out.json"]).comparisons[0]
    assert means.difference.value == pytest.approx(3 / 8) and means.difference.stderr == pytest.approx(0.1 * np.sqrt(2))
    assert means.test.p_value is None and "cannot be paired" in (means.test.reason or "")


@pytest.mark.parametrize(
    ("header", "rows", "options", "said"),
    [
        ("id,score", ["1,x"], {}, r"a.csv:2: score is 'x'; give a number"),
        ("id,score", ["1,1", "1,0"], {}, r"a.csv:3: a has a second score of id 1"),
        ("id,score", ["1,"], {}, r"a.csv:2: score of id 1 is empty"),
        ("x,score", ["1,1"], {}, r"a.csv:1: no column names the item; say which with --id: x, score"),
        ("id,score", ["1,1"], {"score": "scores"}, r"a.csv:1: --score scores: no such column; .*score"),
        ("id,score", ["1,1"], {}, r"a.csv: one model, a; give a second file"),
        ("model,id,score", ["a,1,1", "b,2,1"], {}, r"a and b share no item \(the first are '1' and '2'\)"),
        ("model,id,score", ["a,1,1", "b,1,1"], {"baseline": "c"}, r"--baseline c: no such model"),
        ("model,id,score,g", ["a,1,1,x", "b,1,1,y"], {"group": "g"}, r"a.csv:3: id 1 is in g y and in x"),
    ],
)
def test_errors(tmp_path: Path, header: str, rows: list[str], options: dict[str, str], said: str) -> None:
    with pytest.raises(ReportError, match=said):
        score_tables([csv_of(tmp_path / "a.csv", header, rows)], **options)
