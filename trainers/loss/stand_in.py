"""What TRL calls as `model`: one forward that also yields the prompt's perplexity, hidden states and the betas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from trainers.loss.forward import ForwardPass, ForwardRequest, perturbed_log_ratios, run_forward, sequence_logps
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
        request = ForwardRequest(
            kwargs,
            pairs.completion_mask,
            pairs.prompt_words,
            rule.aggregation,
            rule.attach_ppl,
            rule.perturbation is not None,
        )
        pad = trainer._tokenizer.pad_token_id if trainer.prefix_sharing else None
        self.pass_ = run_forward(self.model, trainer._causal_lm().base_model, request, pad)
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
