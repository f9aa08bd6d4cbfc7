"""Which pairs each run trains on: one set for all, or a draw for every seed, with flipped labels and the betas that know them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

from evals.preferences.flips import COLUMNS, Noise, flip, permuted_betas, truth_betas
from evals.preferences.pairs import PairError
from harness.config import MatrixConfig, MethodConfig, Source
from trainers.common import UserError
from trainers.formats.pairs import PreferencePair, subset


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
    own = None
    if config.data.resample is not None:
        own = seed if config.data.subsets is None else seed % config.data.subsets
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
    drawn = {own: subset(pool, limit, seed, partial(_key, own)) for own in dict.fromkeys(d.seed for d in draws)}
    ids = {pair.id for pairs in drawn.values() for pair in pairs}
    usable = {pair.id for pair in fitting([pair for pair in pool if pair.id in ids])}

    @cache
    def labelled(own: int | None, share: float | tuple[float, ...] | None) -> list[PreferencePair]:
        pairs = [pair for pair in drawn[own] if pair.id in usable]
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


def _flipped(pairs: Sequence[PreferencePair], share: float | tuple[float, ...], seed: str) -> list[PreferencePair]:
    noise = Noise(share, seed, by="perplexity") if isinstance(share, tuple) else Noise((share,), seed)
    by = COLUMNS["perplexity"]
    given = [{"id": p.id, "chosen": p.chosen, "rejected": p.rejected, by: p.columns.get(by)} for p in pairs]
    return [
        replace(p, chosen=row["chosen"], rejected=row["rejected"], flipped=row["flipped"])
        for p, row in zip(pairs, flip(given, noise)[0], strict=True)
    ]
