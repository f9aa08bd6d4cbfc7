"""model.adapter, model.chat_template and model.quantization: the checkpoint a matrix really starts from."""

import json
import re
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from harness.checks.settings import check_attention, check_quantization
from harness.config import MatrixConfig, ModelConfig, Source, refuse
from harness.plan.references import ResolvedModel, download, is_hub_id, model_hash, resolve_model
from trainers.common import Json, UserError, cache_dir, file_hash, fingerprint, read_json

#: A template that asks for the time, and the way it does so that can be answered once and for all.
_CLOCK = re.compile(r"strftime_now\s*\(")
_ASKS = re.compile(_CLOCK.pattern + r"""\s*(["'])(.*?)\1\s*\)""")


def template_date(config: MatrixConfig, source: Source, output: Path) -> date:
    """The day that chat templates are told: that of the matrix file, else of the output's matrix.json, else today.

    Raises:
        UserError: not a date.
    """
    frozen: Any = read_json(output / "matrix.json")
    kept = frozen.get("template_date") if isinstance(frozen, dict) else None
    given = config.model.template_date or kept
    try:
        return date.fromisoformat(given) if given is not None else date.today()
    except (TypeError, ValueError):
        raise UserError(f"{source.at('model', 'template_date')} is {given!r}; write a day as YYYY-MM-DD") from None


def starting_model(
    config: MatrixConfig, source: Source, model: ResolvedModel, day: date, log: Callable[[str], None]
) -> ResolvedModel:
    """`model` with the adapter merged in and the chat template put in place, kept by content in the user's cache directory.

    A template that writes the date gets `day` for good: all runs, and their evaluation, then see the same prompts.

    Raises:
        UserError: no such adapter or template, or they do not fit; a model without any template; quantised weights without
            bitsandbytes, or attention that needs a GPU.
    """
    settings = config.model
    check_quantization(config, source)
    check_attention(config, source, log)
    own = settings.chat_template is not None
    template = _template(settings, source) if own else template_of(model.path)
    if template is None:
        raise UserError(
            f"{source.at('model', 'name_or_path')} is {model.name!r}, which has no chat template, and pairs are trained as "
            "conversations: give model.chat_template (a Jinja file)"
        )
    clock = _CLOCK.search(template) is not None
    if clock:
        template = _ASKS.sub(lambda asked: json.dumps(day.strftime(asked[2])), template)
        log(f"the chat template of {model.name} writes the date: {day} for all of this matrix (model.template_date)")
    if _CLOCK.search(template):  # a question that is not of the form strftime_now("%d %b %Y")
        raise UserError(
            f"{source.at('model', 'chat_template')}: the chat template asks for the time in a way that cannot be frozen; "
            "give one without"
        )
    if settings.adapter is None and not own and not clock:
        return model
    prepared = _prepared(settings, source, model, template if own or clock else None, log)
    return ResolvedModel(model.name, prepared, day.isoformat() if clock else None)


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
    if not isinstance(tokenizer, dict):
        return {path.name: file_hash(path) for path in directory.glob("tokenizer.model")}
    added = {one["content"]: one["id"] for one in tokenizer.get("added_tokens", [])}
    return {"vocabulary": (tokenizer.get("model") or {}).get("vocab"), "added": added}


def _prepared(
    settings: ModelConfig, source: Source, model: ResolvedModel, template: str | None, log: Callable[[str], None]
) -> Path:
    from trainers.common.adapters import AdapterError
    from trainers.models.starting import StartError, prepare_start

    adapter = _adapter(settings, source, log) if settings.adapter is not None else None
    parts = {path.name: file_hash(path) for path in adapter.glob("adapter_*")} if adapter else None
    dtype = settings.dtype if adapter else None
    key = fingerprint({"base": model_hash(model.path), "adapter": parts, "template": template, "dtype": dtype})
    target = cache_dir() / "starts" / key[:16]
    if adapter is not None and not target.is_dir():
        log(f"merging the adapter {settings.adapter} into {model.name} (once); the reference has it too")
    try:
        return prepare_start(model.path, target, adapter, template, settings.dtype, settings.trust_remote_code)
    except (AdapterError, StartError) as error:
        key = "adapter" if adapter is not None and "adapter" in str(error) else "chat_template"
        raise UserError(f"{source.at('model', key)} is {getattr(settings, key)!r}; {error}") from None


def template_of(directory: Path) -> str | None:
    """The chat template of a checkpoint's tokenizer: a file of its own, or a key of tokenizer_config.json (or of a processor)."""
    file = directory / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    for name in ("tokenizer_config.json", "chat_template.json"):
        settings: Any = read_json(directory / name)
        found = settings.get("chat_template") if isinstance(settings, dict) else None
        if isinstance(found, list):  # several by name
            found = next((one.get("template") for one in found if one.get("name") == "default"), None)
        if isinstance(found, str):
            return found
    return None


def _adapter(settings: ModelConfig, source: Source, log: Callable[[str], None]) -> Path:
    where, name = source.where(("model", "adapter")), str(settings.adapter)
    path = source.beside(name)
    if not path.is_dir():
        refuse(
            (
                not is_hub_id(name),
                f"{where}: model.adapter is {name!r}; no such directory: {path} (paths are relative to the matrix file)",
            )
        )
        path = download(ModelConfig(name_or_path=name, revision=settings.adapter_revision), where, log)
    refuse(
        *(
            (
                not (path / needed).is_file(),
                f"{where}: model.adapter is {name!r}; {path} has no {needed}; give an adapter as PEFT saves it",
            )
            for needed in ("adapter_config.json", "adapter_model.safetensors")
        )
    )
    return path


def _template(settings: ModelConfig, source: Source) -> str:
    path = source.beside(str(settings.chat_template))
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise UserError(
            f"{source.at('model', 'chat_template')} is {settings.chat_template!r}; no text file: {path} (paths are relative to "
            "the matrix file)"
        ) from None
