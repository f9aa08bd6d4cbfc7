"""What a learned beta looked at: hidden states of the last pairs trained, kept small, beside the beta each was given."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from trainers.common.files import replacing
from trainers.common.training_schema import BETA_PROBE

MOST_PAIRS = 256
COMPONENTS = 16


class BetaProbe:
    """Keeps the prompt states of the last 256 pairs on this process; reads tensors that training made anyway."""

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, step: int, example_index: Tensor, beta: Tensor, log_ppl: Tensor, hidden: Tensor) -> None:
        """One micro-batch: example_index, beta, log_ppl of shape (B,), hidden of shape (B, H)."""
        columns = (torch.full_like(beta, step), example_index, beta, log_ppl)
        numbers = torch.stack([c.detach().double().cpu() for c in columns], dim=1)
        fresh = {"numbers": numbers, "hidden": hidden.detach().float().cpu()}
        for name, values in fresh.items():
            self._kept[name] = torch.cat([self._kept.get(name, values[:0]), values])[-MOST_PAIRS:]

    def state_dict(self) -> dict[str, Tensor]:
        """For a checkpoint; a resumed run then writes the same file as an uninterrupted one."""
        return self._kept

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""
        self._kept = dict(state)

    def write(self, run_dir: Path, example_ids: Sequence[str]) -> Path | None:
        """`beta_probe.parquet`: example_id, step, dynamic_beta, log_prompt_perplexity and the first 16 principal components of
        the states (standardised columns pc_00..., unit variance); None, and no file, with fewer than 8 pairs."""
        if not self._kept or len(self._kept["numbers"]) < 8:
            return None
        numbers, states = self._kept["numbers"].numpy(), self._kept["hidden"].double().numpy()
        states = states - states.mean(axis=0)
        left, _, _ = np.linalg.svd(states, full_matrices=False)
        parts = left[:, :COMPONENTS] * np.sqrt(len(states))
        table = pa.table(
            {
                "example_id": [example_ids[int(i)] for i in numbers[:, 1]],
                "step": pa.array(numbers[:, 0].astype(int), pa.int32()),
                "dynamic_beta": numbers[:, 2],
                "log_prompt_perplexity": numbers[:, 3],
                **{f"pc_{k:02d}": column for k, column in enumerate(parts.T)},
            }
        )
        target = run_dir / BETA_PROBE
        with replacing(target) as temporary:
            pq.write_table(table, temporary, compression="zstd")
        return target
