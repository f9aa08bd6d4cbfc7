"""training.report_to, checked before anything is trained: a tracker that is not installed would fail every run."""

from __future__ import annotations

import importlib.util
from typing import Any

from harness.config import MatrixConfig, nearest
from harness.errors import UserError
from harness.yaml_source import Path_, Source

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


def check_trackers(config: MatrixConfig, source: Source) -> None:
    """Refuse names that transformers does not know and, where runs are trained on this machine, trackers that are not installed.

    Raises:
        UserError: the first of them, with line and fix.
    """
    places: list[tuple[Path_, dict[str, Any]]] = [(("training", "report_to"), config.training)]
    places += [(("methods", i, "training", "report_to"), method.training) for i, method in enumerate(config.methods)]
    for place, training in places:
        given = training.get("report_to") or []
        for name in [given] if isinstance(given, str) else given:
            where = f"{source.where(place)}: report_to is {name!r}"
            if name in _WORDS:
                continue
            if name not in TRACKERS:
                raise UserError(f"{where}; {nearest(str(name), [*TRACKERS, *_WORDS])}")
            here = config.executor.kind == "local"
            if here and not any(importlib.util.find_spec(module) for module in TRACKERS[name]):
                raise UserError(
                    f"{where}, which is not installed; pip install {TRACKERS[name][0]}, or set report_to: none"
                )
