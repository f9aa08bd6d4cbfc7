"""model.adapter, model.chat_template and model.quantization: the checkpoint a matrix really starts from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.checks.settings import check_attention, check_quantization
from harness.config import MatrixConfig, ModelConfig, Source
from harness.plan.model_hash import model_hash
from harness.plan.references import ResolvedModel, download, is_hub_id, resolve_model
from trainers.common import Json, UserError, cache_dir, file_hash, fingerprint, read_json


def starting_model(
    config: MatrixConfig, source: Source, model: ResolvedModel, log: Callable[[str], None]
) -> ResolvedModel:
    """`model` with the adapter merged in and the chat template put in place, kept by content in the user's cache directory.

    Raises:
        UserError: no such adapter or template, or they do not fit; quantised weights without bitsandbytes, or
            attention that needs a GPU.
    """
    settings = config.model
    check_quantization(config, source)
    check_attention(config, source, log)
    if settings.adapter is not None or settings.chat_template is not None:
        model = ResolvedModel(model.name, _prepared(settings, source, model, log))
    if not has_template(model.path):
        log(f"{model.name} has no chat template, and pairs are conversations: give model.chat_template (a Jinja file)")
    return model


def reference_model(
    config: MatrixConfig, source: Source, start: ResolvedModel, log: Callable[[str], None]
) -> ResolvedModel | None:
    """The model that `model.reference` names, or None where the reference is the start.

    Raises:
        UserError: no such model, or its tokens are not those of the start.
    """
    name = config.model.reference
    if name is None:
        return None
    named = config.model.model_copy(update={"name_or_path": name, "revision": config.model.reference_revision})
    found = resolve_model(named, source.where(("model", "reference")), log, source.path.parent, "model.reference")
    if _vocabulary(found.path) != _vocabulary(start.path):
        raise UserError(
            f"{source.at('model', 'reference')} is {name!r}, whose tokens are not those of {start.name}; policy and reference "
            "must share a vocabulary: name a model trained from the same one"
        )
    return found


def _vocabulary(directory: Path) -> Json:
    """Token ids by text, from tokenizer.json; without one, its other files stand for it."""
    tokenizer = read_json(directory / "tokenizer.json")
    if isinstance(tokenizer, dict):
        added = {one["content"]: one["id"] for one in tokenizer.get("added_tokens", [])}
        return {"vocabulary": (tokenizer.get("model") or {}).get("vocab"), "added": added}
    return {path.name: file_hash(path) for path in sorted(directory.glob("tokenizer.model"))}


def _prepared(settings: ModelConfig, source: Source, model: ResolvedModel, log: Callable[[str], None]) -> Path:
    from trainers.common.adapters import AdapterError
    from trainers.models.starting import StartError, prepare_start

    adapter = _adapter(settings, source, log) if settings.adapter is not None else None
    template = _template(settings, source) if settings.chat_template is not None else None
    parts = {path.name: file_hash(path) for path in sorted(adapter.glob("adapter_*"))} if adapter is not None else None
    dtype = settings.dtype if adapter is not None else None
    key = fingerprint({"base": model_hash(model.path), "adapter": parts, "template": template, "dtype": dtype})
    target = cache_dir() / "starts" / key[:16]
    if adapter is not None and not target.is_dir():
        log(f"merging the adapter {settings.adapter} into {model.name} (once); the reference has it too")
    try:
        return prepare_start(model.path, target, adapter, template, settings.dtype, settings.trust_remote_code)
    except (AdapterError, StartError) as error:
        key = "adapter" if adapter is not None and "adapter" in str(error) else "chat_template"
        raise UserError(f"{source.at('model', key)} is {getattr(settings, key)!r}; {error}") from None


def has_template(directory: Path) -> bool:
    """Whether the tokenizer of a checkpoint knows how a conversation is written."""
    if any(directory.glob("chat_template*")):
        return True
    found = read_json(directory / "tokenizer_config.json")
    return isinstance(found, dict) and bool(found.get("chat_template"))


def _adapter(settings: ModelConfig, source: Source, log: Callable[[str], None]) -> Path:
    where, name = source.where(("model", "adapter")), str(settings.adapter)
    path = source.path.parent / Path(name).expanduser()
    if not path.is_dir() and not is_hub_id(name):
        raise UserError(
            f"{where}: model.adapter is {name!r}; no such directory: {path} (paths are relative to the matrix file)"
        )
    if not path.is_dir():
        path = download(ModelConfig(name_or_path=name, revision=settings.adapter_revision), where, log)
    for needed in ("adapter_config.json", "adapter_model.safetensors"):
        if not (path / needed).is_file():
            raise UserError(
                f"{where}: model.adapter is {name!r}; {path} has no {needed}; give an adapter as PEFT saves it"
            )
    return path


def _template(settings: ModelConfig, source: Source) -> str:
    where, path = source.where(("model", "chat_template")), source.path.parent / str(settings.chat_template)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise UserError(
            f"{where}: model.chat_template is {settings.chat_template!r}; no text file: {path} (paths are relative to the "
            "matrix file)"
        ) from None
