"""Versions and hardware a run was started under, against those it resumes under."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harness.state.records import Environment
from harness.state.store import RunStore, read_run, write_run
from trainers.common import now
from trainers.common.training_schema import CHECKPOINTS


def differences(recorded: Environment, current: Environment) -> list[str]:
    """What differs of the parts that are set in `current`, as `torch 2.12.0 -> 2.13.0`; empty if nothing does."""
    found: list[str] = []
    before, after = recorded.plain(), current.plain()
    for part in ("versions", "hardware"):
        old, new = before.get(part) or {}, after.get(part) or {}
        changed = [key for key in sorted({*old, *new}) if part in after and old.get(key) != new.get(key)]
        found += [f"{key} {_shown(old.get(key))} -> {_shown(new.get(key))}" for key in changed]
    return found


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def mismatches(stores: Iterable[RunStore], current: Environment) -> dict[str, list[str]]:
    """Difference -> ids of the runs begun under something else than `current`; pending runs without a step do not count."""
    found: dict[str, list[str]] = {}
    for store in stores:
        status, record = store.status(), read_run(store.directory)
        if record is None or not (status.step or status.stages):
            continue
        for text in differences(record, current):
            found.setdefault(text, []).append(store.directory.name)
    return found


def note_change(store: RunStore, current: Environment) -> None:
    """Write into run.json under which other versions or hardware an unfinished run resumes."""
    record = read_run(store.directory)
    if record is None:
        return
    earlier = record.resumed_under
    if differences(earlier[-1] if earlier else record, current):
        under = [*earlier, current.model_copy(update={"at": now()})]
        write_run(store.directory, record.model_copy(update={"resumed_under": under}))


def note_trainer(store: RunStore, current: Environment) -> None:
    """Write into run.json under what this process is about to train the run; another one may have made the record."""
    record = read_run(store.directory)
    if any((store.directory / CHECKPOINTS).glob("checkpoint-*")):
        note_change(store, current)
    elif record is not None and differences(record, current):
        write_run(store.directory, record.model_copy(update=dict(current)))
