"""Several workers on one output: each holds the lock of the run it works on, and all share the output."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness.clean import remove_path, temporary
from harness.errors import UserError
from harness.failures import MAX_ATTEMPTS, record_is_transient
from harness.lock import LOCK, held_by, output_lock
from harness.matrix import RunSpec
from harness.plan import Plan
from harness.store import RunStore


@contextmanager
def shared_output(output: Path) -> Iterator[None]:
    """Be one of the workers on `output`: others may join, `run-matrix` may not.

    Raises:
        UserError: `run-matrix` works there.
    """
    output.mkdir(parents=True, exist_ok=True)
    with (output / LOCK).open("a+", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{output} is being worked on by {held_by(output)}; workers cannot join it") from None
        yield


class RunClaims:
    """Locks of runs (kernel lock and counted heartbeat, see `harness.lock`), one for each run in work.

    A worker that dies frees its run; on another host, once its heartbeat has stood still for some seconds.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._held: dict[str, ExitStack] = {}

    def take(self, spec: RunSpec) -> bool:
        run_dir, stack = self._plan.run_dir(spec), ExitStack()
        try:
            stack.enter_context(output_lock(run_dir))
        except UserError:
            return False
        if self.settled(spec):  # by the one who held it before
            stack.close()
            return False
        for path in temporary(run_dir):
            remove_path(path)
        self._held[spec.run_id] = stack
        return True

    def free(self, spec: RunSpec) -> bool:
        """Whether nobody works on the run now."""
        try:
            with output_lock(self._plan.run_dir(spec)):
                return True
        except UserError:
            return False

    def settled(self, spec: RunSpec) -> bool:
        store = RunStore(self._plan.run_dir(spec))
        if store.is_done("train", spec.fingerprint, verify=False):
            return True
        status = store.status()
        if status["state"] != "failed":
            return False
        error = status["error"]
        return not record_is_transient(error) or int(error.get("attempts", 1)) >= MAX_ATTEMPTS

    def give_back(self, spec: RunSpec) -> None:
        self._held.pop(spec.run_id).close()
