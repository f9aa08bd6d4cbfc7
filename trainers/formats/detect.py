"""Which format rows of preference data are in."""

from __future__ import annotations

from collections.abc import Sequence

from trainers.common.turns import DataError
from trainers.formats.readers.alpaca import ALPACA
from trainers.formats.readers.hh_rlhf import HH_RLHF
from trainers.formats.readers.kto import KTO
from trainers.formats.readers.sharegpt import MESSAGES, SHAREGPT
from trainers.formats.readers.trl import TRL
from trainers.formats.readers.ultrafeedback import BINARIZED, SCORED
from trainers.formats.registry import Format, Values, one_answer_only
from trainers.formats.rows import Row, not_an_object

#: The more specific first: where several formats match a row, the first one reads it.
FORMATS: tuple[Format, ...] = (HH_RLHF, SCORED, BINARIZED, KTO, SHAREGPT, MESSAGES, ALPACA, *TRL)
#: Rows looked at to recognise a format.
_SAMPLE = 100


def detect(rows: Sequence[Row]) -> Format:
    """The format that recognises most of the first rows.

    Raises:
        DataError: none recognises any.
    """
    sample = [row.value for row in rows[:_SAMPLE] if isinstance(row.value, dict)]
    counts = {form.name: sum(map(form.matches, sample)) for form in FORMATS}
    best = max(FORMATS, key=lambda form: counts[form.name])
    if counts[best.name]:
        return best
    first = rows[0]
    if not sample:
        raise not_an_object(first, "prompt, chosen and rejected")
    row = next(row for row in rows if isinstance(row.value, dict))
    raise DataError(f"{row.where}: {_unknown(row.value)}")


def _unknown(row: Values) -> str:
    keys = ", ".join(map(str, row)) or "none"
    if isinstance(row.get("prompt"), str | list) and "completion" in row:
        return f"a prompt and a completion but no label (keys: {keys}); {one_answer_only('this row')}"
    known = "; ".join(f"{form.name}: {form.keys}" for form in FORMATS)
    return (
        f"no known format of preference data (keys: {keys}); rename the keys, or say which column is which in a "
        f"dataset_info.json; known formats: {known}"
    )
