"""Corrections for many tests, and groups of methods that are not distinguishable."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

# Adjusted p-values: Holm for declared comparisons, Benjamini-Hochberg for exploratory ones. None stays None.


def _adjust(p_values: Sequence[float | None], step_down: bool) -> list[float | None]:
    known = [i for i, p in enumerate(p_values) if p is not None]
    p = np.array([p_values[i] for i in known], dtype=float)
    if ((p < 0) | (p > 1) | ~np.isfinite(p)).any():
        raise ValueError("adjusting p-values: every p must lie in 0..1")
    order, m = np.argsort(p, kind="stable"), p.size
    adjusted = np.empty(m)
    if step_down:
        adjusted[order] = np.maximum.accumulate(p[order] * (m - np.arange(m)))
    else:
        adjusted[order[::-1]] = np.minimum.accumulate(p[order][::-1] * m / np.arange(m, 0, -1))
    out: list[float | None] = [None] * len(p_values)
    for i, value in zip(known, np.minimum(adjusted, 1.0), strict=True):
        out[i] = float(value)
    return out


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjusted p-values (family-wise error), in the order given."""
    return _adjust(p_values, step_down=True)


def benjamini_hochberg(p_values: Sequence[float | None]) -> list[float | None]:
    """Benjamini-Hochberg adjusted p-values (false discovery rate), in the order given."""
    return _adjust(p_values, step_down=False)


# Compact letter display: methods that share a letter are not distinguishable (Piepho 2004, insert and absorb).


def letters(names: Sequence[str], different: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The letters of each name, given the distinguishable pairs; `names` run from best to worst.

    Every distinguishable pair shares no letter, every other pair shares at least one. Beyond 26 groups letters are numbered.
    """
    place = {name: i for i, name in enumerate(names)}
    columns: list[set[str]] = [set(names)]
    for a, b in different:
        if a not in place or b not in place or a == b:
            raise ValueError(f"letters: ({a!r}, {b!r}) is not a pair of the names")
        split: list[set[str]] = []
        for column in columns:
            if a in column and b in column:
                split += [column - {a}, column - {b}]
            else:
                split.append(column)
        columns = []
        for column in sorted(split, key=len, reverse=True):
            if column and not any(column <= kept for kept in columns):
                columns.append(column)
    columns.sort(key=lambda column: sorted(place[n] for n in column))
    return {n: "".join(_letter(i) for i, column in enumerate(columns) if n in column) for n in names}


def _letter(number: int) -> str:
    turn, place = divmod(number, 26)
    return chr(ord("a") + place) + (str(turn) if turn else "")
