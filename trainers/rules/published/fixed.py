"""Fixed beta: plain DPO (Rafailov et al. 2023, arXiv 2305.18290)."""

from __future__ import annotations

from trainers.rules.base import BetaRule, RuleBatch


class Fixed(BetaRule):
    """beta = pref_beta for every pair, as a Python float: the loss is TRL's own to the last bit."""

    def __init__(self, hidden_size: int, pref_beta: float = 0.1, pref_loss: str = "sigmoid") -> None:
        super().__init__(pref_beta, pref_loss)

    def beta(self, batch: RuleBatch) -> float:
        return self.pref_beta
