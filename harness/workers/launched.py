"""One process of a run that `accelerate launch` trains in several: `accelerate launch ... -m harness.workers.launched WORK.json`.

The main process does what `harness.workers.train_worker` does for a run of one process: state, events, checksums.
The others train.
"""

import contextlib
import json
import os
import sys
import threading
import time
from pathlib import Path

import psutil

from harness.workers.quiet import quiet
from harness.workers.stopping import StopRequest, TrainingStopped
from harness.workers.train_worker import cell, fit
from trainers.common import Events


class AgreedStop(StopRequest):
    """All processes must end after the same step: a request to any of them is a request to all."""

    def agreed(self) -> bool:
        import torch

        if not torch.distributed.is_initialized():  # a launch of one process
            return super().agreed()
        asked = torch.tensor([float(self.requested)])
        if torch.distributed.get_backend() == "nccl":
            asked = asked.cuda()
        torch.distributed.all_reduce(asked)
        self.requested = bool(asked.item() > 0)
        return self.requested

    def before_seal(self) -> None:
        """Every process has written its part of the checkpoint."""
        import torch

        if torch.distributed.is_initialized():
            torch.distributed.barrier()


def _die_with(pid: int) -> None:
    """End this process when the worker that asked for the launch is gone (the launcher stands in between)."""

    def watch() -> None:
        while psutil.pid_exists(pid):
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(argv: list[str]) -> int:
    """Entry point; the work file holds `{"worker": pid, "events": path, "job": {...}}`."""
    work = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    request = AgreedStop()
    _die_with(work["worker"])
    quiet(TOKENIZERS_PARALLELISM="false")
    with contextlib.suppress(TrainingStopped):
        # RANK as torchrun sets it; accelerate's own state is for the trainer to set up
        if os.environ.get("RANK", "0") == "0":
            cell(work["job"], Events(Path(work["events"])), request, alone=False)
        else:
            fit(work["job"], lambda progress: None, request)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
