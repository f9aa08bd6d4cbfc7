"""What the scheduler (`harness.stages.train`) asks of an executor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from trainers.common import Json

if TYPE_CHECKING:
    from evals.supervise import JobResult
    from harness.plan.plan import Plan

#: A line of a worker's events file; a run to train, as `harness.plan.plan.Plan.train_job` makes it.
Event = Json
Job = Json

#: Text of a task that ended because it was asked to before it had begun.
CANCELLED = "task cancelled"


@dataclass(frozen=True)
class Ended:
    """How the process of a seat ended: exit code (negative: by a signal), what to tell people, and whether to try again."""

    code: int
    message: str = ""
    transient: bool | None = None


@dataclass(frozen=True)
class Polled:
    """Events since the last poll, and how the process ended, if it has."""

    events: list[Event] = field(default_factory=list)
    ended: Ended | None = None


class Seat(ABC):
    """A place where one run at a time is trained. `log` is where its output goes."""

    log: Path

    @abstractmethod
    def start(self, job: Job) -> None:
        """Begin a run (see `harness.plan.plan.Plan.train_job`)."""

    @abstractmethod
    def poll(self) -> Polled:
        """What has happened; never waits."""

    @abstractmethod
    def stop(self) -> None:
        """Ask it to finish and save the current step."""

    @abstractmethod
    def kill(self) -> None:
        """End it at once."""


class Settings(BaseModel):
    """Keys that every executor takes beside its own."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    kind: str = "local"


class Executor(ABC):
    """Hands out seats and runs the evaluation. A subclass says in `Settings` which keys of `executor:` it takes.

    Args:
        plan: the matrix. settings: an instance of `Settings`.
    """

    Settings: type[Settings] = Settings
    #: Whether runs are trained on this machine. Elsewhere each node notes its own hardware
    #: (`harness.state.machine.note_trainer`).
    here = True
    #: Of the names of its files in `work/`, where several processes have theirs there.
    prefix = ""

    def __init__(self, plan: Plan, settings: Any) -> None:
        self.plan, self.settings = plan, settings

    @abstractmethod
    def seat(self, job: Job) -> Seat | None:
        """A free place for this run, or None while there is none."""

    @abstractmethod
    def release(self, seat: Seat, usable: bool) -> None:
        """Give a seat back after a run; `usable` is false if its process has ended."""

    @abstractmethod
    def evaluate(self, job: Job, job_path: Path, on_event: Callable[[Event], None]) -> JobResult:
        """Run an evaluation job (see `evals.supervise.run_job`) to its end."""

    @abstractmethod
    def close(self) -> None:
        """End whatever this executor started."""
