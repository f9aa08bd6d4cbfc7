"""Hugging Face Trainer and everything built on it (TRL): `trainer_state.json`, and saved lists of log records.

The state file is written by transformers.TrainerState.save_to_json, at the end of training and into each checkpoint-N.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reports.foreign.sources import ForeignRun, number, read_json, read_lines, read_object
from reports.foreign.synonyms import columns, found_names
from reports.runs.records import ReportError

STATE = "trainer_state.json"
#: A list of records, or {name: records}, that a script saved from `trainer.state.log_history`.
HISTORIES = ("log_history.json", "log_history.jsonl", "logs.jsonl", "metrics.jsonl")
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
#: The record that Trainer adds when training has ended.
_ENDED = "train_runtime"
_FACTS = ("max_steps", "num_train_epochs", "train_batch_size", "logging_steps", "total_flos")


def checkpoints(directory: Path) -> list[Path]:
    """Folders checkpoint-N in the order of N."""
    found = [(int(m[1]), p) for p in directory.iterdir() if (m := _CHECKPOINT.fullmatch(p.name)) and p.is_dir()]
    return [path for _, path in sorted(found)]


def state_files(directory: Path) -> list[Path]:
    """Every trainer_state.json of a run: its own and those of its checkpoints."""
    return [p / STATE for p in (directory, *checkpoints(directory)) if (p / STATE).is_file()]


def _training(record: Mapping[str, Any]) -> bool:
    return _ENDED not in record and not any(str(k).startswith("eval_") for k in record)


def _log(run: ForeignRun, path: Path, tool: str, records: Sequence[tuple[str, Any]]) -> None:
    """Take log records, each behind where it stands. Evaluation records and the closing summary keep the names they have.

    Raises:
        ReportError: a record is no object, or a figure in it no number.
    """
    for where, record in records:
        if not isinstance(record, Mapping):
            raise ReportError(f"{where}: {type(record).__name__}, not an object with a step and figures")
    names = found_names(str(k) for _, r in records if _training(r) for k in r)
    rest = {k: v for k, v in names.items() if k in ("step", "epoch")}
    run.log((columns(r, names if _training(r) else rest, where) for where, r in records), names)
    run.came_from(tool, path)


def _listed(records: Sequence[Any], path: Path) -> list[tuple[str, Any]]:
    # JSON keeps no line numbers; the position in the list finds the record as well.
    return [(f"{path}: log_history[{position}]", record) for position, record in enumerate(records)]


def read_state(run: ForeignRun) -> None:
    """Fill the run from the newest of its state files (largest global_step; the run's own wins a tie)."""
    states = [(path, read_object(path)) for path in state_files(run.directory)]
    for path, state in states:
        if not isinstance(state.get("log_history"), list):
            raise ReportError(f"{path}:1: has no list 'log_history'; is it a trainer_state.json of transformers?")
    path, state = max(states, key=lambda s: (_step(s[1], s[0]), s[0].parent == run.directory))
    _log(run, path, "Hugging Face Trainer", _listed(state["log_history"], path))
    total = state.get("max_steps")
    run.step, run.total_steps = _step(state, path), total if isinstance(total, int) and total > 0 else None
    ended = run.total_steps is None or run.step >= run.total_steps or any(_ENDED in r for r in run.history)
    run.state = "done" if ended else "running"
    run.training |= {k: number(state[k], f"{path}:1", k) for k in _FACTS if state.get(k)}


def _step(state: Mapping[str, Any], path: Path) -> int:
    value = state.get("global_step", 0)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ReportError(f"{path}:1: 'global_step' is {value!r}, not a whole number")
    return value


def read_saved_history(run: ForeignRun, path: Path) -> None:
    """Fill the run from a saved list of log records: JSON or one object a line."""
    if path.suffix == ".jsonl":
        records = [(f"{path}:{line}", record) for line, record in read_lines(path, torn_end=True)]
    else:
        records = _listed(_one_list(path), path)
    _log(run, path, "saved log records", records)
    if not run.steps:
        raise ReportError(f"{path}:1: no record has both a step and a loss; is this a training log?")
    run.step = run.steps[-1]["step"]


def _one_list(path: Path) -> list[Any]:
    value = read_json(path)
    if isinstance(value, dict):
        lists = [v for v in value.values() if isinstance(v, list)]
        if len(lists) != 1 or len(value) != 1:
            raise ReportError(f"{path}:1: holds {len(value)} entries; a list of records, or one run's, is needed")
        value = lists[0]
    if not isinstance(value, list):
        raise ReportError(f"{path}:1: expected a list of log records, found {type(value).__name__}")
    return value


def model_card_seed(directory: Path) -> int | None:
    """The seed in the model card (README.md) that Trainer writes as `- seed: N`; None where there is none."""
    path = directory / "README.md"
    if not path.is_file():
        return None
    found = re.search(r"^- seed: (\d{1,10})\s*$", path.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    return int(found[1]) if found else None
