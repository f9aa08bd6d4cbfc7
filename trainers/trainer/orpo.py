"""ORPO (arXiv 2403.07691) with a beta per example: a thin subclass of trl.experimental.orpo.ORPOTrainer.

The loss is NLL(chosen) - beta * log sigmoid(log odds(y_w|x) / odds(y_l|x)), odds of the mean log-prob per token; beta is lambda
in the paper. TRL reads `self.beta` after the forward and multiplies elementwise, so it may be a (B,) tensor.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from trl.experimental.orpo import ORPOTrainer
from trl.experimental.orpo.orpo_trainer import log1mexp

from trainers.loss.pair_rows import token_log_probs
from trainers.trainer.collator import Batch
from trainers.trainer.recorded import RecordedTrainer


class _ORPOStandIn:
    """What TRL calls as `model`: the same forward, whose logits also give the prompts' perplexity, and from it the betas.

    After the call: `prompt_nll` and `prompt_tokens` (B,); `chosen_nll` and `chosen_targets` (B,), the summed negative
    log-likelihood of prompt and chosen answer and its number of tokens; `prompt_lengths` and `answer_tokens` (2B,).
    """

    def __init__(
        self, trainer: "DynamicBetaORPOTrainer", model: Any, labels: tuple[Tensor, Tensor], index: Tensor
    ) -> None:
        self.trainer, self.model, self.index = trainer, model, index
        self.answer_tokens = torch.cat([(part != -100).sum(1) for part in labels])

    def __call__(self, input_ids: Tensor, attention_mask: Tensor, **kwargs: Any) -> Any:
        outputs = self.model(input_ids, attention_mask=attention_mask, **kwargs)
        half = len(input_ids) // 2
        lengths = attention_mask.sum(1)
        self.prompt_lengths = (lengths - self.answer_tokens.to(lengths.device))[:half]
        self.prompt_tokens = (self.prompt_lengths - 1).clamp_min(0)
        self.chosen_targets = lengths[:half] - 1
        prompt, whole = [], []
        with torch.no_grad():
            for i in range(half):  # one row of float32 logits at a time
                targets = input_ids[i, 1 : lengths[i]]
                logits = outputs.logits[i, : len(targets)].float()
                nll = -token_log_probs(logits, targets)
                prompt.append(nll[: self.prompt_tokens[i]].sum())
                whole.append(nll.sum())
        self.prompt_nll = torch.stack(prompt) / self.prompt_tokens.clamp_min(1)
        self.chosen_nll = torch.stack(whole)
        self.trainer.beta = self.trainer.ask_rule(self.prompt_nll, self.prompt_tokens, self.index)
        return outputs


class DynamicBetaORPOTrainer(RecordedTrainer, ORPOTrainer):
    """ORPO with the beta of each pair given by `rule`; `train_dataset` has an integer column `example_index`.

    Pairs whose prompt leaves no room for an answer within `max_length` are dropped: their loss would be NaN.
    """

    train_dataset: Any
    sharing_reason = "objective orpo runs TRL's own rows"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        whole = [
            i
            for i, row in enumerate(self.train_dataset.select_columns(["chosen_labels", "rejected_labels"]))
            if all(any(token != -100 for token in row[name]) for name in ("chosen_labels", "rejected_labels"))
        ]
        if len(whole) < len(self.train_dataset):
            self.train_dataset = self.train_dataset.select(whole)

    def concatenated_forward(self, model: Any, batch: Batch) -> Any:
        labels = (batch["chosen_labels"], batch["rejected_labels"])
        index = torch.as_tensor(batch.get("example_index", range(len(labels[0]))), device=labels[0].device)
        self._policy = _ORPOStandIn(self, model, labels, index)
        return super().concatenated_forward(self._policy, batch)

    def odds_ratio_loss(self, policy_chosen_logps: Tensor, policy_rejected_logps: Tensor) -> Any:
        self._add_example_rows(policy_chosen_logps.detach().double(), policy_rejected_logps.detach().double())
        return super().odds_ratio_loss(policy_chosen_logps, policy_rejected_logps)

    @torch.no_grad()
    def _add_example_rows(self, chosen: Tensor, rejected: Tensor) -> None:
        """Rows from the mean log-probs per token (B,) of both answers. There is no reference: its columns and delta are null.

        TRL averages the NLL over the tokens of the micro-batch, so a row's share of it is weighted by its length; the mean of
        the rows' `loss` is then the loss that was trained on.
        """
        policy = self._policy
        log_odds = (chosen - rejected) - (log1mexp(chosen) - log1mexp(rejected))
        beta = torch.as_tensor(self.beta, dtype=torch.float64, device=chosen.device).expand_as(chosen)
        share = policy.chosen_nll.double() * len(chosen) / policy.chosen_targets.sum()
        chosen_tokens, rejected_tokens = policy.answer_tokens.chunk(2)
        columns = {
            "example_index": policy.index,
            "prompt_tokens": policy.prompt_lengths,
            "chosen_tokens": chosen_tokens,
            "rejected_tokens": rejected_tokens,
            "dynamic_beta": beta,
            "policy_chosen_logp": chosen * chosen_tokens,
            "policy_rejected_logp": rejected * rejected_tokens,
            "loss": share - beta * F.logsigmoid(log_odds),
            "loss_at_beta0": share - self.rule.pref_beta * F.logsigmoid(log_odds),
            "weight": torch.ones_like(beta),
            "gradient_weight": beta * torch.sigmoid(-log_odds),
        }
        self.add_rows(columns, policy.prompt_nll, policy.prompt_tokens)
