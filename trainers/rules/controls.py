"""Controls: FooDPO turned round, and the betas another run realised (same seed, steps and examples) with one property removed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from trainers.common.training_schema import EXAMPLE_METRICS
from trainers.rules.base import PublishedRule, RuleBatch, RuleOutput
from trainers.rules.betas import FooDPO

#: Below this log-perplexity (nats) beta grows no further: 1 / log PPL has no bound.
_FLOOR = 0.1


class Inverse(FooDPO):
    """beta(x) = k / (log PPL(x))^power, k such that the mean over the training prompts equals FooDPO's with the same parameters.

    The mean is matched under the reference, before the first step; a schedule of c moves it as it moves the parent's.
    """

    k: Tensor
    attach_ppl = False

    def __init__(self, hidden_size: int, **params: Any) -> None:
        super().__init__(hidden_size, **params)
        self.register_buffer("k", torch.tensor(0.0, dtype=torch.float64))

    def initialise(self, log_ppl: Tensor) -> None:
        super().initialise(log_ppl)
        target = self.scale(0.0) * self.pref_beta * self.mean_power
        self.k.copy_(target / (1 / self._floored(log_ppl.double())).mean())

    def _floored(self, log_ppl: Tensor) -> Tensor:
        return self.powered(log_ppl.clamp_min(_FLOOR))

    def beta(self, batch: RuleBatch) -> Tensor:
        log_ppl, known = self.log_perplexity(batch)
        k = self.k * self.scale(batch.progress) / self.scale(0.0)
        return self.where_known((k / self._floored(log_ppl.double())).to(log_ppl.dtype), known)


class ParentRunError(RuntimeError):
    """The parent run's rows are missing, or do not cover what the control trains on."""


@dataclass(frozen=True)
class ParentRun:
    """The rows (N,) of a finished run, ordered by step and example: optimiser step, training-set index, beta."""

    step: np.ndarray
    example_index: np.ndarray
    beta: np.ndarray

    @classmethod
    def read(cls, run_dir: Path, example_ids: Sequence[str]) -> "ParentRun":
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

    @cached_property
    def by_step(self) -> dict[int, float]:
        """Mean beta of each optimiser step."""
        steps, place = np.unique(self.step, return_inverse=True)
        means = np.bincount(place, self.beta) / np.bincount(place)
        return dict(zip(steps.tolist(), means.tolist(), strict=True))

    def permuted(self, seed: int, window: int) -> "ParentRun":
        """The same betas shuffled over the examples of a step; where a step has one row, over `window` steps in a row."""
        rng = np.random.default_rng(seed)
        rows_per_step = len(self.step) / len(np.unique(self.step))
        block = self.step if rows_per_step > 1 else (self.step - 1) // window
        shuffled = self.beta.copy()
        starts = np.flatnonzero(np.r_[True, block[1:] != block[:-1]])
        for start, end in zip(starts, np.r_[starts[1:], len(block)], strict=True):
            shuffled[start:end] = rng.permutation(shuffled[start:end])
        return ParentRun(self.step, self.example_index, shuffled)

    def deranged(self, seed: int) -> "ParentRun":
        """Every example gets, visit by visit, the betas of another one: the next on a random circle through all of them.

        No example keeps its own, and one partner serves all epochs. In an epoch that was cut short the circle is through the
        examples it had.
        """
        rank = np.random.default_rng(seed).permutation(int(self.example_index.max()) + 1)[self.example_index]
        order = np.lexsort((self.step, self.example_index))
        first = np.flatnonzero(np.r_[True, np.diff(self.example_index[order]) != 0])
        visit = np.empty(len(order), dtype=np.int64)
        visit[order] = np.arange(len(order)) - np.repeat(first, np.diff(np.r_[first, len(order)]))
        dealt = self.beta.copy()
        for number in range(int(visit.max()) + 1):
            rows = np.flatnonzero(visit == number)
            rows = rows[np.argsort(rank[rows])]
            dealt[rows] = np.roll(self.beta[rows], 1)
        return ParentRun(self.step, self.example_index, dealt)


class ReplayedRule(PublishedRule):
    """Base of the controls that depend on a finished run. `load_parent` is called before training."""

    mean_beta: float
    _parent: ParentRun | None = None

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
    """The parent's betas, handed to other examples (seeded by the run's seed): the link between beta and the prompt is cut.

    With `across: data` every example gets another one's betas (`ParentRun.deranged`), so each epoch keeps their mean and spread.
    With `across: step` the betas of a step are shuffled among its examples, which keeps mean and spread step by step, but in
    small batches also a part of the link: many betas stay where they were. Steps of one pair are shuffled `window` at a time.
    """

    def load_parent(self, parent: ParentRun) -> None:
        super().load_parent(
            parent.deranged(self.seed) if self.across == "data" else parent.permuted(self.seed, self.window)
        )

    def beta(self, batch: RuleBatch) -> Tensor:
        return self.parent_beta(batch)


class BetaReplay(ReplayedRule):
    """The parent's mean beta of each step, for all pairs of that step.

    What is left of a rule that gives its batches a beta each (`beta_dpo`, `risk_beta`) without its filter and its adaptation: had
    a schedule done the same?
    """

    def beta(self, batch: RuleBatch) -> float:
        try:
            return self.parent_rows().by_step[batch.step]
        except KeyError:
            raise ParentRunError(
                f"the parent run has no step {batch.step}; a control needs its number of steps"
            ) from None


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
