"""Prompt sets of the hub, or of a folder laid out like a data set, as a file that benchmarks read."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path

from harness.errors import UserError
from harness.refs import EMBEDDED, data_path, data_source
from harness.store import write_bytes
from trainers.data import DataError
from trainers.formats.hub import HUB, HubData, hub_rows, parse_hub
from trainers.formats.source import split_reference


def prompts_file(reference: str, base: Path, where: str, key: str, limit: int | None) -> Path:
    """The JSONL file of a benchmark's prompts: itself where it is one; for `hub:owner/name@revision#split` and `folder#split`
    the first `limit` rows, kept by content in the user's cache directory.

    Raises:
        UserError: no such source, or a row that JSON cannot hold.
    """
    folder = None if reference.startswith((HUB, EMBEDDED)) else split_reference(reference, base)
    if not reference.startswith(HUB) and (folder is None or not folder[0].is_dir()):
        return data_path(reference, base, where, key)
    from trainers.embedded import cache_dir

    try:
        if folder is None:
            data = parse_hub(data_source(reference, base, where, key))
        else:
            data = HubData(str(folder[0]), split=folder[1] or "train")
        rows = list(itertools.islice(hub_rows(data), limit))
    except DataError as error:
        raise UserError(f"{where}: {key}: {error}") from None
    lines = []
    for row in rows:
        try:
            lines.append(json.dumps(row.value, ensure_ascii=False, allow_nan=False) + "\n")
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{where}: {key} is {reference!r}; row {row.line} is no JSON ({error}); write its prompts to a JSONL file"
            ) from None
    content = "".join(lines).encode()
    path = cache_dir() / "prompts" / f"{hashlib.sha256(content).hexdigest()[:16]}.jsonl"
    if not path.is_file():
        write_bytes(path, content)
    return path
