"""AlpacaEval 2's length-controlled win rates recomputed; its plain ones are in tests/reports/judgments."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr

from reports.compare.winrates import FEWEST_POLICIES
from reports.statistics.preferences import difficulties, length_controlled, length_term, predicted

Array = NDArray[np.float64]
BASELINE = "gpt4_1106_preview"
#: A model of the file that the leaderboard does not list.
UNLISTED = "text_davinci_003"


@pytest.fixture(scope="module")
def folder(shared_data: Path) -> Path:
    return shared_data / "published"


@pytest.fixture(scope="module")
def leaderboard(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "alpaca_eval2/leaderboard.csv", index_col=0)


@pytest.fixture(scope="module")
def judgments(folder: Path) -> dict[str, pd.DataFrame]:
    """By model; `preference` is for the model, in 0..1. Upstream 1 is the baseline, 2 the model, 0 a draw, null dropped."""
    table = pd.read_csv(folder / "alpaca_eval2/weighted_annotations_compact.csv.gz")
    table["preference"] = table["preference"].replace({0.0: 1.5}) - 1
    return {str(model): rows.dropna(subset="preference") for model, rows in table.groupby("model")}


@pytest.fixture(scope="module")
def difficulty(folder: Path) -> Array:
    return pd.read_csv(folder / "alpaca_eval2/instruction_difficulty_recovered.csv").iloc[:, 1].to_numpy()


def test_length_controlled_rates_follow_from_the_published_weights(
    folder: Path, leaderboard: pd.DataFrame, difficulty: Array
) -> None:
    weights = pd.read_csv(folder / "alpaca_eval2/lc_glm_weights.csv", index_col=0)
    weights.columns = pd.Index(["phi", "psi", "theta"])
    listed = weights.join(leaderboard[["length_controlled_winrate", "lc_standard_error"]], how="inner")
    q = {model: 100 * predicted(row.theta, row.psi, difficulty) for model, row in listed.iterrows()}
    error = pd.Series({model: q[model].mean() for model in listed.index}) - listed["length_controlled_winrate"]
    assert (error.abs() < 1e-6).sum() >= 180
    # The others were published from another fit than the one whose weights are in the file.
    assert error.abs().max() < 0.2
    spread = pd.Series({model: q[model].std(ddof=1) / np.sqrt(difficulty.size) for model in listed.index})
    known = listed["lc_standard_error"].notna()
    assert known.sum() >= 30
    assert ((spread - listed["lc_standard_error"])[known].abs() < 1e-6).sum() >= known.sum() - 1


@dataclass(frozen=True)
class Refit:
    """The 56 listed models other than the baseline; rates in percent, all of shape (56,)."""

    rows: list[pd.DataFrame]
    published: Array
    plain: Array

    def refit(self, difficulty: Callable[[int], Array]) -> Array:
        """Length-controlled win rates, each with the difficulties (one per prompt) chosen for that model."""
        rates = []
        for i, rows in enumerate(self.rows):
            gamma = difficulty(i)[rows["row"]]
            fit = length_controlled(rows["preference"], rows["len_output_2"], rows["len_output_1"], gamma)
            rates.append(100 * (fit.value or np.nan))
        return np.array(rates)

    def joint(self, models: Sequence[int], prompts: int) -> Array:
        """Difficulty of each prompt, estimated from these models."""
        p, terms = np.full((len(models), prompts), np.nan), np.zeros((len(models), prompts))
        for i, rows in enumerate(self.rows[m] for m in models):
            p[i, rows["row"]] = rows["preference"]
            terms[i, rows["row"]] = length_term(rows["len_output_2"], rows["len_output_1"])
        return difficulties(p, terms)

    def rank(self, rates: Array) -> float:
        """Spearman correlation with the published rates."""
        return float(spearmanr(rates, self.published).statistic)

    def error(self, rates: Array) -> float:
        """Median distance from the published rates, in points."""
        return float(np.median(np.abs(rates - self.published)))


@pytest.fixture(scope="module")
def models(judgments: dict[str, pd.DataFrame], leaderboard: pd.DataFrame) -> Refit:
    names = [name for name in judgments if name not in (UNLISTED, BASELINE)]
    assert len(names) == 56
    published = np.array([leaderboard.loc[name, "length_controlled_winrate"] for name in names], dtype=float)
    plain = np.array([100 * judgments[name]["preference"].mean() for name in names])
    return Refit([judgments[name] for name in names], published, plain)


def test_refitted_length_controlled_rates_rank_as_published(models: Refit, difficulty: Array) -> None:
    rates = models.refit(lambda _: difficulty)
    assert models.rank(rates) >= 0.97
    assert models.rank(rates) > models.rank(models.plain)
    assert models.error(rates) < 1.5 < models.error(models.plain)


def test_difficulty_can_come_from_the_judgments_alone(models: Refit, difficulty: Array) -> None:
    ours = models.joint(range(56), difficulty.size)
    assert np.corrcoef(ours, difficulty)[0, 1] > 0.85
    rates = models.refit(lambda _: ours)
    assert models.rank(rates) >= 0.97
    assert models.error(rates) < 1.0


def test_few_policies_are_enough_for_a_difficulty_that_helps(models: Refit, difficulty: Array) -> None:
    def with_three_others(model: int) -> Array:
        others = np.random.default_rng(model).choice([i for i in range(56) if i != model], FEWEST_POLICIES - 1, False)
        return models.joint([model, *others], difficulty.size)

    rates = models.refit(with_three_others)
    assert models.rank(rates) > models.rank(models.plain)
    assert models.error(rates) < models.error(models.plain) / 2


def test_without_difficulty_length_control_does_harm(models: Refit, difficulty: Array) -> None:
    rates = models.refit(lambda _: np.zeros_like(difficulty))
    assert models.rank(rates) < models.rank(models.plain)
    assert models.error(rates) > models.error(models.plain)
