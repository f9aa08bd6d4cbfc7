"""The preference data of a matrix: sources, held-out pairs, prompts from the hub; and which pairs each run trains on."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from evals.preferences.flips import COLUMNS, Noise, flip, permuted_betas, truth_betas
from evals.preferences.pairs import PairError
from harness.config import DataConfig, MatrixConfig, MethodConfig, Path_, Source
from harness.plan.references import EMBEDDED, data_path, data_source
from trainers.common import UserError, cache_dir, write_bytes
from trainers.common.turns import DataError
from trainers.formats import Part, load_mixture, load_source, split_by_prompt, to_jsonl
from trainers.formats.pairs import PreferencePair, seeded_hash, subset
from trainers.formats.readers.hub import HUB, HubData, hub_rows, parse_hub
from trainers.formats.source import split_reference


def heldout_file(reference: str, base: Path, where: str, data: DataConfig, key: str = "data.heldout") -> Path:
    """The JSONL file of held-out pairs: itself where evaluation reads it as it is, else its pairs, kept by content in the user's
    cache directory.

    Raises:
        UserError: no such source, or rows that are not pairs.
    """
    source = data_source(reference, base, where, key)
    loaded = load_source(source, without_preference=data.without_preference)
    plain = loaded.formats[0] in ("trl-standard", "trl-conversational") and not loaded.dropped
    if plain and source.endswith(".jsonl") and Path(source).is_file():
        return Path(source)
    return _cached("heldout", to_jsonl(loaded.pairs))


def _cached(folder: str, text: str) -> Path:
    """The text as a file named by its content, in the user's cache directory."""
    content = text.encode()
    path = cache_dir() / folder / f"{hashlib.sha256(content).hexdigest()[:16]}.jsonl"
    if not path.is_file():
        write_bytes(path, content)
    return path


def prompts_file(reference: str, base: Path, where: str, key: str, limit: int | None) -> Path:
    """The JSONL file of a benchmark's prompts: itself where it is one; for `hub:owner/name@revision#split` and `folder#split`
    the first `limit` rows, kept by content in the user's cache directory.

    Raises:
        UserError: no such source, or a row that JSON cannot hold.
    """
    folder = None if reference.startswith((HUB, EMBEDDED)) else split_reference(reference, base)
    if not reference.startswith(HUB) and (folder is None or not folder[0].is_dir()):
        return data_path(reference, base, where, key)
    text = ""
    try:
        data = parse_hub(reference) if folder is None else HubData(str(folder[0]), split=folder[1] or "train")
        for row in itertools.islice(hub_rows(data), limit):
            text += json.dumps(row.value, ensure_ascii=False, allow_nan=False) + "\n"
    except DataError as error:
        raise UserError(f"{where}: {key}: {error}") from None
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{where}: {key} is {reference!r}; row {row.line} is not JSON ({error}); write its prompts to a JSONL file"
        ) from None
    return _cached("prompts", text)


def stream_limit(data: DataConfig) -> int | None:
    """How many pairs of the only source are read as a stream, so that `max_train_pairs` are left to train on."""
    if not data.streaming or not isinstance(data.train, str) or data.max_train_pairs is None:
        return None
    return math.ceil(data.max_train_pairs / (1 - (data.heldout_share or 0.0)))


@dataclass(frozen=True)
class Loaded:
    """The pairs of all sources, those left to train on, and the file of those held out from them, if any.

    `first`: the first source, for messages.
    """

    first: Path
    every: list[PreferencePair]
    pool: list[PreferencePair]
    heldout: Path | None = None


def load_data(config: MatrixConfig, source: Source, log: Callable[[str], None]) -> Loaded:
    """Read all sources.

    Raises:
        UserError: a source that is not there or not readable, or so few prompt groups that a side would be empty.
    """
    data, base = config.data, source.path.parent
    parts = []
    for i, one in enumerate(data.sources):
        place: Path_ = ("data", "train") if isinstance(data.train, str) else ("data", "train", i, "source")
        where, _, key = source.at(*place).rpartition(": ")
        parts.append(
            Part(data_source(one.source, base, where, key), one.weight, stream_limit(data) or one.limit, one.share)
        )
    loaded = load_mixture(parts, seed=data.seed, without_preference=data.without_preference, streaming=data.streaming)
    if data.heldout is not None:
        held = data_source(data.heldout, base, source.where(("data", "heldout")), "data.heldout")
        load_source(held, without_preference=data.without_preference)
    for note in loaded.notes:
        log(note)
    if loaded.dropped:
        log(f"dropped {len(loaded.dropped)} rows without a preference; the first: {loaded.dropped[0]}")
    found = Loaded(Path(parts[0].source), loaded.pairs, loaded.pairs)
    if data.heldout_share is None:
        return found
    try:
        rest, held_pairs = split_by_prompt(loaded.pairs, data.heldout_share, data.seed)
    except ValueError as error:
        raise UserError(f"{source.at('data', 'heldout_share')} is {data.heldout_share}; {error}") from None
    log(f"held out {len(held_pairs)} of {len(loaded.pairs)} pairs, by prompt group")
    return replace(found, pool=rest, heldout=_cached("heldout", to_jsonl(held_pairs)))


# Which pairs each run trains on: one set for all, or a draw for every seed, with flipped labels and the betas that know them.


@dataclass(frozen=True)
class Draw:
    """The pairs of one run.

    Attributes:
        seed: of a subset and flips of its own (data.resample); None: those of the whole matrix.
        flip: share of the labels that are flipped; three are for the terciles of prompt perplexity.
        ratio: beta of a clean pair over that of a flipped one; None leaves the betas of the data.
        mean: of these betas. permuted: they are handed out by lot.
    """

    seed: int | None = None
    flip: float | tuple[float, ...] | None = None
    ratio: float | None = None
    mean: float | None = None
    permuted: bool = False

    @property
    def identity(self) -> dict[str, float | bool | tuple[float, ...]]:
        """What tells the draws of a matrix apart; empty for the one that all matrices had once."""
        return {key: value for key, value in vars(self).items() if value is not None and value is not False}


