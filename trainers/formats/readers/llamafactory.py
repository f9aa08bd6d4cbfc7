"""Entries of LLaMA-Factory's dataset_info.json: where the rows are, which format they have, which columns and tags.

A column that the entry's `columns` leaves out is not read, as in LLaMA-Factory; without `columns` the defaults hold.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from trainers.common import DataError, Json, Row, Turns, nearest, read_rows, refuse
from trainers.formats.readers.alpaca import AlpacaColumns, alpaca, asked
from trainers.formats.readers.hub import HubData, hub_rows
from trainers.formats.readers.sharegpt import OPENAI, ShareGptColumns, Tags, conversation, sharegpt
from trainers.formats.registry import Format, Stream, Values

DATASET_INFO = "dataset_info.json"
_KEYS = {
    *("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name", "file_name", "formatting", "ranking"),
    *("subset", "split", "folder", "num_samples", "revision", "columns", "tags"),
}
_ALPACA = {"prompt", "query", "response", "history", "system", "chosen", "rejected", "kto_tag"}
_SHAREGPT = {"messages", "system", "chosen", "rejected", "kto_tag"}
_TAGS = {"role_tag", "content_tag", "user_tag", "assistant_tag", "observation_tag", "function_tag", "system_tag"}
_MEDIA = ("images", "videos", "audios")


def read_entry(path: Path, name: str | None, prompts: bool = False, lazily: bool = True) -> Stream:
    """The entry `name` of a dataset_info.json (which may be left out where only one holds preferences).

    With `prompts` only the prompts are wanted, and it need not hold preferences; `lazily` as in `hub_rows`.

    Raises:
        DataError: no such file or entry, no preference data, a wrong value, or a source that is not supported.
    """
    info = _read(path)
    if name is None:
        known = [key for key, value in info.items() if isinstance(value, dict) and _prefers(value)]
        if len(known) != 1:
            raise DataError(f"{path}: say which data set: {path}#NAME; with preferences: {', '.join(known) or 'none'}")
        name = known[0]
    where = f"{path}#{name}"
    entry: Any = info.get(name)
    hint = nearest(name, info, f"known: {', '.join(list(info)[:20])}")
    refuse(
        DataError,
        (name not in info, f"{where}: no data set {name!r}; {hint}"),
        (
            not isinstance(entry, dict),
            f"{where}: a data set is described by an object, not {type(entry).__name__}",
        ),
        (
            isinstance(entry, dict) and not prompts and not _prefers(entry),
            f'{where}: no preference data; set "ranking": true for chosen and rejected answers, or name the column of the '
            'label as "kto_tag" in "columns"',
        ),
    )
    columns, tags = _texts(entry, "columns", where), _texts(entry, "tags", where)
    limit = entry.get("num_samples")
    refuse(
        DataError,
        *(
            (
                columns.get(key),
                f"{where}: columns.{key} is set, but only text is trained here; choose another data set",
            )
            for key in _MEDIA
        ),
        (
            limit is not None and (type(limit) is not int or limit < 1),
            f"{where}: num_samples is {limit!r}; it must be a whole number of at least 1",
        ),
        *(
            (not isinstance(entry.get(key), str | None), f"{where}: {key} is {entry.get(key)!r}; it must be a text")
            for key in ("subset", "split", "folder", "revision")
        ),
    )
    notes = [f"{where}: key {key!r} is not one of LLaMA-Factory's and was ignored" for key in entry if key not in _KEYS]
    form, turns_of = _format(entry, columns, tags, where, notes)
    return Stream(name, where, _rows(entry, path, where, lazily), form, limit, notes, turns_of)


def _read(path: Path) -> Json:
    try:
        info = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError:
        raise DataError(f"{path}: no such file; give the path of a {DATASET_INFO}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8 text; re-save it as UTF-8") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not valid JSON ({error.msg}); check brackets and commas") from None
    if not isinstance(info, dict):
        raise DataError(f"{path}:1: a {DATASET_INFO} is an object of data sets by name")
    return info


def _prefers(entry: Json) -> bool:
    columns = entry.get("columns")
    return entry.get("ranking") is True or (isinstance(columns, dict) and bool(columns.get("kto_tag")))


def _texts(entry: Json, key: str, where: str) -> dict[str, str]:
    value = entry.get(key) or {}
    if not isinstance(value, dict) or not all(isinstance(part, str | None) for part in value.values()):
        raise DataError(f'{where}: {key} must be an object of texts, such as {{"chosen": "chosen"}}')
    return {name: part for name, part in value.items() if part is not None}


def _format(
    entry: Json, columns: dict[str, str], tags: dict[str, str], where: str, notes: list[str]
) -> tuple[Format, Callable[[Values, str], Turns]]:
    formatting = entry.get("formatting", "alpaca")
    known = _ALPACA if formatting == "alpaca" else _SHAREGPT
    given = (("columns", columns, known | {"tools", *_MEDIA}), ("tags", tags, _TAGS))
    refuse(
        DataError,
        (
            formatting not in ("alpaca", "sharegpt", "openai"),
            f"{where}: formatting is {formatting!r}; it must be alpaca, sharegpt or openai",
        ),
        *(
            (key not in allowed, f"{where}: unknown key {name}.{key}; {nearest(key, allowed)}")
            for name, found, allowed in given
            for key in found
        ),
    )
    if "tools" in columns:
        notes.append(f"{where}: the column of tools ({columns['tools']}) is not shown to the model")
    used = {key: value for key, value in columns.items() if key in known}
    if formatting == "alpaca":
        # LLaMA-Factory reads neither system nor history unless they are named.
        absent: Json = {"system": None, "history": None}
        if columns:
            absent |= {"prompt": None, "query": None, "response": None}
        alpaca_columns = AlpacaColumns(**(absent | used))
        return alpaca(alpaca_columns), lambda row, at: asked(row, at, alpaca_columns)
    base = OPENAI if formatting == "openai" else Tags()
    spoken = {key: tags.get(key, getattr(base, key)) for key in _TAGS}
    absent = {"system": None}
    shared, named = ShareGptColumns(**(absent | used)), Tags(**spoken)
    return sharegpt(shared, named), lambda row, at: conversation(row, at, shared, named)


def _rows(entry: Json, path: Path, where: str, lazily: bool) -> Iterator[Row]:
    """The rows of the entry's data set of the hub, or of its file or folder, which is relative to dataset_info.json."""
    hub, file = entry.get("hf_hub_url"), entry.get("file_name")
    subset, folder, split = entry.get("subset"), entry.get("folder"), entry.get("split") or "train"
    if isinstance(hub, str) and hub:
        return hub_rows(HubData(hub, folder, subset, entry.get("revision"), split), lazily)
    refuse(
        DataError,
        *(
            (
                entry.get(key),
                f"{where}: {key} is not supported; give hf_hub_url, or download the data and give file_name",
            )
            for key in ("ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")
        ),
        (
            not isinstance(file, str) or not file,
            f"{where}: missing file_name or hf_hub_url; one of them says where the rows are",
        ),
    )
    place = path.parent / str(file)
    if place.is_dir():
        return hub_rows(HubData(str(place / (folder or "")), subset=subset, split=split), lazily)
    return read_rows(place)
