"""State on disk: records, locks, checkpoints, clean-up. Here: what a run is and how far it is, and who works on it."""

from harness.state.failures import (
    BACK_OFF_SECONDS,
    EXIT_IO,
    MAX_ATTEMPTS,
    disk_errno,
    is_transient,
    record_is_transient,
)
from harness.state.lock import HOLDER, Held, output_lock
from harness.state.records import Environment, Failure, FrozenMatrix, Hardware, RunRecord, Status, whole_rows
from harness.state.store import STATUS, RunStore, frozen_matrix, read_run, set_aside, shown_state

__all__ = [
    "BACK_OFF_SECONDS",
    "EXIT_IO",
    "HOLDER",
    "MAX_ATTEMPTS",
    "STATUS",
    "Environment",
    "Failure",
    "FrozenMatrix",
    "Hardware",
    "Held",
    "RunRecord",
    "RunStore",
    "Status",
    "clean",
    "disk_errno",
    "frozen_matrix",
    "is_transient",
    "machine",
    "output_lock",
    "policies",
    "read_run",
    "record_is_transient",
    "run_locks",
    "set_aside",
    "shown_state",
    "whole_rows",
]
