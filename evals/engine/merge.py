"""Adapters of checkpoints merged into the base model for as long as they are served."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def merge(base: Path, adapter: Path, target: Path, dtype: str, trust_remote_code: bool = False) -> None:
    """Write the base model with a LoRA adapter merged into it, by one rename; `dtype` is that of the merged weights.

    Raises:
        FileNotFoundError: no adapter there.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    if not (adapter / "adapter_config.json").is_file():
        raise FileNotFoundError(f"{adapter} holds no adapter (adapter_config.json); retrain the run")
    model = AutoModelForCausalLM.from_pretrained(base, dtype=getattr(torch, dtype), trust_remote_code=trust_remote_code)
    staging = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(staging, ignore_errors=True)
    PeftModel.from_pretrained(model, str(adapter)).merge_and_unload().save_pretrained(staging)
    staging.rename(target)


@contextmanager
def served_weights(policy: Mapping[str, Any]) -> Iterator[Path]:
    """The directory of a policy's weights; those of an entry with `merge` are made first and removed afterwards.

    Args:
        policy: entry of the job: `path`, and where only an adapter was kept, `adapter` (its folder) and `merge` (`base`,
            `dtype`, `trust_remote_code`).
    """
    path, how = Path(policy["path"]), policy.get("merge")
    if how is None:
        yield path
        return
    shutil.rmtree(path, ignore_errors=True)  # left by a process that was killed, perhaps while it removed this
    merge(Path(how["base"]), Path(policy["adapter"]), path, how["dtype"], how["trust_remote_code"])
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
