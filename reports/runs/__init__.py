"""The runs of a matrix as they lie on disk: their records, scores and checkpoints, and the arms they are replicates of.

`reports.runs.subset` picks runs by hand.
"""

from reports.runs.arms import Arm, arm_of, arms
from reports.runs.checkpoints import snapshots
from reports.runs.records import (
    REFERENCE_ID,
    MatrixData,
    ReportError,
    RunData,
    Scores,
    load_config,
    load_matrix,
    load_run,
)

__all__ = [
    "REFERENCE_ID", "Arm", "MatrixData", "ReportError", "RunData", "Scores", "arm_of", "arms", "load_config", "load_matrix",
    "load_run", "snapshots",
]  # fmt: skip
