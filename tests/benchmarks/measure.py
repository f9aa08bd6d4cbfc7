"""What a benchmark returns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measurement:
    """Values of repeated runs (for a ratio: one per interleaved pair), their unit, what they are against, a remark."""

    values: list[float]
    unit: str
    against: str | None
    detail: str
