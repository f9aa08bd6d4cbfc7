"""Analyses that are common in papers and wrong for this question. They are here to be measured against, not used.

Each takes simulated scores or rows and says whether its user would announce a result.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
ALPHA = 0.05


def pooled_prompts(method: Floats, baseline: Floats) -> bool:
    """Welch's t test over all seed x prompt scores, shape (seeds, prompts), as if they were independent."""
    result = stats.ttest_ind(method.ravel(), baseline.ravel(), equal_var=False)
    return bool(result.pvalue <= ALPHA and result.statistic > 0)


def single_seed(method: Floats, baseline: Floats) -> bool:
    """One run of each, paired over prompts."""
    result = stats.ttest_rel(method[0], baseline[0])
    return bool(result.pvalue <= ALPHA and result.statistic > 0)


def best_seed(method: Floats, baseline: Floats) -> bool:
    """The method's best seed against the one run of the baseline, paired over prompts."""
    result = stats.ttest_rel(method[method.mean(axis=1).argmax()], baseline[0])
    return bool(result.pvalue <= ALPHA and result.statistic > 0)


def seeds_only(method: Floats, baseline: Floats) -> bool:
    """Paired t test over seeds, the prompts taken for the only ones there are."""
    result = stats.ttest_1samp((method - baseline).mean(axis=1), 0.0)
    return bool(result.pvalue <= ALPHA and result.statistic > 0)


GAINS = {
    "pooled_prompts": pooled_prompts,
    "single_seed": single_seed,
    "best_seed": best_seed,
    "seeds_only": seeds_only,
}


def pooled_correlation(x: Floats, y: Floats) -> int:
    """Sign of the Spearman correlation over the rows of all runs together, shape (runs, rows); 0 where p > .05."""
    result = stats.spearmanr(x.ravel(), y.ravel())
    return int(np.sign(result.statistic)) if result.pvalue <= ALPHA else 0
