"""What TRL calls as `model`: one forward that also yields the prompt's perplexity, hidden states and the betas.

From the same tensors come one row of numbers per pair, and the loss of rules that say more than a beta.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trainers.loss.forward import ForwardPass, perturbed_log_ratios, run_forward, sequence_logps
from trainers.loss.losses import PAIR_LOSSES, PairTerms, divergence_score
from trainers.rules.base import RuleBatch, RuleOutput

if TYPE_CHECKING:
    from trainers.trainer.dpo import DynamicBetaDPOTrainer


@dataclass
class PairInputs:
    """What a batch of B pairs carries beside TRL's own tensors. `reference` is a pass made in this step, if there was one."""

    completion_mask: Tensor
    ref_chosen_logps: Tensor
    ref_rejected_logps: Tensor
    example_index: Tensor
    ref_entropy: Tensor | None = None
    pair_beta: Tensor | None = None
    prompt_words: Tensor | None = None
    reference: ForwardPass | None = None


class PolicyStandIn:
    """Runs the policy once for a batch and asks the rule; sets the trainer's `beta` for TRL to read.

    After the call: `batch` (what the rule saw), `output` (what it said, beta before its bounds), `pass_` (the forward pass) and
    `logps` (2B,) with their gradient.
    """

    def __init__(self, trainer: DynamicBetaDPOTrainer, model: Any, pairs: PairInputs) -> None:
        self.trainer, self.model, self.pairs = trainer, model, pairs

    def __call__(self, **kwargs: Any) -> Any:
        if not kwargs.get("fused_lm_head"):
            return self.model(**kwargs)
        trainer, rule, pairs = self.trainer, self.trainer.rule, self.pairs
        pad = trainer._tokenizer.pad_token_id if trainer.prefix_sharing else None
        self.pass_ = run_forward(
            self.model,
            trainer._causal_lm().base_model,
            kwargs,
            pairs.completion_mask,
            pad,
            pairs.prompt_words,
            rule.aggregation,
            rule.attach_ppl,
            rule.perturbation is not None,
        )
        self.logps = sequence_logps(self.pass_.outputs.log_probs, pairs.completion_mask, trainer.ld_alpha)
        self.batch = self._rule_batch()
        self.output: RuleOutput = rule(self.batch)
        beta = self.output.beta
        trainer.beta = rule.clamp(beta) if isinstance(beta, Tensor) else beta
        return self.pass_.outputs

    def _rule_batch(self) -> RuleBatch:
        trainer, rule, pairs, done = self.trainer, self.trainer.rule, self.pairs, self.pass_
        log_probs = done.outputs.log_probs
        source = log_probs if rule.attach_ppl else log_probs.detach()
        chosen_tokens, rejected_tokens = pairs.completion_mask[:, 1:].sum(1).clamp_min(1).chunk(2)
        tokens = chosen_tokens + rejected_tokens
        response = -sum(source.sum(1).chunk(2)) / tokens
        chosen, rejected = self.logps.chunk(2)
        chosen_ratio = (chosen - pairs.ref_chosen_logps).detach()
        rejected_ratio = (rejected - pairs.ref_rejected_logps).detach()
        return trainer.rule_batch(
            log_ppl=done.prompt_nll if rule.attach_ppl else done.prompt_nll.detach(),
            has_ppl=done.prompt_tokens > 0,
            hidden=done.hidden,
            example_index=pairs.example_index,
            response_log_ppl=response,
            prompt_tokens=done.prompt_tokens,
            response_tokens=tokens,
            delta=chosen_ratio - rejected_ratio,
            delta_average=chosen_ratio / chosen_tokens - rejected_ratio / rejected_tokens,
            chosen_average=chosen / chosen_tokens,
            rejected_average=rejected / rejected_tokens,
            reference_entropy=pairs.ref_entropy,
            pair_beta=pairs.pair_beta,
            log_ratios=self._log_ratios(),
        )

    def _log_ratios(self) -> Tensor | None:
        epsilon = self.trainer.rule.perturbation
        if epsilon is None:
            return None
        assert self.pairs.reference is not None
        head = self.trainer._causal_lm().get_output_embeddings()
        reference_head = self.trainer._causal_lm(self.trainer.ref_model).get_output_embeddings()
        count = len(self.pairs.example_index)
        return perturbed_log_ratios(self.pass_, self.pairs.reference, head, reference_head, epsilon, count)


