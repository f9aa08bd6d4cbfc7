"""Names a collapse of a learned beta while it happens: at a bound, run away, variance gone, or drift without margin."""

import math

import numpy as np
import torch

from trainers.rules.base import BetaRule
from trainers.trainer.recording import NUMERIC_COLUMNS

_BETA, _DELTA = NUMERIC_COLUMNS.index("dynamic_beta"), NUMERIC_COLUMNS.index("delta")
#: Betas that a spread is taken of, at least.
_FEW = 8


class CollapseDetector:
    """Looks at the betas of each logged interval.

    - at a bound: more than half of the betas sit at the rule's lower or upper bound;
    - run away: mean beta is more than ten times `pref_beta`, or less than a tenth. On separable pairs beta and the margin grow
      together, so under wide bounds none of the other signs shows;
    - variance gone: the relative spread, over eight betas at least, fell below 1 % of the largest spread seen so far;
    - drift without margin: mean beta moved by a factor of three while the mean margin is not above its start.
    """

    def __init__(self, rule: BetaRule) -> None:
        self.rule = rule
        self.learned = any(parameter.requires_grad for parameter in rule.parameters())
        self._widest = 0.0
        self._recent = np.empty(0)
        self._first_delta: float | None = None

    def update(self, rows: np.ndarray, step: int) -> str | None:
        """The reason, if the rows (n, len(NUMERIC_COLUMNS)) of this interval show a collapse."""
        if not self.learned:
            return None
        beta, delta = rows[:, _BETA], float(rows[:, _DELTA].mean())
        if self._first_delta is None:
            self._first_delta = delta
        bound = self.rule.at_bound(torch.from_numpy(beta.copy()))
        if bound is not None and float(bound.double().mean()) > 0.5:
            return f"{float(bound.double().mean()):.0%} of the betas sit at a bound"
        ratio = float(beta.mean()) / self.rule.pref_beta
        drift = abs(math.log(max(ratio, 1e-12)))
        if drift > math.log(10):
            return f"beta ran away: its mean is {ratio:.2g} times pref_beta"
        # the last few rows, over several intervals if need be: two prompts may be alike by chance
        self._recent = np.concatenate([self._recent, beta])[-max(len(beta), _FEW) :]
        if len(self._recent) >= _FEW:
            spread = float(self._recent.std() / max(self._recent.mean(), 1e-12))
            self._widest = max(self._widest, spread)
            if self._widest > 1e-3 and spread < 0.01 * self._widest:
                return f"the spread of beta fell to {spread:.2g} of its mean (was {self._widest:.2g})"
        if drift > math.log(3) and delta <= self._first_delta:
            return f"mean beta is {ratio:.2g} times pref_beta without a larger margin"
        return None
