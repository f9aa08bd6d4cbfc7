"""What TRL calls as `model`: one forward that also yields the prompt's perplexity, hidden states and the betas.

From the same tensors come one row of numbers per pair, and the loss of rules that say more than a beta.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trainers.loss.forward import ForwardPass, perturbed_log_ratios, run_forward, sequence_logps
from trainers.loss.losses import PairTerms, divergence_score, pair_losses
from trainers.rules.base import RuleBatch, RuleOutput

if TYPE_CHECKING:
    from trainers.trainer.dpo import DynamicBetaDPOTrainer


#: Relative error that the last bits of a float32 log-prob may have.
_ROUNDING = 4 * torch.finfo(torch.float32).eps


@dataclass
class PairInputs:
    """What a batch of B pairs carries beside TRL's own tensors.

    `ref_entropy` (B, 2) and `rule_columns` (B, len(rule.columns)); `reference` is a pass made in this step, if there was one.
    """

    completion_mask: Tensor
    ref_chosen_logps: Tensor
    ref_rejected_logps: Tensor
    example_index: Tensor
    ref_entropy: Tensor | None = None
    pair_beta: Tensor | None = None
    rule_columns: Tensor | None = None
    prompt_words: Tensor | None = None
    reference: ForwardPass | None = None


class PolicyStandIn:
    """Runs the policy once for a batch and asks the rule; sets the trainer's `beta` for TRL to read.

    After the call: `batch` (what the rule saw), `output` (what it said, beta before its bounds), `pass_` (the forward pass),
    `logps` (2B,) with their gradient, and `quiet` (B,) bool, pairs whose policy has not moved beyond float noise.
    """

    def __init__(self, trainer: "DynamicBetaDPOTrainer", model: Any, pairs: PairInputs) -> None:
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
        chosen_ratio, rejected_ratio = self._above_noise(chosen, rejected)
        delta = (chosen_ratio - rejected_ratio).detach()
        columns = pairs.rule_columns
        return trainer.rule_batch(
            log_ppl=done.prompt_nll if rule.attach_ppl else done.prompt_nll.detach(),
            has_ppl=done.prompt_tokens > 0,
            hidden=done.hidden,
            example_index=pairs.example_index,
            response_log_ppl=response,
            prompt_tokens=done.prompt_tokens,
            response_tokens=tokens,
            delta=delta,
            delta_average=(chosen_ratio / chosen_tokens - rejected_ratio / rejected_tokens).detach(),
            chosen_ratio=chosen_ratio,
            rejected_ratio=rejected_ratio,
            chosen_logp=chosen,
            rejected_logp=rejected,
            chosen_average=chosen / chosen_tokens,
            rejected_average=rejected / rejected_tokens,
            chosen_tokens=chosen_tokens,
            rejected_tokens=rejected_tokens,
            reference_entropies=None if pairs.ref_entropy is None else pairs.ref_entropy.T,
            pair_beta=pairs.pair_beta,
            columns={} if columns is None else dict(zip(rule.columns, columns.to(delta).unbind(1), strict=True)),
            log_ratios=self._log_ratios(),
        )

    def _above_noise(self, chosen: Tensor, rejected: Tensor) -> tuple[Tensor, Tensor]:
        """Log-ratios (B,) with their gradient; exactly 0 for pairs whose policy has not moved beyond float noise.

        Where the reference's scores come from passes of another batch shape, the first step's log-ratios are about 1e-5 instead
        of 0, and rules that divide by their spread, or look at their sign, would turn that into a signal.
        """
        theirs = torch.stack([self.pairs.ref_chosen_logps, self.pairs.ref_rejected_logps])
        ratios = torch.stack([chosen, rejected]) - theirs
        noise = 0.0 if self.pairs.reference is not None else self.trainer.noise + _ROUNDING * theirs.abs()
        self.quiet = (ratios.detach().abs() <= noise).all(0)
        first, second = (ratios - ratios.detach() * self.quiet).unbind(0)
        return first, second

    def _log_ratios(self) -> Tensor | None:
        epsilon = self.trainer.rule.perturbation
        if epsilon is None:
            return None
        assert self.pairs.reference is not None
        head = self.trainer._causal_lm().get_output_embeddings()
        reference_head = self.trainer._causal_lm(self.trainer.ref_model).get_output_embeddings()
        count = len(self.pairs.example_index)
        return perturbed_log_ratios(self.pass_, self.pairs.reference, head, reference_head, epsilon, count)


def _pair_terms(trainer: "DynamicBetaDPOTrainer", policy: PolicyStandIn, dtype: torch.dtype | None = None) -> PairTerms:
    """The numbers the pair losses look at; in `dtype` and detached if one is given, else with their gradient."""
    pairs, output = policy.pairs, policy.output

    def number(value: Tensor) -> Tensor:
        return value if dtype is None else value.detach().to(dtype)

    chosen, rejected = policy.logps.chunk(2)
    chosen_ratio, rejected_ratio = number(chosen - pairs.ref_chosen_logps), number(rejected - pairs.ref_rejected_logps)
    chosen_tokens, rejected_tokens = pairs.completion_mask.sum(1).chunk(2)
    scored = pairs.completion_mask[:, 1:].chunk(2)[0].sum()
    nll = -policy.pass_.outputs.log_probs.chunk(2)[0].sum(1) * len(chosen) / scored.clamp_min(1)
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
        chosen_nll=number(nll),
    )


def total_loss(trainer: "DynamicBetaDPOTrainer", policy: PolicyStandIn, stock: Tensor) -> tuple[Tensor, Tensor]:
    """The scalar a step is trained on, with its gradient, and the rule's penalty in it, detached. Built here and nowhere else.

    Where the rule says a beta and nothing else, the pairs' part is `stock`, TRL's own loss, which holds all of TRL's terms.
    Otherwise it is the mean of weight * loss + extra over the mask's pairs of all ranks, and TRL's other terms are added: the
    load-balancing loss of mixtures of experts.

    Raises:
        RuntimeError: `stock` holds a term that is not known here, so a loss in its place would lack it.
    """
    output, loss = policy.output, stock
    if not output.beta_only or trainer.losses != trainer.trl_losses:
        terms = _pair_terms(trainer, policy)
        aux = trainer.router_aux_loss_coef * policy.pass_.outputs.aux_loss if trainer.aux_loss_enabled else 0.0
        if not trainer.stock_terms_known:
            plain = pair_losses(replace(terms, margin=None, score=None), trainer.trl_losses).mean() + aux
            if float((plain - stock).detach().abs()) > 1e-3 * (1 + float(stock.detach().abs())):
                raise RuntimeError(
                    f"TRL's loss is {float(stock):.6g} where the terms known here add up to {float(plain):.6g}: this version "
                    "of TRL adds a term, or a setting does, that a rule with its own loss would lack; use another rule"
                )
            trainer.stock_terms_known = True
        loss = _pair_mean(trainer, output, pair_losses(terms, trainer.losses)) + aux
    beta = output.beta
    penalty = trainer.rule.penalty(beta) if isinstance(beta, Tensor) and trainer.model.training else None
    return (loss, torch.zeros(())) if penalty is None else (loss + penalty, penalty.detach())


def _pair_mean(trainer: "DynamicBetaDPOTrainer", output: RuleOutput, losses: Tensor) -> Tensor:
    """Mean over the mask's pairs of all ranks, whose gradients are averaged later: each rank divides by the mean count."""
    weighted = _whole(output, losses)
    if output.mask is None:
        return weighted.mean()
    kept = trainer.accelerator.gather(output.mask.sum()[None]).double().mean().clamp_min(1e-9)
    return (weighted * output.mask).sum() / kept.to(weighted.dtype)