def _pair_terms(trainer: DynamicBetaDPOTrainer, policy: PolicyStandIn, dtype: torch.dtype | None = None) -> PairTerms:
    """The numbers the pair losses look at; in `dtype` and detached if one is given, else with their gradient."""
    pairs, output = policy.pairs, policy.output

    def number(value: Tensor) -> Tensor:
        return value if dtype is None else value.detach().to(dtype)

    chosen, rejected = policy.logps.chunk(2)
    chosen_ratio, rejected_ratio = number(chosen - pairs.ref_chosen_logps), number(rejected - pairs.ref_rejected_logps)
    chosen_tokens, rejected_tokens = pairs.completion_mask.sum(1).chunk(2)
    divergence = str(getattr(trainer.f_divergence_type, "value", trainer.f_divergence_type))
    return PairTerms(
        chosen_score=divergence_score(chosen_ratio, divergence, trainer.f_alpha_divergence_coef),
        rejected_score=divergence_score(rejected_ratio, divergence, trainer.f_alpha_divergence_coef),
        chosen_ratio=chosen_ratio,
        rejected_ratio=rejected_ratio,
        chosen_tokens=chosen_tokens,
        rejected_tokens=rejected_tokens,
        beta=number(torch.as_tensor(trainer.beta, device=chosen.device)).expand_as(chosen_ratio),
        label_smoothing=trainer.label_smoothing,
        discopop_tau=trainer.args.discopop_tau,
        margin=None if output.margin is None else number(output.margin),
        score=None if output.score is None else number(output.score),
    )


def rule_loss(trainer: DynamicBetaDPOTrainer, policy: PolicyStandIn) -> Tensor:
    """Scalar: the mean of weight * loss over the pairs in the mask, with its gradient."""
    output = policy.output
    losses = PAIR_LOSSES[trainer.rule.pref_loss](_pair_terms(trainer, policy))
    if output.weight is not None:
        losses = losses * output.weight
    if output.mask is None:
        return losses.mean()
    return (losses * output.mask).sum() / output.mask.sum().clamp_min(1)


def _gradient_weight(terms: PairTerms, loss: str) -> Tensor:
    """(B,) how hard a pair pulls: -d loss / d s_w; beta * sigmoid(-beta * delta) for the sigmoid loss."""
    if loss == "sigmoid":
        return terms.beta * torch.sigmoid(-terms.logit)
    with torch.enable_grad():
        score, ratio = (value.clone().requires_grad_() for value in (terms.chosen_score, terms.chosen_ratio))
        losses = PAIR_LOSSES[loss](replace(terms, chosen_score=score, chosen_ratio=ratio))
        parts = torch.autograd.grad(losses.sum(), (score, ratio), allow_unused=True)
    return -sum(part for part in parts if part is not None)


@torch.no_grad()
def example_rows(
    trainer: DynamicBetaDPOTrainer, policy: PolicyStandIn, attention_mask: Tensor, weighting: Tensor | None
) -> dict[str, Tensor]:
    """The columns (B,) of a row for each pair (see `RecordedTrainer.add_rows`). `weighting` (B,): WPO's factors, if used."""
    pairs, output = policy.pairs, policy.output
    terms = _pair_terms(trainer, policy, torch.float64)
    delta = terms.chosen_ratio - terms.rejected_ratio
    ones = torch.ones_like(delta)
    weight = ones if output.weight is None else output.weight.detach().double()
    if weighting is not None:
        weight = weight * weighting.double()
    mask = ones if output.mask is None else output.mask.double()
    chosen, rejected = policy.logps.detach().chunk(2)
    return {
        "example_index": pairs.example_index,
        "prompt_tokens": attention_mask.sum(1).chunk(2)[0] - terms.chosen_tokens,
        "chosen_tokens": terms.chosen_tokens,
        "rejected_tokens": terms.rejected_tokens,
        "dynamic_beta": terms.beta,
        "policy_chosen_logp": chosen,
        "policy_rejected_logp": rejected,
        "ref_chosen_logp": pairs.ref_chosen_logps,
        "ref_rejected_logp": pairs.ref_rejected_logps,
        "delta": delta,
        "loss": weight * PAIR_LOSSES[trainer.rule.pref_loss](terms),
        "loss_at_beta0": -torch.nn.functional.logsigmoid(trainer.rule.pref_beta * delta),
        "weight": weight,
        "gradient_weight": mask * weight * _gradient_weight(terms, trainer.rule.pref_loss),
        "mask": mask,
    }


def wpo_weights(outputs: Any, completion_mask: Tensor) -> Tensor:
    """(B,) WPO's factor of each pair (arXiv 2406.11827), as TRL multiplies it into the loss."""
    mask = completion_mask[:, 1:]
    aligned = (outputs.log_probs - outputs.log_sum_sq_probs) * mask
    return torch.stack(torch.exp(aligned.sum(1) / mask.sum(1).clamp_min(1)).chunk(2)).prod(0)
