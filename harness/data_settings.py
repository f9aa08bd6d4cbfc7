"""`data`: settings that do not go together, found without reading a row."""

from __future__ import annotations

import math

from harness.config import DataConfig, MatrixConfig
from harness.errors import UserError
from harness.yaml_source import Path_, Source


def check_data(config: MatrixConfig, source: Source) -> None:
    """Refuse two held-out sets, and streams without an end.

    Raises:
        UserError: with the line and the fix.
    """
    data = config.data
    if data.heldout is not None and data.heldout_share is not None:
        where = source.where(("data", "heldout_share"))
        raise UserError(
            f"{where}: data.heldout_share is {data.heldout_share}, and data.heldout names a set of its own; remove one of them"
        )
    if not data.streaming:
        return
    where = source.where(("data", "streaming"))
    if isinstance(data.train, str):
        if data.max_train_pairs is None:
            raise UserError(
                f"{where}: data.streaming is true, but nothing says how many pairs to read; add data.max_train_pairs"
            )
        return
    for i, one in enumerate(data.train):
        if one.limit is None:
            place: Path_ = ("data", "train", i)
            raise UserError(
                f"{source.where(place)}: data.streaming is true, but nothing says how many pairs of {one.source!r} to read; "
                f"add data.train[{i}].limit"
            )


def stream_limit(data: DataConfig) -> int | None:
    """How many pairs of the only source are read as a stream, so that `max_train_pairs` are left to train on."""
    if not data.streaming or not isinstance(data.train, str) or data.max_train_pairs is None:
        return None
    return math.ceil(data.max_train_pairs / (1 - (data.heldout_share or 0.0)))
