"""How a training process is told to stop, and where it can stop without losing work."""

import signal
from pathlib import Path
from types import FrameType
from typing import Any

from harness.state.checkpoints import seal


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
        """Whether training is to end after this step."""
        return self.requested

    def before_seal(self) -> None:
        """Called when a checkpoint has been written."""

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
                request.before_seal()
                if state.is_world_process_zero:
                    seal(Path(args.output_dir) / f"checkpoint-{state.global_step}", run_dir)
                if request.requested and state.global_step < state.max_steps:
                    raise TrainingStopped(state.global_step)

        return StopCallback()
