"""The interface of a beta rule: what it is given for a batch of pairs, what it returns.

Every rule fits one form, l = weight * loss(beta * (s_w - s_l) - margin) + extra, with an optional mask of pairs. Most rules
return a beta only; the rest of the form is there for the published rules and the controls that need it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

#: For what only DPO's batches have.
_DPO_ONLY: Any = None


@dataclass(frozen=True)
class RuleBatch:
    """What a rule may look at, for B pairs of one micro-batch on one rank. What only DPO's batches have is
    None elsewhere: `delta` to `reference_entropies`, `log_ratios`, and under KTO and ORPO the responses' perplexity.

    Attributes:
        log_ppl: (B,) mean negative log-likelihood of the prompt's tokens after the first, nats per token, under
            the policy. Detached unless the rule sets `attach_ppl`. Zero where `has_ppl` is False.
        has_ppl: (B,) bool; False for prompts of one token, which have no perplexity.
        hidden: (B, H) the policy's last hidden state, aggregated as the rule asked, or None if it did not ask.
        example_index: (B,) position of each pair in the training set.
        response_log_ppl: (B,) mean negative log-likelihood over the tokens of both completions, nats per token; as
            `log_ppl`. It treats both completions alike, so it carries no label.
        prompt_tokens, response_tokens: (B,) how many tokens the two perplexities are means over.
        delta: (B,) the beta-free log-ratio margin, detached; 0 where the policy has not moved beyond float noise.
        delta_average: (B,) the same margin of log-ratios per completion token, detached.
        chosen_ratio, rejected_ratio: (B,) log pi(y|x) / ref(y|x) of each answer, with their gradient; 0 like `delta`.
        chosen_logp, rejected_logp: (B,) policy log-probs, summed over the answer's tokens, with their gradient.
        chosen_average, rejected_average: (B,) the same per token.
        chosen_tokens, rejected_tokens: (B,) the answers' lengths.
        reference_entropies: (2, B) mean entropy of the reference's next-token distribution over the chosen and over the
            rejected answer, nats.
        pair_beta: (B,) the dataset's column `beta`, or None.
        columns: (B,) each, the dataset's numbers that the rule named in `columns`.
        log_ratios: (3, B) log pi(y_w|x) - log pi(y_l|x) of the policy, of the policy moved away from the reference by the
            rule's `perturbation` and of the policy moved towards it; None unless the rule sets `perturbation`.
        step: the optimiser step being trained, from 1. progress: share of all steps done before it, in [0, 1).
        training: False during evaluation, when a rule must not change its state.
        gather: concatenates a (B,) tensor over all ranks, in rank order. rank: this process's place in it.
    """

    log_ppl: Tensor
    has_ppl: Tensor
    hidden: Tensor | None
    example_index: Tensor
    response_log_ppl: Tensor = _DPO_ONLY
    prompt_tokens: Tensor = _DPO_ONLY
    response_tokens: Tensor = _DPO_ONLY
    delta: Tensor = _DPO_ONLY
    delta_average: Tensor = _DPO_ONLY
    chosen_ratio: Tensor = _DPO_ONLY
    rejected_ratio: Tensor = _DPO_ONLY
    chosen_logp: Tensor = _DPO_ONLY
    rejected_logp: Tensor = _DPO_ONLY
    chosen_average: Tensor = _DPO_ONLY
    rejected_average: Tensor = _DPO_ONLY
    chosen_tokens: Tensor = _DPO_ONLY
    rejected_tokens: Tensor = _DPO_ONLY
    reference_entropies: Tensor = _DPO_ONLY
    pair_beta: Tensor | None = None
    columns: Mapping[str, Tensor] = field(default_factory=dict)
    log_ratios: Tensor = _DPO_ONLY
    step: int = 1
    progress: float = 0.0
    training: bool = True
    gather: Callable[[Tensor], Tensor] = lambda values: values
    rank: int = 0

    @property
    def own(self) -> slice:
        """Where this rank's pairs are in what `gather` gives."""
        return slice(self.rank * len(self.delta), (self.rank + 1) * len(self.delta))


@dataclass(frozen=True)
class RuleOutput:
    """What a rule decides about B pairs: l = weight * loss(beta * score - margin) + extra, averaged over the mask's pairs.

    Attributes:
        beta: a float for all pairs, or (B,).
        weight: (B,) factor of each pair's loss, or None for 1.
        margin: (B,) subtracted inside the loss, or None for 0.
        mask: (B,) bool, pairs that count, or None for all.
        score: (B,) what takes the place of the log-ratio margin, with its gradient, or None.
        extra: (B,) added to each pair's loss, with its gradient, or None.
    """

    beta: float | Tensor
    weight: Tensor | None = None
    margin: Tensor | None = None
    mask: Tensor | None = None
    score: Tensor | None = None
    extra: Tensor | None = None

    @property
    def beta_only(self) -> bool:
        """Whether TRL's own loss with this beta is all that is needed."""
        return all(part is None for part in (self.weight, self.margin, self.mask, self.score, self.extra))


