"""Identity of runs: SHA-256 of what determines their numbers, and of nothing else."""

from __future__ import annotations

from pathlib import Path

from trainers.common import cache_dir, file_hash, fingerprint, read_json, write_json

#: Raise when a change of `trainers` changes the numbers of a run, so that runs are trained again.
TRAIN_VERSION = 2


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
    store = cache_dir() / "file-hashes.json"
    try:
        cache: dict[str, str] = read_json(store) or {}
    except OSError:  # only a cache
        cache = {}
    before = len(cache)
    patterns = ("*.safetensors", "config.json", "generation_config.json", "tokenizer*", "*.jinja", "vocab*", "merges*")
    files = sorted({path for pattern in patterns for path in Path(directory).glob(pattern) if path.is_file()})
    result = fingerprint({path.name: _cached_hash(path, cache) for path in files})
    if len(cache) != before:
        write_json(store, cache)
    return result