def draw_of(config: MatrixConfig, method: MethodConfig, seed: int, mean: float | None) -> Draw:
    """The draw of a run of a method (of its parent's, for a control); `mean` is its pref_beta."""
    planted = config.sensitivity
    flipped = tuple(config.data.flip) if isinstance(config.data.flip, list) else config.data.flip
    if planted is not None and planted.flip is not None and planted.roles.keys() & {method.name, method.parent}:
        flipped = planted.flip
    own = None if config.data.resample is None else seed % (config.data.subsets or seed + 1)
    if method.oracle is None:
        return Draw(own, flipped)
    return Draw(own, flipped, method.oracle.clean_over_flipped, mean, method.oracle.permuted)


def pair_sets(
    config: MatrixConfig,
    source: Source,
    pool: list[PreferencePair],
    draws: Sequence[Draw],
    fitting: Callable[[list[PreferencePair]], list[PreferencePair]],
) -> dict[Draw, list[PreferencePair]]:
    """The pairs of each draw, from those that are not held out.

    Draws of one seed hold the same pairs with the same labels, so that methods are paired. Subsets and flips go by a hash of
    seed and id.

    Args:
        fitting: keeps the pairs that a model can be trained on.

    Raises:
        UserError: so few pairs that all seeds draw the same, labels flipped twice, or an oracle without flipped pairs.
    """
    limit, seed = config.data.max_train_pairs, config.data.seed
    if config.data.resample is not None and config.data.flip is None and limit is not None and limit >= len(pool):
        raise UserError(
            f"{source.at('data', 'max_train_pairs')} is {limit} and there are {len(pool)} pairs, so every seed would draw "
            "the same; lower it, or remove data.resample"
        )
    if any(draw.flip for draw in draws) and any(pair.flipped is not None for pair in pool):
        raise UserError(f"{source.path}: flip is set, and the pairs say already which are flipped; remove flip")
    drawn = {own: subset(pool, limit, seed, partial(_key, own)) for own in dict.fromkeys(draw.seed for draw in draws)}
    ids = {pair.id for pairs in drawn.values() for pair in pairs}
    usable = {pair.id for pair in fitting([pair for pair in pool if pair.id in ids])}

    @cache
    def labelled(own: int | None, share: float | tuple[float, ...] | None) -> list[PreferencePair]:
        pairs = [pair for pair in drawn[own] if pair.id in usable]
        if config.data.gap_blocks is not None:
            pairs = _in_blocks(pairs, config.data.gap_blocks, partial(_key, own), seed, source)
        try:
            return pairs if share is None else _flipped(pairs, share, f"{seed}" if own is None else f"{seed}:{own}")
        except PairError as error:
            raise UserError(f"{source.at('data', 'flip')}: {error}") from None

    def made(draw: Draw) -> list[PreferencePair]:
        pairs = labelled(draw.seed, draw.flip)
        if draw.ratio is None or draw.mean is None:
            return pairs
        known = [pair.flipped for pair in pairs if pair.flipped is not None]
        if len(known) < len(pairs) or not 0 < sum(known) < len(known):
            raise UserError(
                f"{source.path}: a method with oracle needs pairs of which some are known to be flipped; "
                "set data.flip or sensitivity.flip, or take data with a column flipped (build-preferences --flip)"
            )
        betas = truth_betas(known, draw.ratio, draw.mean)
        if draw.permuted:
            betas = permuted_betas([pair.id for pair in pairs], known, betas, seed)
        return [replace(pair, beta=beta) for pair, beta in zip(pairs, betas, strict=True)]

    return {draw: made(draw) for draw in dict.fromkeys(draws)}


def _key(own: int | None, pair: PreferencePair) -> str:
    return pair.id if own is None else f"{own}:{pair.id}"


def _in_blocks(
    pairs: list[PreferencePair], size: int, key: Callable[[PreferencePair], str], seed: int, source: Source
) -> list[PreferencePair]:
    """The pairs in blocks of similar score gaps; the blocks are ordered by lot, one that is too short comes last."""

    def gap(pair: PreferencePair) -> float:
        try:
            return abs(float(pair.columns["score_chosen"]) - float(pair.columns["score_rejected"]))
        except (KeyError, TypeError, ValueError):
            raise UserError(
                f"{source.at('data', 'gap_blocks')}: pair {pair.id!r} has no number under 'score_chosen' and "
                "'score_rejected'; take data with both scores (build-preferences writes them), or remove gap_blocks"
            ) from None

    by_gap = sorted(pairs, key=lambda pair: (gap(pair), pair.id))
    blocks = [by_gap[i : i + size] for i in range(0, len(by_gap), size)]
    blocks.sort(key=lambda block: (len(block) < size, seeded_hash(seed, key(block[0]))))
    return [pair for block in blocks for pair in block]


def _flipped(pairs: Sequence[PreferencePair], share: float | tuple[float, ...], seed: str) -> list[PreferencePair]:
    noise = Noise(share, seed, by="perplexity") if isinstance(share, tuple) else Noise((share,), seed)
    by = COLUMNS["perplexity"]
    given = [{"id": p.id, "chosen": p.chosen, "rejected": p.rejected, by: p.columns.get(by)} for p in pairs]
    return [
        replace(p, chosen=row["chosen"], rejected=row["rejected"], flipped=row["flipped"])
        for p, row in zip(pairs, flip(given, noise)[0], strict=True)
    ]
