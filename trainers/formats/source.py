"""What a data source stands for: a file, a folder, a data set of the hub, an entry of a dataset_info.json."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from trainers.data import DataError
from trainers.formats.hub import HUB, HubData, hub_rows, parse_hub
from trainers.formats.llamafactory import DATASET_INFO, read_entry
from trainers.formats.registry import Format, detect
from trainers.formats.rows import Row, read_rows


@dataclass(frozen=True)
class Opened:
    """All rows of a source with the format they are in.

    Attributes:
        name: short, for ids and tables.
        limit: `num_samples` of LLaMA-Factory.
        notes: what was passed over.
    """

    name: str
    rows: list[Row]
    form: Format
    limit: int | None = None
    notes: list[str] = field(default_factory=list)


def split_reference(text: str, base: Path) -> tuple[Path, str | None]:
    """(path, part after '#') of a local source; a '#' that belongs to the name of an existing file stays there."""
    path = base / Path(text).expanduser()
    if path.exists() or "#" not in text:
        return path, None
    start, _, fragment = text.rpartition("#")
    return base / Path(start).expanduser(), fragment


def open_source(text: str, base: Path = Path()) -> Opened:
    """Read every row of a source.

    Args:
        text: a path, `folder#split`, `dataset_info.json#name` or `hub:owner/name@revision#split`.
        base: the folder that paths are relative to.

    Raises:
        DataError: it cannot be read, has no rows, or is in no known format.
    """
    if text.startswith(HUB):
        data = parse_hub(text)
        return _detected(data.name, str(data), list(hub_rows(data)))
    path, fragment = split_reference(text, base)
    if path.is_dir() and (path / DATASET_INFO).is_file() and not (path / "state.json").is_file():
        path = path / DATASET_INFO
    if path.name == DATASET_INFO:
        return _from_entry(path, fragment)
    if path.is_dir():
        data = HubData(str(path), split=fragment or "train")
        return _detected(path.name, str(path), list(hub_rows(data)))
    if fragment is not None:
        raise DataError(
            f"{text}: '#' chooses from a folder or a {DATASET_INFO}, and {path} is neither; remove #{fragment}"
        )
    return _detected(_stem(path), str(path), list(read_rows(path)))


def _stem(path: Path) -> str:
    return path.name.split(".")[0] or path.name


def _detected(name: str, shown: str, rows: list[Row]) -> Opened:
    if not rows:
        raise DataError(f"{shown}: no rows; a preference file needs at least one pair")
    return Opened(name, rows, detect(rows))


def _from_entry(path: Path, name: str | None) -> Opened:
    entry = read_entry(path, name)
    if entry.hub is not None:
        rows = list(hub_rows(HubData(entry.hub, entry.folder, entry.subset, entry.revision, entry.split)))
    elif entry.file is not None and entry.file.is_dir():
        folder = entry.file / entry.folder if entry.folder else entry.file
        rows = list(hub_rows(HubData(str(folder), subset=entry.subset, split=entry.split)))
    else:
        assert entry.file is not None
        rows = list(read_rows(entry.file))
    if not rows:
        raise DataError(f"{path}#{entry.name}: no rows; a preference file needs at least one pair")
    return Opened(entry.name, rows, entry.form, entry.num_samples, entry.notes)
