"""training.report_to, checked before anything is trained: a tracker that is not installed would fail every run.

And how to look at a matrix in its trackers while it runs.
"""

import importlib.util
import os
import shlex
from pathlib import Path

from harness.config import MatrixConfig, Path_, Source, refuse
from trainers.common import Json, UserError, nearest
from trainers.run.tracking import DEFAULT, TRACKING, default_is_installed

#: Trackers of transformers -> the modules of which one must be there, the first being what to install.
TRACKERS = {
    "azure_ml": ("azureml",),
    "clearml": ("clearml",),
    "codecarbon": ("codecarbon",),
    "comet_ml": ("comet_ml",),
    "dagshub": ("dagshub",),
    "dvclive": ("dvclive",),
    "flyte": ("flytekit",),
    "kubeflow": ("kubeflow",),
    "mlflow": ("mlflow",),
    "neptune": ("neptune",),
    "swanlab": ("swanlab",),
    "tensorboard": ("tensorboard", "tensorboardX"),
    "trackio": ("trackio",),
    "wandb": ("wandb",),
}
_WORDS = ("none", "all")


def _reported(config: MatrixConfig) -> list[str]:
    names: list[str] = []
    for method in config.methods:
        training = {**config.training, **method.training}
        given = training.get("report_to", DEFAULT if default_is_installed() else None) or []
        names += [given] if isinstance(given, str) else given
    return list(dict.fromkeys(names))


def live_views(config: MatrixConfig, output: Path) -> list[str]:
    """Commands that show the matrix while it runs, one a tracker that has a viewer."""
    folder = (output / TRACKING).resolve()
    place = [] if "TRACKIO_DIR" in os.environ else ["env", f"TRACKIO_DIR={folder / 'trackio'}"]
    # by tracker: the variable that names the user's own place, which is not shown (it may hold a password), and the command
    viewers = {
        "trackio": ("", [*place, "trackio", "show", "--project", config.name]),
        "tensorboard": ("TENSORBOARD_LOGGING_DIR", ["tensorboard", "--logdir", str(folder / "tensorboard")]),
        "mlflow": ("MLFLOW_TRACKING_URI", ["mlflow", "ui", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]),
    }
    shown = [viewers[name] for name in _reported(config) if name in viewers]
    return [shlex.join(command) for variable, command in shown if variable not in os.environ]


def check_trackers(config: MatrixConfig, source: Source) -> None:
    """Refuse names that transformers does not know and, where runs are trained on this machine, trackers that are not installed.

    Raises:
        UserError: the first of them, with line and fix.
    """
    places: list[tuple[Path_, Json]] = [(("training", "report_to"), config.training)]
    places += [(("methods", i, "training", "report_to"), method.training) for i, method in enumerate(config.methods)]
    for place, training in places:
        given = training.get("report_to") or []
        for name in [given] if isinstance(given, str) else given:
            where = f"{source.where(place)}: report_to is {name!r}"
            if name in _WORDS:
                continue
            refuse((name not in TRACKERS, f"{where}; {nearest(str(name), [*TRACKERS, *_WORDS])}"))
            here = config.executor.kind == "local"
            if here and not any(importlib.util.find_spec(module) for module in TRACKERS[name]):
                raise UserError(
                    f"{where}, which is not installed; pip install {TRACKERS[name][0]}, or set report_to: none"
                )
