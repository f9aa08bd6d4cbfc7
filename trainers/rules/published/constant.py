"""Betas known before training: one for all pairs (DPO, arXiv 2305.18290), or the dataset's column `beta`."""

from __future__ import annotations

from torch import Tensor

from trainers.rules.base import PublishedRule, RuleBatch


class Fixed(PublishedRule):
    """beta = pref_beta for every pair, as a Python float: the loss is TRL's own to the last bit."""

    def beta(self, batch: RuleBatch) -> float:
        return self.pref_beta


class DatasetBeta(PublishedRule):
    """beta_i is what the row of pair i says. `pref_beta` is only the beta0 that losses are compared at."""

    needs_pair_beta = True

    def beta(self, batch: RuleBatch) -> Tensor:
        if batch.pair_beta is None:
            raise ValueError("rule 'dataset_beta' needs a number `beta` in every row of the training data")
        return batch.pair_beta
