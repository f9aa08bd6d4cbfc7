"""Controls: FooDPO turned round, and the betas another run realised (same seed, steps and examples) with one property removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from trainers.common.training_schema import EXAMPLE_METRICS
from trainers.rules.base import BetaRule, RuleBatch, RuleOutput

#: Below this log-perplexity (nats) beta grows no further: 1 / log PPL has no bound.
_FLOOR = 0.1


class Inverse(BetaRule):
    """beta(x) = k / log PPL(x), k such that the mean over the training prompts equals FooDPO's with the same parameters.

    The mean is matched under the reference, before the first step.
    """

    k: Tensor

    def __init__(
        self,
        hidden_size: int,
        pref_beta: float = 0.1,
        pref_loss: str = "sigmoid",
        pref_beta_scale: float = 0.5,
        ppl_of: str = "prompt",
        ppl_tokens: str = "all",
    ) -> None:
        super().__init__(pref_beta, pref_loss)
        self.scale = float(pref_beta_scale)
        self.ppl_of = ppl_of
        self.ppl_tokens = ppl_tokens
        self.register_buffer("k", torch.tensor(0.0, dtype=torch.float64))

    def initialise(self, log_ppl: Tensor) -> None:
        log_ppl = log_ppl.double()
        target = self.scale * self.pref_beta * log_ppl.clamp_min(0.0).mean()
        self.k.copy_(target / (1 / log_ppl.clamp_min(_FLOOR)).mean())

    def beta(self, batch: RuleBatch) -> Tensor:
        log_ppl, known = self.log_perplexity(batch)
        return self.where_known((self.k / log_ppl.double().clamp_min(_FLOOR)).to(log_ppl.dtype), known)


class ParentRunError(RuntimeError):
    """The parent run's rows are missing, or do not cover what the control trains on."""


@dataclass(frozen=True)
class ParentRun:
    """The rows (N,) of a finished run, ordered by step and example: optimiser step, training-set index, beta."""

    step: np.ndarray
    example_index: np.ndarray
    beta: np.ndarray

    @classmethod
    def read(cls, run_dir: Path, example_ids: Sequence[str]) -> ParentRun:
        """From `example_metrics.parquet`.

        Raises:
            ParentRunError: no such file, no rows, or examples that are not in the training set.
        """
        path = Path(run_dir) / EXAMPLE_METRICS
        if not path.is_file():
            raise ParentRunError(f"{path} is missing: the parent run did not finish, so its control cannot be trained")
        table = pq.read_table(path, columns=["step", "example_id", "dynamic_beta"]).to_pydict()
        index_of = {name: i for i, name in enumerate(example_ids)}
        try:
            index = np.array([index_of[name] for name in table["example_id"]], dtype=np.int64)
        except KeyError as error:
            raise ParentRunError(f"{path}: example {error} is not in the training data of this run") from None
        if not len(index):
            raise ParentRunError(f"{path} has no rows")
        step, beta = np.array(table["step"], dtype=np.int64), np.array(table["dynamic_beta"], dtype=np.float64)
        order = np.lexsort((index, step))
        return cls(step[order], index[order], beta[order])

    @cached_property
    def by_row(self) -> dict[tuple[int, int], float]:
        """Beta by optimiser step and training-set index."""
        rows = zip(self.step.tolist(), self.example_index.tolist(), self.beta.tolist(), strict=True)
        return {(step, index): beta for step, index, beta in rows}

    @property
    def mean_beta(self) -> float:
        """Mean of beta over all rows: what the parent realised."""
        return float(self.beta.mean())

    def permuted(self, seed: int, window: int) -> ParentRun:
        """The same betas shuffled over the examples of a step; where a step has one row, over `window` steps in a row."""
        rng = np.random.default_rng(seed)
        rows_per_step = len(self.step) / len(np.unique(self.step))
        block = self.step if rows_per_step > 1 else (self.step - 1) // window
        shuffled = self.beta.copy()
        starts = np.flatnonzero(np.r_[True, block[1:] != block[:-1]])
        for start, end in zip(starts, np.r_[starts[1:], len(block)], strict=True):
            shuffled[start:end] = rng.permutation(shuffled[start:end])
        return ParentRun(self.step, self.example_index, shuffled)


class ReplayedRule(BetaRule):
    """Base of the controls that depend on a finished run. `load_parent` is called before training."""

    def __init__(self, hidden_size: int, pref_beta: float = 0.1, pref_loss: str = "sigmoid", window: int = 64) -> None:
        super().__init__(pref_beta, pref_loss)
        self.window = window
        self.mean_beta = self.pref_beta
        self._parent: ParentRun | None = None

    def load_parent(self, parent: ParentRun) -> None:
        """Use the betas of `parent`."""
        self._parent, self.mean_beta = parent, parent.mean_beta

    def parent_rows(self) -> ParentRun:
        """The parent's rows.

        Raises:
            ParentRunError: `load_parent` was not called.
        """
        if self._parent is None:
            raise ParentRunError("a control needs the rows of its parent run")
        return self._parent

    def parent_beta(self, batch: RuleBatch) -> Tensor:
        """(B,) the parent's beta of each pair at this step.

        Raises:
            ParentRunError: the parent did not train one of these pairs at this step.
        """
        by_row = self.parent_rows().by_row
        try:
            betas = [by_row[batch.step, index] for index in batch.example_index.tolist()]
        except KeyError:
            raise ParentRunError(
                f"the parent run did not train these pairs at step {batch.step}; a control needs the parent's data, seed, "
                "batch size and number of steps"
            ) from None
        return torch.tensor(betas, dtype=torch.float64).to(batch.log_ppl)


class MatchedMean(ReplayedRule):
    """beta = mean of the parent's betas over its whole training: the average without the variation."""

    def beta(self, batch: RuleBatch) -> float:
        self.parent_rows()
        return self.mean_beta


class Permuted(ReplayedRule):
    """The betas of each step of the parent, handed to other examples of the same step (seeded by the run's seed).

    The mean and the spread of beta stay, step by step; the link between beta and the prompt is cut. With one pair a step the
    betas of `window` steps in a row are shuffled among them.
    """

    def load_parent(self, parent: ParentRun) -> None:
        super().load_parent(parent.permuted(self.seed, self.window))

    def beta(self, batch: RuleBatch) -> Tensor:
        return self.parent_beta(batch)


class WeightOnly(ReplayedRule):
    """Constant beta = the parent's mean beta, loss weight beta_i / mean beta: the re-weighting without the saturation."""

    def output(self, batch: RuleBatch) -> RuleOutput:
        return RuleOutput(self.mean_beta, weight=self.parent_beta(batch) / self.mean_beta)


class SaturationOnly(ReplayedRule):
    """beta_i in the loss, the loss divided by beta_i / mean beta: at delta = 0 every pair pulls alike.

    Dividing by beta_i alone would multiply all gradients by 1 / beta; the mean keeps them on the parent's scale.
    """

    def output(self, batch: RuleBatch) -> RuleOutput:
        beta = self.parent_beta(batch)
        return RuleOutput(beta, weight=self.mean_beta / beta)
