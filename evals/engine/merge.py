"""Adapters of checkpoints merged into the base model for as long as they are served."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainers.common.adapters import write_merged


def merge(base: Path, adapter: Path, target: Path, dtype: str, trust_remote_code: bool = False) -> None:
    """Write the base model with a LoRA adapter merged into it, by one rename; `dtype` is that of the merged weights.

    Raises:
        FileNotFoundError: no adapter there.
        trainers.common.adapters.AdapterError: it belongs to another model.
    """
    staging = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(staging, ignore_errors=True)
    write_merged(base, adapter, staging, dtype, trust_remote_code)
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
