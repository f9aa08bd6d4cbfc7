"""Which files of a folder define an lm-eval task: by the `task:` key inside, whatever the file is called."""

from pathlib import Path
from typing import Any

import yaml

from trainers.common.files import Json


class _Loader(yaml.SafeLoader):
    """Reads lm-eval's YAML without running what `!function` names."""


def _plain(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> Any:
    return loader.construct_scalar(node) if isinstance(node, yaml.ScalarNode) else None


_Loader.add_multi_constructor("!", _plain)


def _read(path: Path) -> Json:
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


def _with_included(path: Path) -> list[Path]:
    """A task's YAML and the files it includes, and those include."""
    chain: list[Path] = []
    waiting = [path]
    while waiting:
        one = waiting.pop().resolve()
        if one in chain or not one.is_file():
            continue
        chain.append(one)
        named = _read(one).get("include")
        waiting += [
            one.parent / name for name in (named if isinstance(named, list) else [named]) if isinstance(name, str)
        ]
    return chain


def files_of(folder: Path, task: str) -> list[Path]:
    """What a task is made of, sorted: the file that defines it, what that includes, the data they name, files called like the
    task or like its file, and, where a `!function` is named, the Python files beside it.
    """
    own = tasks_in(folder).get(task)
    stems = {task, *([own.stem] if own is not None else [])}
    found = {path for path in folder.rglob("*") if path.is_file() and path.stem in stems}
    for path in _with_included(own) if own is not None else []:
        code = path.parent.glob("*.py") if "!function" in path.read_text(encoding="utf-8") else ()
        found |= {path, *_data_of(path), *code}
    return sorted({path.resolve() for path in found})
