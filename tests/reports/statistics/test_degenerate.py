"""Seeds that agree exactly, and metrics that describe rather than judge."""

from __future__ import annotations

import numpy as np

from reports.statistics.paired import seed_interval


def test_equal_seeds_give_no_interval() -> None:
    result = seed_interval(np.array([-0.01, -0.01]), items=48)
    assert result.estimate == -0.01
    assert result.low is None and result.high is None and result.stderr is None
    assert result.note is not None and "agree exactly" in result.note
