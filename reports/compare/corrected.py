"""p-values corrected together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from reports.schema.base import Adjusted, AdjustedP, Test
from reports.statistics.multiplicity import benjamini_hochberg

R = TypeVar("R", bound=Adjusted)
#: Stands in a row until the tests of all rows are known.
UNCORRECTED = AdjustedP(value=None, method="uncorrected", family_size=0, reason="not corrected yet")


def corrected(
    tests: Sequence[Test],
    correct: Callable[[list[float | None]], list[float | None]] = benjamini_hochberg,
    method: str = "Benjamini-Hochberg",
) -> list[AdjustedP]:
    """The p-values of one family after correction; a test without one keeps its place in the family and says why."""
    values = correct([test.p_value for test in tests])
    return [
        AdjustedP(value=p, method=method, family_size=len(values), reason=test.reason if p is None else None)
        for test, p in zip(tests, values, strict=True)
    ]


def with_corrected(rows: Sequence[R], tests: Sequence[Test]) -> list[R]:
    """The rows, which stand for one family of tests, with their `adjusted_p`."""
    return [row.model_copy(update={"adjusted_p": p}) for row, p in zip(rows, corrected(tests), strict=True)]
