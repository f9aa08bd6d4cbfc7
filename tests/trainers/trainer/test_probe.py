"""beta_probe.parquet: the last pairs, their betas, and the principal components of what the rule looked at."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from tests.trainers.helpers import make_pairs, trained
from trainers.trainer.probe import COMPONENTS, MOST_PAIRS, BetaProbe


def test_keeps_the_last_pairs_and_their_components(tmp_path: Path) -> None:
    probe = BetaProbe()
    torch.manual_seed(0)
    for step in range(1, 101):
        hidden = torch.randn(4, 32, requires_grad=True)
        probe.add(step, torch.arange(4), hidden[:, 0].exp(), torch.ones(4), hidden)
    path = probe.write(tmp_path, ["a", "b", "c", "d"])
    assert path is not None
    table = pq.read_table(path)
    assert table.num_rows == MOST_PAIRS and table["step"].to_pylist()[-1] == 100
    assert table["example_id"].to_pylist()[-4:] == ["a", "b", "c", "d"]
    parts = np.column_stack([table[f"pc_{k:02d}"] for k in range(COMPONENTS)])
    np.testing.assert_allclose(parts.T @ parts / MOST_PAIRS, np.eye(COMPONENTS), atol=1e-9)


def test_few_pairs_leave_no_file(tmp_path: Path) -> None:
    probe = BetaProbe()
    probe.add(1, torch.arange(2), torch.ones(2), torch.ones(2), torch.ones(2, 3))
    assert probe.write(tmp_path, ["a", "b"]) is None and not list(tmp_path.iterdir())


def test_a_learned_rule_leaves_a_probe_and_a_fixed_one_none(tiny_model: Path, tmp_path: Path) -> None:
    pairs = make_pairs(8)
    for rule in ("beta_head", "fixed"):
        trained(tiny_model, tmp_path / rule, rule, training={"max_steps": 4}, pairs=pairs)
    table = pq.read_table(tmp_path / "beta_head" / "beta_probe.parquet")
    rows = pq.read_table(tmp_path / "beta_head" / "example_metrics.parquet")
    assert table["example_id"].to_pylist() == rows["example_id"].to_pylist()
    np.testing.assert_allclose(table["dynamic_beta"], rows["dynamic_beta"])
    assert not (tmp_path / "fixed" / "beta_probe.parquet").exists()
