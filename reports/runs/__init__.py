"""The runs of a matrix as they lie on disk: their records, scores and checkpoints, and the arms they are replicates of.

`reports.runs.subset` picks runs by hand.
"""

from reports.runs.arms import CONTROL_RULES, Arm, arm_of, arms, contrasts, differing, grouped, same_beta
from reports.runs.checkpoints import Snapshot, failed_checkpoints, snapshots
from reports.runs.records import (
    COMPARISONS,
    REFERENCE_ID,
    Item,
    MatrixData,
    ReportError,
    RunData,
    Scores,
    error_text,
    finite,
    load_config,
    load_matrix,
    load_run,
    load_scores,
    read_json,
    tried,
)

__all__ = [
    "COMPARISONS", "CONTROL_RULES", "REFERENCE_ID", "Arm", "Item", "MatrixData", "ReportError", "RunData", "Scores",
    "Snapshot", "arm_of", "arms", "contrasts", "differing", "error_text", "failed_checkpoints", "finite", "grouped",
    "load_config", "load_matrix", "load_run", "load_scores", "read_json", "same_beta", "snapshots", "subset", "tried",
]  # fmt: skip
