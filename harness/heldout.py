"""Held-out pairs as a file that benchmarks read, whatever form and place they come in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from harness.errors import UserError
from harness.refs import EMBEDDED, data_path, data_source
from harness.store import write_bytes
from trainers.data import DataError, PreferencePair
from trainers.formats import load_source, split_by_prompt, to_jsonl


def heldout_file(reference: str, base: Path, where: str, without_preference: str, key: str = "data.heldout") -> Path:
    """The JSONL file of held-out pairs: itself where it is one, else its pairs, kept by content in the user's cache directory.

    Raises:
        UserError: no such source, or rows that are no pairs.
    """
    if reference.startswith(EMBEDDED) or (Path(reference).suffix == ".jsonl" and (base / reference).is_file()):
        return data_path(reference, base, where, key)
    source = data_source(reference, base, where, key)
    try:
        loaded = load_source(source, without_preference="drop" if without_preference == "drop" else "error")
    except DataError as error:
        raise UserError(str(error)) from None
    return _kept(loaded.pairs)


def hold_out(
    pairs: list[PreferencePair], share: float, seed: int, where: str, log: Callable[[str], None]
) -> tuple[list[PreferencePair], Path]:
    """The pairs to train on, and the file of the held-out ones: whole prompt groups, about `share` of them.

    Raises:
        UserError: so few groups that a side would be empty.
    """
    try:
        rest, held = split_by_prompt(pairs, share, seed)
    except ValueError as error:
        raise UserError(f"{where}: data.heldout_share is {share}; {error}") from None
    log(f"held out {len(held)} of {len(pairs)} pairs, by prompt group")
    return rest, _kept(held)


def _kept(pairs: list[PreferencePair]) -> Path:
    """The pairs as a file named by its content, in the user's cache directory."""
    from trainers.embedded import cache_dir

    content = to_jsonl(pairs).encode()
    path = cache_dir() / "heldout" / f"{hashlib.sha256(content).hexdigest()[:16]}.jsonl"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)
    return path
