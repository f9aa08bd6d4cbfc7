"""The parts of summary.json that compare methods: tie groups, tuning, frontiers, strata, and the checklist that needs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import aggregate, frontiers, strata, tuning
from .checklist import checklist, is_control
from .claim_evidence import MatchedKL
from .labels import Arm
from .records import MatrixData

NO_TIES: dict[str, Any] = {
    "groups": [],
    "method": None,
    "pairs": 0,
    "tested": 0,
    "reason": "one run has nothing to tie with",
}


def frozen_at_matched_kl(matrix: MatrixData) -> MatchedKL:
    """What judges the claims declared `at: matched_kl`."""
    return frontiers.matched_kl(matrix)


def extend(summary: dict[str, Any], matrix: MatrixData, all_arms: Sequence[Arm], baseline: Arm | None) -> None:
    """Put `tie_groups` into every metric, and `tuning`, `frontiers`, `strata` and `checklist` into the summary."""
    metrics = summary["metrics"]
    if summary["kind"] == "run":
        for entry in metrics:
            entry["tie_groups"] = {**NO_TIES}
        summary |= {"tuning": {**tuning.NOTHING}, "frontiers": {**frontiers.NOTHING}, "strata": {**strata.NOTHING}}
        summary["aggregate"] = {**aggregate.NOTHING}
        summary["checklist"] = checklist(matrix, all_arms, baseline, summary)
        return
    for entry in metrics:
        entry["tie_groups"] = tuning.tie_groups(
            all_arms, entry["benchmark"], entry["metric"], entry["higher_is_better"]
        )
    controls = [a for a in all_arms if is_control(a)]
    labels = [a.label for a in controls]
    method, label = (None, None) if baseline is None else (baseline.method, baseline.label)
    methods = list(dict.fromkeys(a.method for a in controls))
    summary["tuning"] = tuning.tuning_summary(matrix, all_arms, metrics, method, methods)
    primary = summary["primary"]["value"]
    summary["frontiers"] = frontiers.frontier_summary(matrix, all_arms, primary, baseline, labels)
    summary["aggregate"] = aggregate.aggregate_summary(metrics, label)
    summary["strata"] = strata.strata_summary(matrix, all_arms, metrics, label, labels)
    summary["checklist"] = checklist(matrix, all_arms, baseline, summary)
