"""State on disk: records, locks, checkpoints, clean-up. Here: what a run is and how far it is, and who works on it."""

from __future__ import annotations

from harness.state.failures import (
    BACK_OFF_SECONDS,
    EXIT_IO,
    MAX_ATTEMPTS,
    disk_errno,
    is_transient,
    record_is_transient,
)
from harness.state.lock import HOLDER, Held, output_lock
from harness.state.records import Environment, Failure, Hardware, RunRecord, whole_rows
from harness.state.store import STATUS, RunStore, read_run, set_aside

__all__ = [
    "BACK_OFF_SECONDS",
    "EXIT_IO",
    "HOLDER",
    "MAX_ATTEMPTS",
    "STATUS",
    "Environment",
    "Failure",
    "Hardware",
    "Held",
    "RunRecord",
    "RunStore",
    "disk_errno",
    "is_transient",
    "output_lock",
    "read_run",
    "record_is_transient",
    "set_aside",
    "whole_rows",
]
