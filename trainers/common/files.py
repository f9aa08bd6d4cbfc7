"""Files: atomic writes, hashes of bytes and values, the user's cache folder."""

import contextlib
import dataclasses
import errno
import hashlib
import json
import math
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trainers.common.errors import UnreadableError

#: An object of JSON whose keys are not known here.
Json = dict[str, Any]


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


def tensor_shapes(model_dir: Path) -> dict[str, list[int]]:
    """Shapes of the weights by name, from the headers of the safetensors files."""
    found: dict[str, list[int]] = {}
    for path in Path(model_dir).glob("*.safetensors"):
        with path.open("rb") as handle:
            (length,) = struct.unpack("<Q", handle.read(8))
            header = json.loads(handle.read(length))
        found |= {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}
    return found


def parameter_count(model_dir: Path) -> int:
    """Number of weights."""
    return sum(map(math.prod, tensor_shapes(model_dir).values()))


def push(path: Path) -> None:
    """Put a file's content, or a folder's names, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def push_files(folder: Path) -> dict[str, str]:
    """Put all that is in a folder on disk; returns relative path -> SHA-256 of every file."""
    paths = sorted(folder.rglob("*"))
    for path in (folder, *paths):
        push(path)
    return {str(path.relative_to(folder)): file_hash(path) for path in paths if path.is_file()}


#: How often a file is read that another host replaces meanwhile (NFS then says ESTALE).
_READS = 3


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write to; when the block ends its file replaces `path`.

    A reader sees the old file or the new one, also after a power cut. If the block raises, the old file stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        push(temporary)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    push(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace the content of `path` atomically (see `replacing`)."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any, allow_nan: bool = False) -> None:
    """`write_bytes` of indented JSON.

    Raises:
        ValueError: NaN or infinity in `value`, unless `allow_nan`: then they are written as Python writes them.
    """
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=allow_nan) + "\n").encode("utf-8"))


def read_json(path: Path) -> Any | None:
    """The decoded file, or None if it is missing or corrupt.

    Raises:
        UnreadableError: the file exists but the system cannot read it now.
    """
    for left in reversed(range(_READS)):
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        except OSError as error:
            if error.errno != errno.ESTALE or not left:
                raise UnreadableError(error.errno, error.strerror, str(path)) from None
    return None


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def cache_dir() -> Path:
    """The user's cache directory: $DPO_HARNESS_CACHE, else $XDG_CACHE_HOME/dpo-beta-harness, else ~/.cache/..."""
    if override := os.environ.get("DPO_HARNESS_CACHE"):
        return Path(override)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dpo-beta-harness"
