"""Compact letter display: methods that share a letter were not told apart (Piepho 2004, insert and absorb)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def letters(names: Sequence[str], different: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The letters of each name, given the pairs that were told apart; `names` run from best to worst.

    Every pair told apart shares no letter, every other pair shares at least one. Beyond 26 groups letters are numbered.
    """
    place = {name: i for i, name in enumerate(names)}
    columns: list[set[str]] = [set(names)]
    for a, b in different:
        if a not in place or b not in place or a == b:
            raise ValueError(f"letters: ({a!r}, {b!r}) is no pair of the names")
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
