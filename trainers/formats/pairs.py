"""Preference pairs from JSONL: strict reading, one clear error per bad row. Torch-free."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainers.common.turns import DataError, Turns


@dataclass(frozen=True)
class PreferencePair:
    """One comparison. `prompt`, `chosen` and `rejected` are chat turns; `group` marks rows sharing a prompt.

    `line` and `source` say where the row stands, in which file or data set; they are not part of what the row is.
    """

    id: str
    prompt: Turns
    chosen: Turns
    rejected: Turns
    group: str
    beta: float | None = None
    line: int = 0
    source: str = ""

    def content(self) -> tuple[Any, ...]:
        """What determines training on this row (the identity used in content hashes)."""
        return (self.id, self.prompt, self.chosen, self.rejected, self.beta)


def _turns(value: Any, role: str, where: str, key: str) -> Turns:
    """A string becomes one turn of `role`; a list must be non-empty {role, content} messages."""
    if isinstance(value, str):
        if not value.strip():
            raise DataError(f"{where}: '{key}' is empty; every row needs a non-empty {key}")
        return [{"role": role, "content": value}]
    if isinstance(value, list) and value:
        turns: Turns = []
        for message in value:
            if (
                not isinstance(message, dict)
                or not isinstance(message.get("role"), str)
                or not isinstance(message.get("content"), str)
            ):
                raise DataError(f"{where}: '{key}' must be a string or a list of {{role, content}} messages")
            turns.append({"role": message["role"], "content": message["content"]})
        if not any(turn["content"].strip() for turn in turns):
            raise DataError(f"{where}: '{key}' has only empty messages; remove the row or fill it in")
        return turns
    raise DataError(f"{where}: '{key}' must be a non-empty string or list of messages, not {type(value).__name__}")


def parse_row(row: Any, where: str, default_id: str, line: int = 0) -> PreferencePair:
    """Validate one decoded row.

    Raises:
        DataError: missing or empty fields, identical answers, or a bad `beta`.
    """
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected a JSON object with prompt, chosen and rejected, got {type(row).__name__}")
    missing = [key for key in ("prompt", "chosen", "rejected") if key not in row]
    if missing:
        raise DataError(f"{where}: missing {', '.join(missing)}; a preference row has prompt, chosen and rejected")
    prompt = _turns(row["prompt"], "user", where, "prompt")
    chosen = _turns(row["chosen"], "assistant", where, "chosen")
    rejected = _turns(row["rejected"], "assistant", where, "rejected")
    if chosen == rejected:
        raise DataError(f"{where}: chosen and rejected are identical; remove the row (it carries no preference)")
    beta = row.get("beta")
    if beta is not None and (isinstance(beta, bool) or not isinstance(beta, int | float) or not beta > 0):
        raise DataError(f"{where}: 'beta' is {beta!r}; a per-pair beta is a number above 0")
    row_id = str(row.get("id", default_id))
    return PreferencePair(row_id, prompt, chosen, rejected, str(row.get("group", row_id)), beta, line)


def iter_jsonl(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield (line number from 1, decoded value) of a JSONL file; blank lines are skipped.

    Raises:
        DataError: the file is missing, not UTF-8, or a line is not JSON.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; give the path of a JSONL file of preference pairs")
    try:
        with path.open(encoding="utf-8") as handle:
            for number, line in enumerate(handle, start=1):
                if not line.strip():
                    continue
                try:
                    yield number, json.loads(line)
                except json.JSONDecodeError as error:
                    raise DataError(f"{path}:{number}: not valid JSON ({error.msg}); one object per line") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); re-save it as UTF-8") from None


def load_pairs(path: Path, limit: int | None = None, seed: int = 0) -> list[PreferencePair]:
    """Read every row of `path`, then keep at most `limit` whole-file-validated rows chosen by `seed`.

    The subset is drawn by a hash of (seed, id), so it does not depend on the order of the file and a larger limit
    keeps the rows of a smaller one.

    Raises:
        DataError: see `parse_row`; also for an empty file or a repeated id.
    """
    path = Path(path)
    pairs: list[PreferencePair] = []
    seen: dict[str, int] = {}
    for number, row in iter_jsonl(path):
        pair = parse_row(row, f"{path}:{number}", default_id=f"row-{number}", line=number)
        if pair.id in seen:
            raise DataError(f"{path}:{number}: id {pair.id!r} was used on line {seen[pair.id]}; ids must be unique")
        seen[pair.id] = number
        pairs.append(pair)
    if not pairs:
        raise DataError(f"{path}: no rows; a preference file needs at least one pair")
    return subset(pairs, limit, seed)


def subset(pairs: Sequence[PreferencePair], limit: int | None, seed: int) -> list[PreferencePair]:
    """At most `limit` pairs, drawn by a seeded hash of their ids and kept in file order."""
    if limit is None or limit >= len(pairs):
        return list(pairs)
    import hashlib

    def rank(pair: PreferencePair) -> str:
        return hashlib.sha256(f"{seed}:{pair.id}".encode()).hexdigest()

    kept = {pair.id for pair in sorted(pairs, key=rank)[:limit]}
    return [pair for pair in pairs if pair.id in kept]
