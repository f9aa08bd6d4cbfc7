"""The data of a TRL configuration or of a recipe of alignment-handbook and its copies, as a matrix file's `data`."""

import itertools
import os
from pathlib import Path

from harness.imports.draft import Keys, take_share
from trainers.common import Json, UserError

_FIRST = "the first rows there, a draw by data.seed here: the same share, other pairs"
_DRAWN = "drawn by data.seed here: the same share, other pairs"


def take_data(keys: Keys, target: Path) -> Json:
    """The section `data`.

    Args:
        target: where the matrix file will lie; sources are written relative to it.

    Raises:
        UserError: no data are named, or not in one of the forms that are known.
    """
    name, config = keys.read("dataset_name", str), keys.read("dataset_config", str)
    train, test = keys.read("dataset_train_split", str, "train"), keys.read("dataset_test_split", str, "test")
    listed, mixture, mixer = keys.take("datasets"), keys.take("dataset_mixture"), keys.take("dataset_mixer")
    named = {"datasets": listed, "dataset_mixture": mixture, "dataset_mixer": mixer}
    held = next((key for key, value in named.items() if value is not None), None)
    if held is not None and name is not None:
        keys.note("dataset_name", name, f"{held} holds")
    data: Json = {}
    if listed is not None:
        if not isinstance(listed, list) or not all(isinstance(one, dict) and "path" in one for one in listed):
            raise UserError(f"{keys.where('datasets')}: datasets must be a list of mappings, each with a path")
        data["train"] = [{"source": source} for one in listed for source in _parts(one, keys, target)]
    elif mixture is not None:
        data["train"] = _mixture(mixture, keys, target)
    elif mixer is not None:
        data |= _mixer(mixer, keys, target)
    elif name is not None:
        data["train"] = _place(name, config, train, keys, target)
        if keys.source.value.get("dataset_test_split") or keys.source.value.get("eval_strategy", "no") != "no":
            data["heldout"] = _place(name, config, test, keys, target)
    else:
        raise UserError(
            f"{keys.source.path}: no data are named; add dataset_name, datasets, or dataset_mixture or dataset_mixer of "
            "alignment-handbook"
        )
    take_share(keys, "test_split_size", data)
    return data


def _part(source: str, share: object, key: str, name: str, why: str, keys: Keys) -> Json:
    """One source and the part of it that is taken.

    Raises:
        UserError: that is no part.
    """
    if share in (None, 1):
        return {"source": source}
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise UserError(f"{keys.where(key)}: {key}: a part of {share!r}; it must be a number above 0 and at most 1")
    keys.note(key, name, why)
    return {"source": source, "share": share}


def _mixture(mixture: Json, keys: Keys, target: Path) -> list[Json]:
    """`dataset_mixture` of alignment-handbook after 0.3: data sets, a split of each and the part of it taken."""
    listed = mixture.get("datasets") if isinstance(mixture, dict) else None
    if not isinstance(listed, list) or not all(isinstance(one, dict) and "id" in one for one in listed) or not listed:
        raise UserError(
            f"{keys.where('dataset_mixture')}: dataset_mixture must hold datasets, a list of mappings with an id"
        )
    parts = []
    for one in listed:
        place = _place(str(one["id"]), one.get("config"), str(one.get("split") or "train"), keys, target)
        share = one.get("weight")
        parts.append(_part(place, share, "dataset_mixture", f"{one['id']}: weight: {share}", _DRAWN, keys))
        for key in one.keys() - {"id", "config", "split", "weight", "columns"}:
            keys.note("dataset_mixture", f"{one['id']}: {key}: {one[key]!r}", "not known here")
    if "test_split_size" in mixture:
        keys.give("test_split_size", mixture["test_split_size"], "dataset_mixture")
    return parts


def _mixer(mixer: Json, keys: Keys, target: Path) -> Json:
    """`dataset_mixer` and `dataset_splits` of alignment-handbook up to 0.3 and its copies: the part of each data set's
    training splits; splits with `test` in their name are held out whole."""
    splits = keys.read("dataset_splits", list, ["train", "test"])
    configs = keys.take("dataset_configs") or []
    if not isinstance(mixer, dict) or not mixer:
        raise UserError(f"{keys.where('dataset_mixer')}: dataset_mixer must map data sets to the part that is taken")
    data: Json = {"train": []}
    for (name, share), config in itertools.zip_longest(mixer.items(), configs[: len(mixer)]):
        for split in splits:
            place = _place(str(name), config, split, keys, target)
            if "train" in split:
                data["train"].append(_part(place, share, "dataset_mixer", f"{name}: {share}", _FIRST, keys))
            elif "heldout" not in data:
                data["heldout"] = place
            else:
                keys.note("dataset_splits", f"{name}: {split}", "one held-out source can be named; join the files")
    if not data["train"]:
        raise UserError(f"{keys.where('dataset_splits')}: dataset_splits is {splits!r}; one needs 'train' in its name")
    return data


def _parts(one: Json, keys: Keys, target: Path) -> list[str]:
    """The sources of one entry of `datasets`; a builder such as json names its files under data_files."""
    known = ("path", "name", "data_dir", "data_files", "split")
    for key in [key for key in one if key not in known and one[key] is not None]:
        keys.note("datasets", f"{one['path']}: {key}: {one[key]!r}", "every row and the columns of its format are read")
    files, folder = one.get("data_files"), one.get("data_dir")
    split = str(one.get("split") or "train")
    if one["path"] in ("json", "csv", "parquet") and files is not None:
        named = files.get(split, []) if isinstance(files, dict) else files
        return [_file(str(file), keys, target) for file in ([named] if isinstance(named, str) else named)]
    if files is not None:
        keys.note("datasets", f"{one['path']}: data_files: {files!r}", "the files of the split are read")
    path = f"{one['path']}/{folder}" if folder else str(one["path"])
    return [_place(path, one.get("name"), split, keys, target)]


def _place(name: str, config: str | None, split: str, keys: Keys, target: Path) -> str:
    """A source: a local file or folder if there is one of that name, else a hub id."""
    if not name.startswith((".", "/", "~")) and _found(name, keys) is None:
        return f"hub:{name}{f':{config}' if config else ''}#{split}"
    file = _file(name, keys, target)
    return file if Path(name).suffix else f"{file}#{split}"


def _found(name: str, keys: Keys) -> Path | None:
    places = [parent / Path(name).expanduser() for parent in (Path.cwd(), keys.source.path.resolve().parent)]
    return next((place for place in places if place.exists()), None)


def _file(name: str, keys: Keys, target: Path) -> str:
    found = _found(name, keys)
    if found is None:
        keys.remark(f"the data file {name!r} is not found from here: change data.train")
        return name
    return Path(os.path.relpath(found.resolve(), target.resolve().parent)).as_posix()
