"""What names in a matrix file stand for: `embedded:...`, local paths, hub ids; and what identifies a model."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import trainers
from harness.config import ModelConfig, refuse
from trainers.common import UserError, cache_dir, file_hash, fingerprint, nearest, read_json, write_json
from trainers.formats.readers.hub import HUB
from trainers.formats.source import split_reference
from trainers.models.embedded import EmbeddedModelError, is_prepared, prepare_model, target_dir

#: Raise when a change of `trainers` changes the numbers of a run, so that runs are trained again.
TRAIN_VERSION = 2
EMBEDDED = "embedded:"
#: Packaged data by `set/split`, relative to the trainers package's data folder.
DATA = {
    "constraint-pairs/train": "constraint_pairs/train.jsonl",
    "constraint-pairs/heldout": "constraint_pairs/heldout.jsonl",
    "constraint-pairs/benchmark": "constraint_pairs/benchmark_prompts.jsonl",
    **{f"sentiment/{split}": f"sentiment/{split}.jsonl" for split in ("train", "dev", "test")},
    **{f"sentiment/{split}-prompts": f"sentiment/{split}_prompts.jsonl" for split in ("dev", "test")},
    "sentiment/prompts": "sentiment/prompts.jsonl",
}


def data_path(reference: str, base: Path, where: str, key: str) -> Path:
    """The file a data reference stands for: packaged data, or a path relative to `base` (the matrix file's folder).

    Raises:
        UserError: an unknown embedded name or a missing file.
    """
    if reference.startswith(EMBEDDED):
        name = reference.removeprefix(EMBEDDED)
        refuse((name not in DATA, f"{where}: {key} is {reference!r}; no such embedded data; {nearest(name, DATA)}"))
        return Path(trainers.__path__[0]) / "data" / DATA[name]
    path = base / Path(reference).expanduser()
    if not path.is_file():
        raise UserError(
            f"{where}: {key} is {reference!r}; no such file: {path} (paths are relative to the matrix file)"
        )
    return path


def data_source(reference: str, base: Path, where: str, key: str) -> str:
    """A source for `trainers.formats`: as it is for the hub, else with an absolute path.

    Raises:
        UserError: an unknown embedded name, or no such file or folder.
    """
    if reference.startswith(HUB):
        return reference
    if reference.startswith(EMBEDDED):
        return str(data_path(reference, base, where, key))
    path, part = split_reference(reference, base)
    if not path.exists():
        hint = f"; a data set of the hub is written hub:{reference}" if is_hub_id(reference) and not path.suffix else ""
        raise UserError(
            f"{where}: {key} is {reference!r}; no such file: {path} (paths are relative to the matrix file){hint}"
        )
    return str(path) + (f"#{part}" if part is not None else "")


@dataclass(frozen=True)
class ResolvedModel:
    """A checkpoint on this machine and the name it goes by. `template_date`: the day its chat template writes."""

    name: str
    path: Path
    template_date: str | None = None


def resolve_model(
    model: ModelConfig, where: str, log: Callable[[str], None], beside: Path = Path(), key: str = "model.name_or_path"
) -> ResolvedModel:
    """Find, prepare or download the model.

    Args:
        key: what messages call its name.
        beside: the matrix file's folder; a directory is looked for in the working directory first, then there.
        key: of the matrix file, that names it.

    Raises:
        UserError: unknown, without weights or tokenizer, or not to be had.
    """
    name = model.name_or_path
    if name.startswith(EMBEDDED):
        short = name.removeprefix(EMBEDDED)
        try:
            if not is_prepared(target_dir(short)):
                log(f"preparing {name} (once)")
            return ResolvedModel(name, prepare_model(short))
        except EmbeddedModelError as error:
            raise UserError(f"{where}: {key}: {error}") from None
    path = next((path for path in (Path(name).expanduser(), beside / name) if path.is_dir()), None)
    if path is None and not is_hub_id(name):
        raise UserError(
            f"{where}: {key} is {name!r}; no such directory; give a checkpoint directory, "
            "a hub id (owner/name) or embedded:smollm2-135m-instruct"
        )
    # absolute: workers may run in another directory
    path = path.absolute() if path is not None else download(model, where, log)
    tokenizer = [path / name for name in ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")]
    refuse(
        (
            not (path / "config.json").is_file(),
            f"{where}: {path} has no config.json; give a checkpoint directory as save_pretrained writes it",
        ),
        (
            not any(path.glob("*.safetensors")),
            f"{where}: {path} has no weights (*.safetensors); save the model with save_pretrained",
        ),
        (
            not any(file.is_file() for file in tokenizer),
            f"{where}: {path} has no tokenizer; save it there with tokenizer.save_pretrained",
        ),
    )
    return ResolvedModel(name, path)


def is_hub_id(name: str) -> bool:
    """Whether a name may be `owner/name` on the hub, and is not written as a path."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))


def download(model: ModelConfig, where: str, log: Callable[[str], None]) -> Path:
    """The files of a hub repository, from its cache where they are there.

    Raises:
        UserError: no such repository, or it is out of reach.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    log(f"loading {model.name_or_path} from the hub or its cache")
    patterns = ["*.safetensors", "*.json", "*.jinja", "tokenizer*", "vocab*", "merges*", "*.model"]
    if model.trust_remote_code:
        patterns.append("*.py")
    try:
        return Path(snapshot_download(model.name_or_path, revision=model.revision, allow_patterns=patterns))
    except RepositoryNotFoundError:
        raise UserError(
            f"{where}: the hub has no model {model.name_or_path!r} (or it needs a token in HF_TOKEN)"
        ) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise UserError(
            f"{where}: {model.name_or_path} is not in the local cache and the hub cannot be reached "
            f"({type(error).__name__}); download it first, or give a local directory"
        ) from None


def model_hash(directory: Path) -> str:
    """Identity of a checkpoint: weights, configuration, tokenizer and chat template, wherever it lies.

    Hashes of large files are remembered in the user's cache directory by path, size and modification time.
    """
    store = cache_dir() / "file-hashes.json"
    known: dict[str, str] = {}
    with contextlib.suppress(OSError):  # only a cache
        known = read_json(store) or {}
    patterns = ("*.safetensors", "config.json", "generation_config.json", "tokenizer*", "*.jinja", "vocab*", "merges*")
    files = {path for pattern in patterns for path in Path(directory).glob(pattern) if path.is_file()}
    keys = {path: f"{path.resolve()}|{path.stat().st_size}|{path.stat().st_mtime_ns}" for path in sorted(files)}
    found = {path: known.get(key) or file_hash(path) for path, key in keys.items()}
    if not known.keys() >= set(keys.values()):
        write_json(store, known | {keys[path]: sha for path, sha in found.items()})
    return fingerprint({path.name: sha for path, sha in found.items()})
