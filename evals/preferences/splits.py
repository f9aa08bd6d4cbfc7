"""Splits of a prompt file: by a column that names them, or drawn so that no topic is in two of them."""

import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from trainers.common.errors import UserError, refuse

SHARES: Mapping[str, float] = {"train": 0.7, "dev": 0.1, "test": 0.2}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class SplitError(UserError):
    """Prompts that cannot be split as asked; the message names the column and the fix."""


def by_column(rows: Sequence[Mapping[str, Any]], column: str = "split") -> dict[str, list[Mapping[str, Any]]]:
    """Rows by what their column says, in order of first occurrence; all are "train" where no row has it.

    Raises:
        SplitError: some rows lack it, or a name that cannot be a file's.
    """
    if not any(column in row for row in rows):
        return {"train": list(rows)}
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        name = row.get(column)
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise SplitError(
                f"prompt row {row['id']!r}: {column!r} is {name!r}; every row needs one, of letters, digits, - and _"
            )
        found.setdefault(name, []).append(row)
    return found


def by_value(
    rows: Sequence[Mapping[str, Any]], column: str, shares: Mapping[str, float], seed: int
) -> dict[str, list[Mapping[str, Any]]]:
    """Rows divided so that all with the same value of `column` are in one split; about `shares` of the rows in each.

    Values are drawn by a hash of `seed`, so a split does not depend on the order of the rows.

    Raises:
        SplitError: shares that do not add up to 1, a row without the column, or a split that would be empty.
    """
    right = shares and all(share > 0 for share in shares.values()) and abs(sum(shares.values()) - 1) <= 1e-6
    wrong = [name for name in shares if not _NAME.fullmatch(name)]
    lacking = [row["id"] for row in rows if row.get(column) is None]
    refuse(
        SplitError,
        (not right, f"shares are {dict(shares)}; each must be above 0, and together they must be 1"),
        (wrong, f"a split is called {''.join(wrong[:1])!r}; use letters, digits, - and _"),
        (lacking, f"prompt row {''.join(lacking[:1])!r} has no {column!r}, by which the prompts are to be split"),
    )
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(str(row[column]), []).append(row)
    order = sorted(groups, key=lambda value: hashlib.sha256(f"{seed}:{value}".encode()).hexdigest())
    found: dict[str, list[Mapping[str, Any]]] = {name: [] for name in shares}
    names, ends = list(shares), list(itertools.accumulate(shares.values()))
    done = 0
    for value in order:
        # a value goes where its middle row falls
        middle = (done + len(groups[value]) / 2) / len(rows)
        found[next((n for n, end in zip(names, ends, strict=True) if middle < end), names[-1])] += groups[value]
        done += len(groups[value])
    empty = next((name for name in names if not found[name]), None)
    if empty is not None:
        raise SplitError(
            f"split {empty!r} would be empty: {len(groups)} values of {column!r} are too few for these shares; change them"
        )
    return found
