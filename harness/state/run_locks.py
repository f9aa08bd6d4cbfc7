"""Several workers on one output: each holds the lock of the run it works on, and all share the output."""

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness.executors.registry import settings_of
from harness.plan.matrix import RunSpec
from harness.plan.plan import Plan
from harness.state.clean import remove_path, temporary
from harness.state.failures import MAX_ATTEMPTS, record_is_transient
from harness.state.lock import (
    Held,
    holder_lives,
    holder_of,
    lock_file,
    once,
    output_lock,
    try_lock,
    works_elsewhere,
)
from harness.state.machine import note_trainer
from harness.state.store import RunStore
from trainers.common import UserError

#: What a worker is that has the output to itself, in the record of its lock.
EVALUATES = "worker: evaluates"
_POLL_SECONDS = 0.5
#: Looks at a lock of which no record says whose it is: its holder is about to write one, or has just removed it.
_LOOKS = 10


@contextmanager
def shared_output(output: Path, log: Callable[[str], None]) -> Iterator[None]:
    """Be one of the workers on `output`: others may join, `run-matrix` may not. A worker that evaluates is waited for.

    Args:
        log: told whom this process waits for.

    Raises:
        UserError: `run-matrix` works there.
    """
    with lock_file(output) as handle:
        tell, unknown = once(log), 0
        while not try_lock(output, handle, fcntl.LOCK_SH) or works_elsewhere(output):
            who, role = holder_of(output)
            unknown += who is None
            # a record of one that died says nothing: whoever has the lock is about to write its own
            if unknown >= _LOOKS or (who is not None and role != EVALUATES and holder_lives(output)):
                raise UserError(f"{output} is in use by {who or 'another process'}; workers cannot join it")
            if role == EVALUATES:
                tell(f"{output} is being evaluated by {who}; waiting for it")
            time.sleep(_POLL_SECONDS)
        yield


class RunClaims:
    """Locks of runs (kernel lock and counted heartbeat, see `harness.state.lock`), one for each running run.

    A worker that dies frees its run; on another host, once its heartbeat has stood still for some seconds.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan, self._here = plan, settings_of(plan.config, plan.source)[0].here
        self._held: dict[str, ExitStack] = {}

    def take(self, spec: RunSpec) -> bool:
        """Whether the run is ours now and still to be trained."""
        if spec.run_id in self._held:
            return True
        run_dir, stack = self._plan.run_dir(spec), ExitStack()
        try:
            stack.enter_context(output_lock(run_dir))
        except Held:
            return False
        if self.settled(spec):  # by the one who held it before
            stack.close()
            return False
        for path in temporary(run_dir):
            remove_path(path)
        if self._here:
            note_trainer(RunStore(run_dir), self._plan.environment)
        self._held[spec.run_id] = stack
        return True

    def free(self, spec: RunSpec) -> bool:
        """Whether nobody works on the run now."""
        try:
            with output_lock(self._plan.run_dir(spec)):
                return True
        except Held:
            return False

    def settled(self, spec: RunSpec) -> bool:
        """Whether someone else has brought the run to its end."""
        if spec.run_id in self._held:
            return False
        store = RunStore(self._plan.run_dir(spec))
        if store.is_done("train", spec.fingerprint, verify=False):
            return True
        error = store.failure()
        return error is not None and (not record_is_transient(error) or error.attempts >= MAX_ATTEMPTS)

    def give_back(self, spec: RunSpec) -> None:
        """Let other workers have the run, where it is ours."""
        self._held.pop(spec.run_id, ExitStack()).close()

    def give_all_back(self) -> None:
        """`give_back` of every run that is ours."""
        while self._held:
            self._held.popitem()[1].close()
