"""Rules that give every pair a beta of its own, and the constant ones."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from trainers.rules.base import PublishedRule, RuleBatch


class Fixed(PublishedRule):
    """DPO (arXiv 2305.18290): beta = pref_beta for every pair, as a Python float: the loss is TRL's own to the last bit."""

    def beta(self, batch: RuleBatch) -> float:
        return self.pref_beta


class DatasetBeta(PublishedRule):
    """beta_i is what the row of pair i says. `pref_beta` is only the beta0 that losses are compared at."""

    needs_pair_beta = True

    def beta(self, batch: RuleBatch) -> Tensor:
        if batch.pair_beta is None:
            raise ValueError("rule 'dataset_beta' needs a number `beta` in every row of the training data")
        return batch.pair_beta


class FooDPO(PublishedRule):
    """FooDPO, beta scaled by the log-perplexity of the prompt:
    beta(x) = c * (log max(PPL(x), 1))^k * pref_beta, with c = `pref_beta_scale` and k = `power`.

    c <= 0 falls back to the fixed beta, and so does a prompt of one token, which has no perplexity. With a `scale_schedule`
    c goes from `pref_beta_scale` to `pref_beta_scale_end` over training: linearly, or along half a cosine. With `rescale: mean`
    c is what makes the mean of beta over the training prompts, under the reference, `pref_beta`: k then changes the spread of
    beta alone.
    """

    mean_power: Tensor

    def __init__(self, hidden_size: int, **params: Any) -> None:
        super().__init__(hidden_size, **params)
        self.register_buffer("mean_power", torch.tensor(1.0, dtype=torch.float64), persistent=False)

    def initialise(self, log_ppl: Tensor) -> None:
        self.mean_power.copy_(self.powered(log_ppl.double()).mean())

    def powered(self, log_ppl: Tensor) -> Tensor:
        """(N,) (log PPL)^k."""
        return log_ppl.clamp_min(0.0) if self.power == 1 else log_ppl.clamp_min(0.0) ** self.power

    def scale(self, progress: float) -> float:
        """c at a share of training in [0, 1]."""
        start, end = self.pref_beta_scale, self.pref_beta_scale_end
        if self.rescale == "mean":
            return 1 / max(float(self.mean_power), 1e-12)
        if end is None or self.scale_schedule == "constant":
            return start
        share = progress if self.scale_schedule == "linear" else (1 - math.cos(math.pi * progress)) / 2
        return start + (end - start) * share

    def beta(self, batch: RuleBatch) -> float | Tensor:
        scale = self.scale(batch.progress)
        if scale <= 0:
            return self.pref_beta
        log_ppl, known = self.log_perplexity(batch)
        return self.where_known(scale * self.powered(log_ppl) * self.pref_beta, known)


class EpsilonDPO(PublishedRule):
    """epsilon-DPO (arXiv 2502.13177), beta per pair from a perturbation of the policy towards and away from the reference:
    beta_i = beta / (1 + eps * step_i); after each optimiser step beta <- beta / (1 + eps * mean(step)).

    step_i is +1 where the log-ratio of chosen to rejected grows strictly when the logits move away from the reference,
    z+ = (1 + eps) z - eps z_ref, and shrinks when they move towards it, z- = (1 - eps) z + eps z_ref; -1 the other way
    round; else 0. The mean is over the global batch. beta is part of the checkpoint.
    """

    current: Tensor
    step_sum: Tensor
    step_count: Tensor

    def __init__(self, hidden_size: int, **params: Any) -> None:
        super().__init__(hidden_size, **params)
        self.perturbation = self.epsilon
        self.register_buffer("current", torch.tensor(self.pref_beta, dtype=torch.float64))
        self.register_buffer("step_sum", torch.zeros((), dtype=torch.float64))
        self.register_buffer("step_count", torch.zeros((), dtype=torch.float64))

    def beta(self, batch: RuleBatch) -> Tensor:
        now, away, towards = batch.log_ratios
        step = ((away > now) & (now > towards)).double() - ((towards > now) & (now > away)).double()
        if batch.training:
            self.step_sum += step.sum()
            self.step_count += len(step)
        return (self.current / (1 + self.epsilon * step)).to(batch.log_ppl.dtype)

    def after_optimizer_step(self, gather: Callable[[Tensor], Tensor]) -> None:
        total, count = gather(self.step_sum[None]).sum(), gather(self.step_count[None]).sum()
        self.current.div_(1 + self.epsilon * total / count.clamp_min(1))
        self.step_sum.zero_()
        self.step_count.zero_()


class Mallows(PublishedRule):
    """MallowsPO-theta (arXiv 2405.14953), beta from the dispersion of the reference's answers:
    beta_i = pref_beta * (-phi * log H_i), H_i the reference's token entropy over log V: the mean of the two answers' means.

    A prompt whose answers are certain (H small) gets a large beta, the opposite of FooDPO's direction. H is kept within
    [1e-6, 1]: an entropy of zero would give an infinite beta.
    """

    needs_reference_entropy = True

    def beta(self, batch: RuleBatch) -> Tensor:
        share = (batch.reference_entropies.mean(0) / math.log(self.vocabulary_size)).clamp(1e-6, 1.0)
        return self.pref_beta * (-self.phi * share.log())


class MMDPO(PublishedRule):
    """MM-DPO (arXiv 2502.10391), beta grows with a reward margin from the data:
    beta_i = max(beta * (1 + w * f_i), beta_min), f the column `column`; 1 - exp(-k * reward margin) in the paper."""

    def beta(self, batch: RuleBatch) -> Tensor:
        return (self.pref_beta * (1 + self.w * batch.columns[self.column])).clamp_min(self.beta_min)
