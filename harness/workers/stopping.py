"""Stopping on request: Ctrl-C and the SIGTERM of a scheduler end a matrix, and a training process, where it can resume."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Self

from harness.state.records import seal


class Stopped(BaseException):
    """The user or the scheduler asked to stop. Not an Exception: nothing may take it for a failure of a run.

    Attributes:
        signum: SIGINT or SIGTERM. at_once: nothing is to be finished first.
    """

    def __init__(self, signum: int, at_once: bool = False) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum, self.at_once = signum, at_once

    @property
    def exit_code(self) -> int:
        """As a shell reports it: 130 after SIGINT, 143 after SIGTERM."""
        return 128 + self.signum


class StopSignals:
    """Handles SIGINT and SIGTERM while it is entered.

    Normally the first signal raises `Stopped` where the process stands: every file is written by rename, so that loses at
    most what is not on disk yet. Inside `finishing_steps` it is only noted in `requested`, for work that ends at a better
    place. A second SIGINT always raises, at once. A second SIGTERM is one: schedulers send it to every process of a job.
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self._deferred = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        first = self.requested is None
        if first:
            self.requested = signum
        if signum == signal.SIGINT and not first:
            raise Stopped(signum, at_once=True)
        if first and not self._deferred:
            raise Stopped(signum)

    def check(self) -> None:
        """Raise `Stopped` if a signal has come."""
        if self.requested is not None:
            raise Stopped(self.requested)

    @contextmanager
    def finishing_steps(self) -> Iterator[None]:
        """The first signal is only noted while the block runs."""
        self.check()
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False


class TrainingStopped(BaseException):
    """The run was asked to stop; `step` is on disk. Not an Exception, so that nothing takes it for a failure."""

    def __init__(self, step: int) -> None:
        super().__init__(step)
        self.step = step


class StopRequest:
    """SIGTERM: in a training step the step is finished and a checkpoint saved; while a run's files are written, or its last
    step is done, they are finished; at any other time stopping at once loses no work.

    SIGINT is ignored: a terminal sends it to every process in the foreground, and the parent decides.
    """

    def __init__(self) -> None:
        self.requested = False
        self.stepping = False  # between the first step of a run and its mark
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._handle)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        again, self.requested = self.requested, True
        if not self.stepping and not again:
            raise TrainingStopped(0)

    def agreed(self) -> bool:
        """Whether training is to end after this step: where several processes train a run, a request to any is one to all."""
        if _several():
            import torch

            on = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
            asked = torch.tensor([float(self.requested)], device=on)
            torch.distributed.all_reduce(asked)
            self.requested = bool(asked.item() > 0)
        return self.requested

    def callback(self, run_dir: Path) -> Any:
        """What Trainer calls: seals checkpoints, and ends training after the step in which the request came."""
        from transformers import TrainerCallback

        request = self

        class StopCallback(TrainerCallback):
            def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                request.stepping = True

            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if request.agreed() and state.global_step < state.max_steps:
                    control.should_save = True

            def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if _several():
                    import torch

                    torch.distributed.barrier()  # every process has written its part of the checkpoint
                if state.is_world_process_zero:
                    seal(Path(args.output_dir) / f"checkpoint-{state.global_step}", run_dir)
                if request.requested and state.global_step < state.max_steps:
                    raise TrainingStopped(state.global_step)

        return StopCallback()


def _several() -> bool:
    """Whether this process trains its run with others."""
    import torch

    return torch.distributed.is_available() and torch.distributed.is_initialized()
