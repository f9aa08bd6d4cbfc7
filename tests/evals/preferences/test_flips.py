"""Label noise: which pairs are flipped, what is exchanged, and the betas that tell the truth."""

import statistics
from typing import Any

import pytest

from evals.preferences.flips import Noise, flip
from evals.preferences.pairs import PairError


def pairs(n: int = 100) -> list[dict[str, Any]]:
    return [
        {
            "id": f"p{i}",
            "prompt": "p",
            "chosen": f"good {i}",
            "rejected": f"bad {i}",
            "score_chosen": 1.0,
            "score_rejected": 0.0,
            "chosen_truncated": True,
            "rejected_truncated": False,
            "log_prompt_perplexity": (i * 37 % n) / n,
        }
        for i in range(n)
    ]


@pytest.mark.parametrize(("share", "ratio"), [(0.3, 30.0), (0.3, 2.0), (0.3, 1e9), (0.0, 30.0), (1.0, 4.0), (0.5, 1.0)])
def test_betas_have_the_mean_pref_beta(share: float, ratio: float) -> None:
    rows, record = flip(pairs(), Noise((share,), seed=1, pref_beta=0.1, ratio=ratio))
    flipped = [row["flipped"] for row in rows]
    assert sum(flipped) == record["n_flipped"] == round(100 * share)
    assert statistics.fmean(row["beta"] for row in rows) == pytest.approx(0.1)
    clean = 0.1 / (1 - share + share / ratio)
    for row in rows:
        assert row["beta"] == pytest.approx(clean / ratio if row["flipped"] else clean)
    if ratio == 1e9 and share == 0.3:
        assert record["beta_clean"] == pytest.approx(0.1 / 0.7)


def test_what_is_exchanged() -> None:
    clean = pairs()
    for before, row in zip(clean, flip(clean, Noise((0.4,)))[0], strict=True):
        sides = ("rejected", "chosen") if row["flipped"] else ("chosen", "rejected")
        for form in ("{}", "score_{}", "{}_truncated"):
            assert [row[form.format(side)] for side in sides] == [
                before[form.format(s)] for s in ("chosen", "rejected")
            ]
        assert row["id"] == before["id"] and row["log_prompt_perplexity"] == before["log_prompt_perplexity"]


def test_flips_are_nested_seeded_and_do_not_depend_on_order() -> None:
    def names(share: float, seed: int, rows: list[dict[str, Any]]) -> set[str]:
        return {row["id"] for row in flip(rows, Noise((share,), seed))[0] if row["flipped"]}

    assert names(0.1, 0, pairs()) < names(0.3, 0, pairs()) == names(0.3, 0, pairs()[::-1])
    assert names(0.3, 0, pairs()) != names(0.3, 1, pairs())


def test_by_tercile_of_perplexity() -> None:
    rows, record = flip(pairs(99), Noise((0.4, 0.2, 0.0), by="perplexity"))
    terciles = record["terciles"]
    assert [part["n"] for part in terciles] == [33, 33, 33]
    assert [part["n_flipped"] for part in terciles] == [13, 7, 0]
    assert terciles[0]["high"] < terciles[1]["low"] and terciles[1]["high"] < terciles[2]["low"]
    least = terciles[2]["low"]
    assert not any(row["flipped"] for row in rows if row["log_prompt_perplexity"] >= least)
    assert statistics.fmean(row["beta"] for row in rows) == pytest.approx(0.1)
    same = [row | {"log_prompt_perplexity": 1.0} for row in pairs(9)]
    assert flip(same, Noise((0.0, 0.0, 1.0), by="perplexity"))[1]["n_flipped"] == 9  # equal values stay together


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shares": (1.2,)}, "one share between 0 and 1"),
        ({"shares": (0.1, 0.2)}, "one share"),
        ({"shares": (0.3,), "by": "perplexity"}, "three shares"),
        ({"shares": (0.3,), "ratio": 0.0}, "ratio of the flips is 0.0"),
        ({"shares": (0.3,), "pref_beta": -1.0}, "pref_beta of the flips is -1.0"),
        ({"shares": (0.3,), "ratio": float("inf")}, "finite number"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(PairError, match=message):
        Noise(**settings)


def test_pairs_that_are_refused() -> None:
    once, _ = flip(pairs(3), Noise((0.5,)))
    lacking = [{key: value for key, value in row.items() if key != "log_prompt_perplexity"} for row in pairs(3)]
    for rows, noise, words in (
        (once, Noise((0.5,)), "'p0' says already whether it is flipped"),
        ([*pairs(2), *pairs(1)], Noise((0.5,)), "need unique ids"),
        (lacking, Noise((0.5, 0.1, 0.1), by="perplexity"), "'p0' has no number under 'log_prompt_perplexity'"),
    ):
        with pytest.raises(PairError, match=words):
            flip(rows, noise)