class BetaRule(nn.Module):
    """A rule maps a batch of pairs to one beta each.

    Subclasses implement `beta`, or `output` where they need more than a beta. Parameters and buffers of the module are
    saved with every checkpoint; parameters get a group of their own in the optimiser with learning rate `head_learning_rate`.

    Attributes:
        aggregation: None, or which hidden states to hand over: last_prompt_token, mean_prompt, last_completion_token.
        attach_ppl: whether the gradient may flow through `log_ppl`.
        ppl_of: whose perplexity `log_perplexity` gives: prompt, response or both.
        ppl_tokens: which prompt tokens count: all, or user for the words of the user's turns without the chat template.
        perturbation: None, or the epsilon of `RuleBatch.log_ratios`; the reference is then run in every step.
        needs_pair_beta: whether every row of the training data must have a `beta`.
        needs_reference_entropy: whether `RuleBatch.reference_entropies` is looked at.
        columns: names of the dataset's columns of numbers that `RuleBatch.columns` is to hold.
        batch_statistics: whether a pair's loss depends on the other pairs of its micro-batch, which is then never split.
        fell_back: (B,) bool, the pairs of the last call whose beta is `pref_beta` for want of a perplexity; None for none.
        seed, vocabulary_size: set before training. rule_name, rule_params: what the rule was built from; saved beside its state.
    """

    aggregation: str | None = None
    attach_ppl: bool = False
    ppl_of: str = "prompt"
    ppl_tokens: str = "all"
    perturbation: float | None = None
    needs_pair_beta: bool = False
    needs_reference_entropy: bool = False
    columns: tuple[str, ...] = ()
    batch_statistics: bool = False
    fell_back: Tensor | None = None
    head_learning_rate: float = 1e-3
    seed: int = 0
    vocabulary_size: int = 0
    rule_name: str = ""
    rule_params: Mapping[str, Any] = {}

    def __init__(self, pref_beta: float = 0.1, pref_loss: str = "sigmoid") -> None:
        super().__init__()
        self.pref_beta = float(pref_beta)
        self.pref_loss = pref_loss

    def initialise(self, log_ppl: Tensor) -> None:
        """Called once before training with the reference's log-perplexities (N,) of the training set (see `ppl_of`)."""

    def beta(self, batch: RuleBatch) -> float | Tensor:
        """The beta of each pair: a float for all of them, or a tensor of shape (B,)."""
        raise NotImplementedError

    def output(self, batch: RuleBatch) -> RuleOutput:
        """Everything the rule decides; `beta` alone unless a subclass says more."""
        return RuleOutput(self.beta(batch))

    def forward(self, batch: RuleBatch) -> RuleOutput:
        """`output` in float32: under autocast a head would round betas to eight bits, and its bounds with them."""
        self.fell_back = None
        with torch.autocast(batch.log_ppl.device.type, enabled=False):
            return self.output(batch)

    def after_optimizer_step(self, gather: Callable[[Tensor], Tensor]) -> None:
        """Called after every optimiser step, on every rank."""

    def penalty(self, beta: Tensor) -> Tensor | None:
        """A scalar that is trained on beside the loss, or None. It is logged on its own, not as part of the loss."""
        return None

    def clamp(self, beta: Tensor) -> Tensor:
        """Beta within the rule's bounds (none by default)."""
        return beta

    def at_bound(self, beta: Tensor) -> Tensor | None:
        """(B,) bool, True where beta sits at a bound of the rule; None for a rule without bounds."""
        return None

    def log_perplexity(self, batch: RuleBatch) -> tuple[Tensor, Tensor]:
        """Log-perplexity (B,) of what `ppl_of` names, not below 0, and whether there is one (B,)."""
        if self.ppl_of == "prompt":
            return batch.log_ppl.clamp_min(0.0), batch.has_ppl
        response, tokens = batch.response_log_ppl, batch.response_tokens
        if self.ppl_of == "response":
            return response.clamp_min(0.0), tokens > 0
        total = (batch.prompt_tokens + tokens).clamp_min(1)
        both = (batch.log_ppl * batch.prompt_tokens + response * tokens) / total
        return both.clamp_min(0.0), (batch.prompt_tokens + tokens) > 0

    def with_fallback(self, beta: Tensor, batch: RuleBatch) -> Tensor:
        """`beta` (B,), with `pref_beta` for prompts that have no perplexity."""
        return self.where_known(beta, batch.has_ppl)

    def where_known(self, beta: Tensor, known: Tensor) -> Tensor:
        """`beta` (B,) where `known` (B,), `pref_beta` elsewhere."""
        self.fell_back = ~known
        return torch.where(known, beta, torch.full_like(beta, self.pref_beta))


class PublishedRule(BetaRule):
    """Base of the built-in rules: parameters, declared and checked in `trainers.rules.catalogue` under the rule's name, become
    attributes."""

    def __init__(self, hidden_size: int, pref_beta: float = 0.1, pref_loss: str = "sigmoid", **params: Any) -> None:
        super().__init__(pref_beta, pref_loss)
        for name, value in params.items():
            setattr(self, name, value)
