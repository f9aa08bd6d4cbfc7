"""Ground floor: small modules that every package may use, and that import nothing above them."""

from __future__ import annotations

from trainers.common.errors import UnreadableError, UserError
from trainers.common.events import Events, EventTail, tail
from trainers.common.files import (
    Json,
    cache_dir,
    file_hash,
    fingerprint,
    now,
    push,
    read_json,
    stable,
    write_bytes,
    write_json,
)
from trainers.common.words import nearest

__all__ = [
    "EventTail",
    "Events",
    "Json",
    "UnreadableError",
    "UserError",
    "cache_dir",
    "file_hash",
    "fingerprint",
    "nearest",
    "now",
    "push",
    "read_json",
    "stable",
    "tail",
    "write_bytes",
    "write_json",
]
