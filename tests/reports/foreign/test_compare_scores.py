"""compare-scores: tables of several shapes against figures worked out by hand, lm-eval's old and new files, errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from reports.foreign.compare_scores import score_tables
from reports.runs.records import ReportError

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