def _whole(output: RuleOutput, losses: Tensor) -> Tensor:
    """(B,) weight * losses + extra, in the precision of `losses`."""
    weighted = losses if output.weight is None else losses * output.weight.to(losses.dtype)
    return weighted if output.extra is None else weighted + output.extra.to(losses.dtype)


def _gradient_weight(trainer: "DynamicBetaDPOTrainer", policy: PolicyStandIn, terms: PairTerms) -> Tensor:
    """(B,) how hard a pair pulls on its chosen answer, -d loss / d log pi(y_w); beta * sigmoid(-beta * delta) for plain DPO.

    NaN where the rule's own score needs a gradient and there is none (in evaluation).
    """
    output = policy.output
    with torch.enable_grad():
        if output.score is not None or output.extra is not None:
            if not policy.logps.requires_grad:
                return torch.full_like(terms.beta, float("nan"))
            losses = _whole(output, pair_losses(_pair_terms(trainer, policy), trainer.losses))
            return -torch.autograd.grad(losses.sum(), policy.logps, retain_graph=True)[0].chunk(2)[0].double()
        if trainer.losses == {"sigmoid": 1.0}:
            return _whole(output, terms.beta * torch.sigmoid(-terms.logit)).detach()
        score, ratio = (value.clone().requires_grad_() for value in (terms.chosen_score, terms.chosen_ratio))
        losses = pair_losses(replace(terms, chosen_score=score, chosen_ratio=ratio), trainer.losses)
        parts = torch.autograd.grad(losses.sum(), (score, ratio), allow_unused=True)
    return _whole(output, -sum(part for part in parts if part is not None)).detach()


@torch.no_grad()
def example_rows(
    trainer: "DynamicBetaDPOTrainer", policy: PolicyStandIn, attention_mask: Tensor, weighting: Tensor | None
) -> dict[str, Tensor]:
    """The columns (B,) of a row for each pair (see `RecordedTrainer.add_rows`). `weighting` (B,): WPO's factors, if used."""
    pairs, output = policy.pairs, policy.output
    terms = _pair_terms(trainer, policy, torch.float64)
    delta = terms.chosen_ratio - terms.rejected_ratio
    ones = torch.ones_like(delta)
    weight = ones if output.weight is None else output.weight.detach().double()
    factor = ones if weighting is None else weighting.double()
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
        "loss": factor * _whole(output, pair_losses(terms, trainer.losses)),
        "loss_at_beta0": -torch.nn.functional.logsigmoid(trainer.rule.pref_beta * delta),
        "weight": factor * weight,
        "gradient_weight": mask * factor * _gradient_weight(trainer, policy, terms),
        "mask": mask,
    }


def wpo_weights(outputs: Any, completion_mask: Tensor) -> Tensor:
    """(B,) WPO's factor of each pair (arXiv 2406.11827), as TRL multiplies it into the loss."""
    mask = completion_mask[:, 1:]
    aligned = (outputs.log_probs - outputs.log_sum_sq_probs) * mask
    return torch.stack(torch.exp(aligned.sum(1) / mask.sum(1).clamp_min(1)).chunk(2)).prod(0)
