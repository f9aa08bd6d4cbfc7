"""The pair losses against TRL's own, and the recorded rows against what was trained."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tests.trainers.helpers import logged, make_pairs, rows_of, trained, weights_of
from trainers.loss.losses import PAIR_LOSSES, PairTerms
from trainers.rules.catalogue import PREF_LOSSES

#: What a loss needs beside its name.
NEEDS: dict[str, dict[str, Any]] = {
    "exo_pair": {"label_smoothing": 0.01},
    "robust": {"label_smoothing": 0.1},
    "cdpo": {"label_smoothing": 0.1},
}


def recorded(*args: Any, **changes: Any) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """Logged steps and example rows of a short run."""
    job = trained(*args, **changes)
    return logged(job), rows_of(job)


def averages(history: list[dict[str, Any]], rows: pd.DataFrame) -> None:
    """TRL computes the loss of the batch with our betas; the rows hold ours, pair by pair."""
    for record in history:
        step = rows[rows.step == record["step"]]
        assert step.loss.mean() == pytest.approx(record["loss"], rel=1e-4, abs=1e-5), record["step"]


def test_every_loss_has_a_function() -> None:
    assert set(PAIR_LOSSES) == {*PREF_LOSSES, "sft"}


@pytest.mark.parametrize(
    "training",
    [
        {"f_divergence_type": "forward_kl", "ld_alpha": 0.5},
        {"f_divergence_type": "js_divergence", "ld_alpha": 0.5},
        {"f_divergence_type": "alpha_divergence", "ld_alpha": 0.5},
        {"use_weighting": True},
    ],
    ids=lambda training: str(next(iter(training.values()))),
)
def test_recorded_losses_under_other_settings(tiny_model: Path, tmp_path: Path, training: dict[str, Any]) -> None:
    history, rows = recorded(tiny_model, tmp_path, "foodpo", training={"max_steps": 3, **training})
    averages(history, rows)
    assert (rows.weight > 0).all() and (rows.weight.nunique() > 1) is ("use_weighting" in training)


@pytest.mark.parametrize("loss", PREF_LOSSES)
def test_recorded_losses_and_pulls(tiny_model: Path, tmp_path: Path, loss: str) -> None:
    """The losses average to TRL's own; the pull on the chosen answer is a central difference in log pi(y_w)."""
    params, training = {"pref_beta": 0.3, "pref_loss": loss}, {"max_steps": 3, **NEEDS.get(loss, {})}
    history, rows = recorded(tiny_model, tmp_path, "foodpo", params=params, training=training)
    assert rows.dynamic_beta.std() > 0
    averages(history, rows)

    def value(shift: float) -> np.ndarray:
        chosen = torch.tensor((rows.policy_chosen_logp - rows.ref_chosen_logp + shift).to_numpy())
        rejected = torch.tensor((rows.policy_rejected_logp - rows.ref_rejected_logp).to_numpy())
        tokens = [torch.tensor(rows[f"{which}_tokens"].to_numpy()) for which in ("chosen", "rejected")]
        smoothing = NEEDS.get(loss, {}).get("label_smoothing", 0.0)
        beta = torch.tensor(rows.dynamic_beta.to_numpy())
        return PAIR_LOSSES[loss](PairTerms(chosen, rejected, chosen, rejected, *tokens, beta, smoothing)).numpy()

    slope = -(value(1e-5) - value(-1e-5)) / 2e-5
    assert rows.gradient_weight.to_numpy() == pytest.approx(slope, rel=1e-4, abs=1e-7)


NEUTRAL = [
    ("foodpo", {"pref_beta_scale": 0.0}),
    ("beta_dpo", {"a": 0.0, "keep": 1.0}),
    ("epsilon_dpo", {"epsilon": 0.0, "pref_beta": 0.1}),
    ("beta_head", {"head_learning_rate": 1e-12, "anchor": 0.0}),
    ("dataset_beta", {}),
]


def test_neutral_settings_reduce_to_dpo(tiny_model: Path, tmp_path: Path) -> None:
    pairs, weights = [replace(pair, beta=0.1) for pair in make_pairs()], {}
    for name, values in (("fixed", {}), *NEUTRAL):
        job = trained(tiny_model, tmp_path / name, name, pairs=pairs, params={"pref_beta": 0.1, **values})
        weights[name] = weights_of(job)
        for key, value in weights["fixed"].items():
            assert torch.allclose(value, weights[name][key], atol=2e-6, rtol=0), (name, key)


def test_a_constant_scaled_perplexity_reduces_to_dpo(tiny_model: Path, tmp_path: Path) -> None:
    """One prompt for all pairs and a policy that does not move (learning rate 0): c * log PPL is a constant."""
    pairs = [replace(pair, prompt=make_pairs(1)[0].prompt) for pair in make_pairs()]
    training = {"learning_rate": 0.0, "max_steps": 2}
    first = trained(
        tiny_model, tmp_path / "foodpo", "foodpo", params={"pref_beta": 0.1}, training=training, pairs=pairs
    )
    beta = rows_of(first).dynamic_beta
    assert beta.std() == pytest.approx(0, abs=1e-7)
    fixed = trained(
        tiny_model, tmp_path / "fixed", params={"pref_beta": float(beta.mean())}, training=training, pairs=pairs
    )
    for a, b in zip(logged(first), logged(fixed), strict=True):
        for key in ("loss", "grad_norm", "rewards/margins"):
            assert a[key] == pytest.approx(b[key], rel=1e-5, abs=1e-7)
