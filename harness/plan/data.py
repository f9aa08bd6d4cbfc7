"""The preference data of a matrix: sources, held-out pairs, prompts from the hub."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path

from harness.config import DataConfig, MatrixConfig, Path_, Source
from harness.plan.references import EMBEDDED, data_path, data_source
from trainers.common import UserError, cache_dir, write_bytes
from trainers.common.turns import DataError
from trainers.formats import Part, load_mixture, load_source, split_by_prompt, to_jsonl
from trainers.formats.pairs import PreferencePair
from trainers.formats.readers.hub import HUB, HubData, hub_rows, parse_hub
from trainers.formats.source import split_reference

# Held-out pairs as a file that benchmarks read, whatever form and place they come in.


def heldout_file(reference: str, base: Path, where: str, without_preference: str, key: str = "data.heldout") -> Path:
    """The JSONL file of held-out pairs: itself where evaluation reads it as it is, else its pairs, kept by content in the user's
    cache directory.

    Raises:
        UserError: no such source, or rows that are not pairs.
    """
    source = data_source(reference, base, where, key)
    loaded = load_source(source, without_preference="drop" if without_preference == "drop" else "error")
    file = Path(source)
    plain = loaded.formats[0] in ("trl-standard", "trl-conversational") and not loaded.dropped
    return file if plain and file.suffix == ".jsonl" and file.is_file() else _kept(loaded.pairs)


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
    return _cached("heldout", to_jsonl(pairs))


def _cached(folder: str, text: str) -> Path:
    """The text as a file named by its content, in the user's cache directory."""
    content = text.encode()
    path = cache_dir() / folder / f"{hashlib.sha256(content).hexdigest()[:16]}.jsonl"
    if not path.is_file():
        write_bytes(path, content)
    return path


# Prompt sets of the hub, or of a folder laid out like a data set, as a file that benchmarks read.


def prompts_file(reference: str, base: Path, where: str, key: str, limit: int | None) -> Path:
    """The JSONL file of a benchmark's prompts: itself where it is one; for `hub:owner/name@revision#split` and `folder#split`
    the first `limit` rows, kept by content in the user's cache directory.

    Raises:
        UserError: no such source, or a row that JSON cannot hold.
    """
    folder = None if reference.startswith((HUB, EMBEDDED)) else split_reference(reference, base)
    if not reference.startswith(HUB) and (folder is None or not folder[0].is_dir()):
        return data_path(reference, base, where, key)

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
                f"{where}: {key} is {reference!r}; row {row.line} is not JSON ({error}); write its prompts to a JSONL file"
            ) from None
    return _cached("prompts", "".join(lines))


def stream_limit(data: DataConfig) -> int | None:
    """How many pairs of the only source are read as a stream, so that `max_train_pairs` are left to train on."""
    if not data.streaming or not isinstance(data.train, str) or data.max_train_pairs is None:
        return None
    return math.ceil(data.max_train_pairs / (1 - (data.heldout_share or 0.0)))


def load_data(
    config: MatrixConfig, source: Source, log: Callable[[str], None]
) -> tuple[Path, list[PreferencePair], list[PreferencePair], Path | None]:
    """The first source, for messages, all pairs, those left to train on, and the file of those held out from them, if any."""
    data, base = config.data, source.path.parent
    single = isinstance(data.train, str)
    parts = []
    for i, one in enumerate(data.sources):
        place: Path_ = ("data", "train") if single else ("data", "train", i, "source")
        key = "data.train" if single else f"data.train[{i}].source"
        parts.append(
            Part(
                data_source(one.source, base, source.where(place), key),
                one.weight,
                stream_limit(data) or one.limit,
                one.share,
            )
        )
    loaded = load_mixture(parts, seed=data.seed, without_preference=data.without_preference, streaming=data.streaming)
    if data.heldout is not None:
        held = data_source(data.heldout, base, source.where(("data", "heldout")), "data.heldout")
        load_source(held, without_preference=data.without_preference)
    for note in loaded.notes:
        log(note)
    if loaded.dropped:
        log(f"dropped {len(loaded.dropped)} rows without a preference; the first: {loaded.dropped[0]}")
    pairs, held_file = loaded.pairs, None
    if data.heldout_share is not None:
        pairs, held_file = hold_out(pairs, data.heldout_share, data.seed, source.where(("data", "heldout_share")), log)
    return Path(parts[0].source), loaded.pairs, pairs, held_file
