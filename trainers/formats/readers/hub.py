"""Data sets of the Hugging Face hub, or of a folder laid out like one, through datasets.load_dataset.

Written as `hub:OWNER/NAME[/FOLDER][:SUBSET][@REVISION][#SPLIT]`; the split is `train` unless given, and may be a slice such as
`train[:1000]`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trainers.common.turns import DataError
from trainers.formats.rows import Row

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
    except Exception as error:  # any failure becomes one line for the user
        raise DataError(f"{data}: {_reason(error)}") from None


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
