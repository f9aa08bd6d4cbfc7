"""Experiment trackers of transformers (`report_to`): one group a matrix, tags of the run, and nothing sent unless asked for.

The trackers are told through the environment variables they document. A variable the user has set is left as it is.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainers.train import TrainJob

#: What trackers write into a matrix's output directory.
TRACKING = "tracking"


def tracked_by(job: TrainJob) -> list[str]:
    """Names under `report_to`."""
    given = job.training.get("report_to") or []
    names = [given] if isinstance(given, str) else [str(name) for name in given]
    return [name for name in names if name != "none"]


def environment(job: TrainJob) -> dict[str, str]:
    """Variables that put a run into its matrix's group, name and tag it, and keep its records on this machine."""
    folder = (job.run_dir.parent.parent / TRACKING).resolve()
    group = job.group or folder.parent.name
    method = job.run_id.rpartition("-")[0] or job.run_id
    tags = {"matrix": group, "method": method, "rule": job.rule, "seed": str(job.seed)}
    words = ",".join(dict.fromkeys([method, job.rule.rpartition(":")[2], f"seed-{job.seed}"]))
    return {
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(folder),
        "WANDB_PROJECT": group,
        "WANDB_RUN_GROUP": group,
        "WANDB_TAGS": words,
        "WANDB_JOB_TYPE": "train",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "MLFLOW_EXPERIMENT_NAME": group,
        "MLFLOW_TAGS": json.dumps(tags),
        "TENSORBOARD_LOGGING_DIR": str(folder / "tensorboard" / job.run_id),
        "TRACKIO_DIR": str(folder / "trackio"),
        "SWANLAB_MODE": "local",
        "SWANLAB_LOG_DIR": str(folder / "swanlab"),
        "SWANLAB_PROJECT": group,
        "COMET_START_ONLINE": "false",
        "COMET_PROJECT_NAME": group,
        "COMET_OFFLINE_DIRECTORY": str(folder / "comet"),
        "CLEARML_OFFLINE_MODE": "1",
        "CLEARML_PROJECT": group,
        "CLEARML_TASK": job.run_id,
        "NEPTUNE_MODE": "offline",
    }


@contextlib.contextmanager
def tracking(job: TrainJob) -> Iterator[None]:
    """Set `environment` for the length of a run; the next run in this process gets its own, and a record of its own."""
    if not tracked_by(job):
        yield
        return
    (job.run_dir.parent.parent / TRACKING).mkdir(parents=True, exist_ok=True)
    ours = {key: value for key, value in environment(job).items() if key not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ("wandb", "swanlab"):  # they would log the next run into this one's record
            if (module := sys.modules.get(name)) is not None:
                with contextlib.suppress(Exception):  # nothing about a tracker may fail a run
                    module.finish()
        for key in ours:
            os.environ.pop(key, None)
