"""Adapters of checkpoints merged into the base model for as long as they are served."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from evals.job import Policy
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
def served_weights(policy: Policy) -> Iterator[Path]:
    """A policy's folder of weights, which is there while the block runs; those of an entry with `merge` are made for it."""
    path, how = policy.path, policy.merge
    if how is None or policy.adapter is None:
        yield path
        return
    shutil.rmtree(path, ignore_errors=True)  # left by a process that was killed, perhaps while it removed this
    merge(how.base, policy.adapter, path, how.dtype, how.trust_remote_code)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
