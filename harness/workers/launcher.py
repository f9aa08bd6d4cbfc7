"""Starts `accelerate launch` for a run of several processes (`harness.workers.launched`), and passes a stop on to them."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
from pathlib import Path

from harness.state import RunStore
from harness.workers.stop_request import TrainingStopped
from trainers.common import Json, write_json

#: torchrun kills what has not ended so many seconds after it was itself told to stop (30 without this): a step may take longer.
_SHUTDOWN_SECONDS = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "3600"}


def run_launched(job: Json, events: Path) -> None:
    """Train one run in several processes by `accelerate launch`; SIGTERM is passed on, and they are waited for.

    Raises:
        RuntimeError: the launch failed and no process could say why.
    """
    run_dir, launch = Path(job["train_job"]["run_dir"]), job["launch"]
    work = events.with_name(f"launch-{run_dir.name}.json")
    job = {key: value for key, value in job.items() if key != "launch"}
    write_json(work, {"worker": os.getpid(), "events": str(events), "job": job})
    command = [sys.executable, "-m", "accelerate.commands.launch", *launch, "-m", "harness.workers.launched", str(work)]
    # in a separate session: a terminal's Ctrl-C is for the parent to decide about, and torchrun takes it for its own
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, env={**_SHUTDOWN_SECONDS, **os.environ}, start_new_session=True
    )
    try:
        code = process.wait()
    except TrainingStopped:
        _stop(process)
        process.wait()
        raise
    if code and RunStore(run_dir).status().state != "failed":
        raise RuntimeError(f"accelerate launch ended with code {code}: {shlex.join(command)}")


def _stop(launcher: subprocess.Popen[bytes]) -> None:
    """Tell the processes of the run to stop: their launcher then ends by itself. Told in their stead, it would end at once
    where it started a single one, and leave that alone."""
    import psutil

    children: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        children = psutil.Process(launcher.pid).children()
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.terminate()
    if not children:
        launcher.terminate()
