"""A store on any fsspec file system: folders are pushed to it and pulled from it; what must not fail is tried again."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from stat import S_ISREG
from typing import Any, ParamSpec, TypeVar

from harness.state import STATUS
from trainers.common import file_hash

#: Seconds between tries of what must not fail; then it is given up.
RETRY_SECONDS = (1.0, 3.0, 10.0)
P = ParamSpec("P")
T = TypeVar("T")


class StoreError(ConnectionError):
    """The store failed several times in a row."""


def insisting(action: Callable[P, T]) -> Callable[P, T]:
    """`action`, retried on any error of the store's package; raises StoreError after the last try."""

    @functools.wraps(action)
    def insist(*args: P.args, **kwargs: P.kwargs) -> T:
        for seconds in RETRY_SECONDS:
            with contextlib.suppress(Exception):
                return action(*args, **kwargs)
            time.sleep(seconds)
        try:
            return action(*args, **kwargs)
        except Exception as error:
            raise StoreError(failure_text(error)) from error

    return insist


def failure_text(error: Exception) -> str:
    """What to tell of a store that failed several times."""
    return f"executor.artifacts failed {len(RETRY_SECONDS) + 1} times: {type(error).__name__}: {error}"


def file_system(url: str) -> tuple[Any, str]:
    """The fsspec file system of `url` and the path in it.

    Raises:
        ValueError: no such protocol, or its package is not installed.
    """
    import fsspec

    try:
        found: tuple[Any, str] = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ValueError(f"{error}") from None
    return found


def files_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Relative path -> (size, time of change) of every finished file; status files last."""
    found: dict[str, tuple[int, int]] = {}
    for path in folder.rglob("*"):
        if path.name.endswith(".tmp") or path.name.startswith(".lock"):
            continue
        with contextlib.suppress(FileNotFoundError):  # renamed or removed since it was listed
            stat = path.stat()
            if not S_ISREG(stat.st_mode):
                continue
            found[str(path.relative_to(folder))] = (stat.st_size, stat.st_mtime_ns)
    return dict(sorted(found.items(), key=lambda item: (Path(item[0]).name == STATUS, item[0])))


def push_folder(fs: Any, root: str, folder: Path, known: dict[str, tuple[int, int]]) -> None:
    """Upload what differs from `known`, and remove what is gone since; `known` then says what there is in the store."""
    current = files_of(folder)
    for name, stamp in current.items():
        if known.get(name) != stamp:
            target = f"{root}/{name}"
            fs.makedirs(os.path.dirname(target), exist_ok=True)
            part = f"{target}.{socket.gethostname()}-{os.getpid()}.part"
            try:
                fs.put_file(str(folder / name), part)
            except FileNotFoundError:
                continue  # replaced or removed since it was listed
            fs.mv(part, target)
            known[name] = stamp
    for name in known.keys() - current.keys():
        remove(fs, f"{root}/{name}")
        del known[name]


def remove(fs: Any, path: str) -> None:
    """Remove a file of the store, if it is there."""
    if fs.exists(path):
        fs.rm_file(path)


def pull_folder(fs: Any, root: str, folder: Path, mirror: bool = False) -> None:
    """Download what is not here with the same size and content; with `mirror`, remove what the store does not hold."""
    names = {str(path)[len(root.rstrip("/")) + 1 :]: info for path, info in _listed(fs, root).items()}
    names = {name: info for name, info in names.items() if not name.endswith(".part")}
    for name in sorted(names, key=lambda name: (Path(name).name == STATUS, name)):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            fs.get_file(f"{root}/{name}", str(temporary))
        except FileNotFoundError:
            continue  # replaced or removed since it was listed
        if target.is_file() and file_hash(target) == file_hash(temporary):
            temporary.unlink()
            continue
        os.replace(temporary, target)
    if mirror:
        for name in files_of(folder).keys() - names.keys():
            (folder / name).unlink()


def _listed(fs: Any, root: str) -> dict[str, Any]:
    fs.invalidate_cache()
    listed: dict[str, Any] = fs.find(root, detail=True) if fs.exists(root) else {}
    return listed
