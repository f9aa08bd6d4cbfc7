"""Which files of a folder define an lm-eval task: by the `task:` key inside, whatever the file is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """Reads lm-eval's YAML without running what `!function` names."""


def _plain(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> Any:
    return loader.construct_scalar(node) if isinstance(node, yaml.ScalarNode) else None


_Loader.add_multi_constructor("!", _plain)


def _read(path: Path) -> dict[str, Any]:
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return config if isinstance(config, dict) else {}


def task_name(path: Path) -> str | None:
    """The task that a YAML file defines; None for a group of tasks, a part to be included, or what is no YAML."""
    name = _read(path).get("task")
    return name if isinstance(name, str) else None


def _data_of(path: Path) -> set[Path]:
    """The local data files that a task's YAML names, relative to it or absolute."""
    keywords = _read(path).get("dataset_kwargs")
    files = keywords.get("data_files") if isinstance(keywords, dict) else None
    parts = list(files.values()) if isinstance(files, dict) else [files]
    names = [name for part in parts for name in (part if isinstance(part, list) else [part]) if isinstance(name, str)]
    return {path.parent / name for name in names if (path.parent / name).is_file()}


def tasks_in(folder: Path) -> dict[str, Path]:
    """Task -> its file, for all YAML files under a folder."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".yaml", ".yml") and path.is_file())
    return {name: path for path in files if (name := task_name(path)) is not None}


def files_of(folder: Path, task: str) -> list[Path]:
    """What a task is made of: the file that defines it, the data it names, and files called like the task or like that file."""
    own = tasks_in(folder).get(task)
    stems = {task, *([own.stem] if own is not None else [])}
    named = {path for path in folder.rglob("*") if path.is_file() and path.stem in stems}
    return sorted(named | ({own, *_data_of(own)} if own is not None else set()))
