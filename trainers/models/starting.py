"""The starting policy where it is not a plain checkpoint: a PEFT adapter merged into it, or another chat template."""

import os
import tempfile
from pathlib import Path

from trainers.common.adapters import write_merged


class StartError(ValueError):
    """A chat template that cannot be used; the message says why."""


def prepare_start(
    base: Path, target: Path, adapter: Path | None, template: str | None, dtype: str, trust_remote_code: bool = False
) -> Path:
    """Write the checkpoint a matrix starts from to `target` atomically, unless it exists.

    With `adapter` its weights are merged into those of `base`, in `dtype`: policy and reference are then the same model at
    step 0. With `template` (Jinja text) it replaces the tokenizer's template.

    Raises:
        trainers.common.adapters.AdapterError: the adapter is of another model.
        StartError: the template is not Jinja.
    """
    import jinja2
    from transformers import AutoTokenizer

    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent) as work:
        staging = Path(work) / target.name
        staging.mkdir()
        tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=trust_remote_code)
        if template is not None:
            tokenizer.chat_template = template
            question = [{"role": "user", "content": "x"}]
            try:
                tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
            except jinja2.TemplateError as error:
                raise StartError(f"the chat template cannot be used: {error}") from None
        if adapter is not None:
            write_merged(base, adapter, staging, dtype, trust_remote_code)
        else:
            _link(base, staging)
        tokenizer.save_pretrained(staging)
        staging.rename(target)
    return target


def _link(base: Path, staging: Path) -> None:
    """Every file of `base` but those of the tokenizer, without a copy of the weights."""
    for path in base.iterdir():
        if not path.is_file() or path.name.startswith("tokenizer") or path.suffix == ".jinja":
            continue
        try:
            os.link(path.resolve(), staging / path.name)
        except OSError:  # another file system
            os.symlink(path.resolve(), staging / path.name)
