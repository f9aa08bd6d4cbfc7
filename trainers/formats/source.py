"""Data sources: a file, a folder, a data set of the hub, or an entry of a dataset_info.json; and the format their rows are in."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from trainers.common import DataError, Row, not_an_object, read_rows
from trainers.formats.readers.alpaca import ALPACA
from trainers.formats.readers.hh_rlhf import HH_RLHF
from trainers.formats.readers.hub import HUB, HubData, hub_rows, parse_hub
from trainers.formats.readers.kto import KTO
from trainers.formats.readers.llamafactory import DATASET_INFO, read_entry
from trainers.formats.readers.sharegpt import MESSAGES, SHAREGPT
from trainers.formats.readers.trl import TRL
from trainers.formats.readers.ultrafeedback import BINARIZED, SCORED
from trainers.formats.readers.vendors import VENDORS
from trainers.formats.registry import Format, Stream, Values, one_answer_only


def split_reference(text: str, base: Path) -> tuple[Path, str | None]:
    """(path, part after '#') of a local source; a '#' that belongs to the name of an existing file stays there."""
    path = base / Path(text).expanduser()
    if path.exists() or "#" not in text:
        return path, None
    start, _, fragment = text.rpartition("#")
    return base / Path(start).expanduser(), fragment


def open_stream(text: str, base: Path = Path(), lazily: bool = True, prompts: bool = False) -> Stream:
    """A source whose rows are read one by one.

    Args:
        text: a path, `folder#split`, `dataset_info.json#name` or `hub:owner/name@revision#split`.
        base: the folder that paths are relative to.
        lazily: fetch data sets of the hub row by row too, instead of the whole split first.
        prompts: only the prompts are wanted, so an entry of a dataset_info.json need not hold preferences.

    Raises:
        DataError: there is no such source.
    """
    stream = _open(text, base, lazily, prompts)
    return replace(stream, rows=map(Row.present, stream.rows))


def _open(text: str, base: Path, lazily: bool, prompts: bool) -> Stream:
    if text.startswith(HUB):
        data = parse_hub(text)
        return Stream(data.name, str(data), hub_rows(data, lazily))
    path, fragment = split_reference(text, base)
    if path.is_dir() and (path / DATASET_INFO).is_file() and not (path / "state.json").is_file():
        path = path / DATASET_INFO
    if path.name == DATASET_INFO:
        return read_entry(path, fragment, prompts, lazily)
    if path.is_dir():
        return Stream(path.name, str(path), hub_rows(HubData(str(path), split=fragment or "train"), lazily))
    if fragment is not None:
        raise DataError(
            f"{text}: '#' chooses from a folder or a {DATASET_INFO}, and {path} is neither; remove #{fragment}"
        )
    return Stream(path.name.split(".")[0] or path.name, str(path), read_rows(path))


#: The more specific first: where several formats match a row, the first one reads it.
FORMATS: tuple[Format, ...] = (
    *(HH_RLHF, SCORED, BINARIZED, KTO, SHAREGPT, MESSAGES, *VENDORS, ALPACA),
    *TRL,
)
#: Rows looked at to recognise a format.
_SAMPLE = 100


def format_of(stream: Stream, rows: Sequence[Row]) -> Format:
    """The format of a source's rows: its own, or what the first of them show.

    Raises:
        DataError: there are none, or they are in no known format.
    """
    if not rows:
        raise DataError(f"{stream.shown}: no rows; a preference file needs at least one pair")
    return stream.form or detect(rows)


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
        f"no known format of preference data (keys: {keys}); rename the keys, or (where prompt and answers are columns of text) "
        f"say which is which in a dataset_info.json; known formats: {known}"
    )
