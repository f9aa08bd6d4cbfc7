"""Data sets of the Hugging Face hub, of a folder laid out like one, or of Dataset.save_to_disk, through the datasets library.

Written as `hub:OWNER/NAME[/FOLDER][:SUBSET][@REVISION][#SPLIT]`; the split is `train` unless given, and may be a slice such as
`train[:1000]`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainers.common import DataError, Row

HUB = "hub:"
_REFERENCE = re.compile(
    r"(?P<name>[\w.-]+/[\w.-]+)(?:/(?P<folder>[\w./-]+))?(?::(?P<subset>[^@#]+))?(?:@(?P<revision>[^#]+))?(?:#(?P<split>.+))?"
)


@dataclass(frozen=True)
class HubData:
    """A data set: `name` is owner/name, or the path of a folder."""

    name: str
    folder: str | None = None
    subset: str | None = None
    revision: str | None = None
    split: str = "train"

    def __str__(self) -> str:
        """As it is written in a matrix file, or, for a folder, its path and split."""
        start = self.name if Path(self.name).is_dir() else HUB + self.name
        parts = [("/", self.folder), (":", self.subset), ("@", self.revision), ("#", self.split)]
        return start + "".join(mark + part for mark, part in parts if part)


def parse_hub(text: str) -> HubData:
    """The data set that `hub:...` names.

    Raises:
        DataError: not of that form.
    """
    match = _REFERENCE.fullmatch(text.removeprefix(HUB))
    if match is None:
        raise DataError(
            f"{text}: write hub:OWNER/NAME, then if needed /FOLDER, :SUBSET, @REVISION and #SPLIT, in this order"
        )
    return HubData(**{key: part for key, part in match.groupdict().items() if part is not None})


def hub_rows(data: HubData, streaming: bool = False) -> Iterator[Row]:
    """The rows of a data set; their line is their number.

    Args:
        streaming: fetch rows one by one and cache nothing, instead of the whole split first.

    Raises:
        DataError: no such data set, revision, subset or split, or it is not cached and the hub is out of reach.
    """
    import datasets

    datasets.disable_progress_bars()
    if streaming and "[" in data.split:
        raise DataError(f"{data}: a stream has no slices; name the split alone, and set a limit")
    try:
        rows = _saved(data)
        if rows is None:
            rows = datasets.load_dataset(
                data.name,
                name=data.subset,
                data_dir=data.folder,
                revision=data.revision,
                split=data.split,
                streaming=streaming,
            )
        for number, value in enumerate(rows, start=1):
            yield Row(value, str(data), number)
    except DataError:
        raise
    except Exception as error:  # any failure becomes one line for the user
        raise DataError(f"{data}: {_reason(error)}") from None


def _saved(data: HubData) -> Any:
    """The rows of a folder that save_to_disk wrote, of one data set or of several splits; None for any other.

    Raises:
        DataError: it has no such split.
    """
    import datasets

    folder = Path(data.name)
    several = folder / "dataset_dict.json"
    if not several.is_file() and not (folder / "state.json").is_file():
        return None
    saved = datasets.load_from_disk(str(folder))
    splits = dict(saved) if several.is_file() else {str(saved.split or "train"): saved}
    if data.split not in splits and (len(splits) > 1 or data.split != "train"):
        raise DataError(f"{data}: saved there: {', '.join(splits)}; choose one with #SPLIT (it has no slices)")
    return splits.get(data.split, next(iter(splits.values())))


def _reason(error: Exception) -> str:
    first = (str(error).splitlines() or [""])[0].rstrip(".")
    kind = type(error).__name__
    if isinstance(error, ConnectionError) or "offline" in first.lower():
        return (
            f"not in the local cache, and the hub cannot be reached ({kind}); fetch it where there is a network with "
            "hf download --repo-type dataset, and give the folder"
        )
    if kind in ("DatasetNotFoundError", "RepositoryNotFoundError"):
        return f"the hub has no such data set or revision ({first}); check the name, or set HF_TOKEN if it is private"
    return f"cannot be loaded ({kind}: {first}); check subset, revision and split"
