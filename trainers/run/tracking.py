"""Experiment trackers of transformers (`report_to`): one group for each matrix, tags for each run, offline by default.

Without `report_to` runs are shown by Trackio where it is installed, which keeps its records in a file on this machine. The
trackers are told through the environment variables they document. A variable the user has set is left as it is.
"""

import contextlib
import importlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from trainers.run.job import TrainJob

#: What trackers write into a matrix's output directory.
TRACKING = "tracking"
#: The tracker where `report_to` is not set.
DEFAULT = "trackio"

_log = logging.getLogger(__name__)


def tracked_by(job: TrainJob) -> list[str]:
    """Names under `report_to`; where it is not set, the default tracker if it is installed."""
    if "report_to" not in job.training:
        return [DEFAULT] if default_is_installed() else []
    given = job.training["report_to"] or []
    names = [given] if isinstance(given, str) else [str(name) for name in given]
    return [name for name in names if name != "none"]


def default_is_installed() -> bool:
    """Whether the default tracker is a package here; a folder of its name is none."""
    from importlib.metadata import distributions

    return any(distributions(name=DEFAULT))


def reported_to(job: TrainJob) -> list[str]:
    """`tracked_by`, less a default tracker that cannot be loaded.

    To be called inside `tracking`: Trackio reads where it keeps its records when it is loaded.
    """
    names = tracked_by(job)
    if names and "report_to" not in job.training:
        try:
            importlib.import_module(DEFAULT)
        except Exception as error:  # whatever a broken installation raises
            _log.warning("%s is installed but cannot be loaded (%s); the run is not tracked", DEFAULT, error)
            return []
    return names


def shelter(trainer: Any, job: TrainJob) -> None:
    """Keep the default tracker from failing a run: after its first error, which is logged, it is not called again."""
    if "report_to" in job.training:
        return
    for callback in trainer.callback_handler.callbacks:
        if type(callback).__name__ == "TrackioCallback":
            failed: list[Exception] = []
            for name in dir(callback):
                if name.startswith("on_"):
                    setattr(callback, name, _sheltered(getattr(callback, name), failed))


def _sheltered(event: Callable[..., Any], failed: list[Exception]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return None if failed else event(*args, **kwargs)
        except Exception as error:
            failed.append(error)
            _log.warning(
                "%s failed (%s); the run continues untracked (training.report_to: none switches it off)", DEFAULT, error
            )
            return None

    return call


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
    """Set `environment` for one run, and close the trackers' records at its end."""
    if not tracked_by(job):
        yield
        return
    (job.run_dir.parent.parent / TRACKING).mkdir(parents=True, exist_ok=True)
    ours = {key: value for key, value in environment(job).items() if key not in os.environ}
    os.environ.update(ours)
    try:
        yield
    except BaseException:
        _tell("mlflow", "end_run", "FAILED")  # otherwise the next run would continue its record
        raise
    finally:
        # Otherwise they log the next run into this one's record; W&B reads its tags from the variables only once.
        for name, last in (("wandb", "finish"), ("wandb", "teardown"), ("swanlab", "finish")):
            _tell(name, last)
        for key in ours:
            os.environ.pop(key, None)


def _tell(name: str, function: str, *arguments: str) -> None:
    """Call a function of a tracker that is loaded; nothing about a tracker may fail a run."""
    if (module := sys.modules.get(name)) is not None:
        with contextlib.suppress(Exception):
            getattr(module, function)(*arguments)
