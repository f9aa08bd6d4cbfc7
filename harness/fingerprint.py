"""Identity of runs: SHA-256 of what determines their numbers, and of nothing else."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: Raise when a change of `trainers` changes the numbers of a run, so that runs are trained again.
TRAIN_VERSION = 2


def stable(value: Any, where: str = "value") -> Any:
    """`value` as JSON types with one form each.

    Raises:
        TypeError: a value without a stable serialisation (an object, a set, a path), or NaN; names where it is.
    """
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{where} is {value}: not a number that identifies a run")
        return float(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return stable({field.name: getattr(value, field.name) for field in dataclasses.fields(value)}, where)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{where} has a key {key!r} that is not a text")
        return {key: stable(value[key], f"{where}.{key}") for key in sorted(value)}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [stable(item, f"{where}[{i}]") for i, item in enumerate(value)]
    raise TypeError(f"{where} is a {type(value).__name__}, which has no stable serialisation")


def fingerprint(value: Any) -> str:
    """SHA-256 (64 hex digits) of the stable form. 1 and 1.0 differ; key order does not matter."""
    text = json.dumps(stable(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _cached_hash(path: Path, cache: dict[str, str]) -> str:
    stat = path.stat()
    key = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"
    if key not in cache:
        cache[key] = file_hash(path)
    return cache[key]


def model_hash(directory: Path) -> str:
    """Identity of a checkpoint: weights, configuration, tokenizer and chat template, wherever it lies.

    Hashes of large files are remembered in the user's cache directory by path, size and modification time.
    """
    from harness.store import write_json
    from trainers.embedded import cache_dir

    store = cache_dir() / "file-hashes.json"
    try:
        cache: dict[str, str] = json.loads(store.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        cache = {}
    before = len(cache)
    patterns = ("*.safetensors", "config.json", "generation_config.json", "tokenizer*", "*.jinja", "vocab*", "merges*")
    files = sorted({path for pattern in patterns for path in Path(directory).glob(pattern) if path.is_file()})
    result = fingerprint({path.name: _cached_hash(path, cache) for path in files})
    if len(cache) != before:
        write_json(store, cache)
    return result
