"""Logs of other trainers: Hugging Face Trainer and what is built on it (TRL), and LLaMA-Factory."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reports.foreign.sources import ForeignRun, by_step, number, read_json, read_lines, read_object, whole
from reports.foreign.synonyms import columns, found_names
from reports.runs.records import ReportError, read_yaml

# Hugging Face Trainer and everything built on it (TRL): `trainer_state.json`, and saved lists of log records.
#
# The state file is written by transformers.TrainerState.save_to_json, at the end of training and into each
# checkpoint-N.


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


def _positions(records: Sequence[Any], path: Path) -> list[tuple[str, Any]]:
    # JSON keeps no line numbers; the position in the list finds the record as well.
    return [(f"{path}: log_history[{position}]", record) for position, record in enumerate(records)]


def read_state(run: ForeignRun) -> None:
    """Fill the run from the newest of its state files (largest global_step; the run's own wins a tie)."""
    states = []
    for path in state_files(run.directory):
        state = read_object(path)
        if not isinstance(state.get("log_history"), list):
            raise ReportError(f"{path}:1: has no list 'log_history'; is it a trainer_state.json of transformers?")
        step = state.get("global_step", 0)
        if isinstance(step, bool) or not isinstance(step, int):
            raise ReportError(f"{path}:1: 'global_step' is {step!r}, not a whole number")
        states.append((step, path.parent == run.directory, path, state))
    run.step, _, path, state = max(states, key=lambda found: found[:2])
    _log(run, path, "Hugging Face Trainer", _positions(state["log_history"], path))
    total = state.get("max_steps")
    run.total_steps = total if isinstance(total, int) and total > 0 else None
    ended = run.total_steps is None or run.step >= run.total_steps or any(_ENDED in r for r in run.history)
    run.state = "done" if ended else "running"
    run.training |= {k: number(state[k], f"{path}:1", k) for k in _FACTS if state.get(k)}


def read_saved_history(run: ForeignRun, path: Path) -> None:
    """Fill the run from a saved list of log records: JSON (a list, or one run's under its name) or one object a line."""
    if path.suffix == ".jsonl":
        records = [(f"{path}:{line}", record) for line, record in read_lines(path, torn_end=True)]
    else:
        value = read_json(path)
        if isinstance(value, dict) and len(value) != 1:
            raise ReportError(f"{path}:1: holds {len(value)} entries; a list of records, or one run's, is needed")
        (value,) = value.values() if isinstance(value, dict) else (value,)
        if not isinstance(value, list):
            raise ReportError(f"{path}:1: expected a list of log records, found {type(value).__name__}")
        records = _positions(value, path)
    _log(run, path, "saved log records", records)
    if not run.steps:
        raise ReportError(f"{path}:1: no record has both a step and a loss; is this a training log?")
    run.step = run.steps[-1]["step"]


def model_card_seed(directory: Path) -> int | None:
    """The seed in the model card (README.md) that Trainer writes as `- seed: N`; None where there is none."""
    path = directory / "README.md"
    card = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    found = re.search(r"^- seed: (\d{1,10})\s*$", card, re.MULTILINE)
    return int(found[1]) if found else None


# LLaMA-Factory: `trainer_log.jsonl`, `all_results.json`, `training_args.yaml`, beside Trainer's own state file.
#
# trainer_log.jsonl has one object per log call: current_steps, total_steps, loss, lr, epoch, percentage,
# elapsed_time, remaining_time, and where they exist eval_loss, reward, accuracy (of the rewards), throughput,
# total_tokens.


LOG, RESULTS, ARGUMENTS = "trainer_log.jsonl", "all_results.json", "training_args.yaml"
#: What settings were called up to 0.7, and are now.
RENAMED = {"dpo_beta": "pref_beta", "dpo_loss": "pref_loss", "dpo_ftx": "pref_ftx", "orpo_beta": "pref_beta"}
#: Settings that decide whether losses of two runs can be compared, and what the method was.
_SETTINGS = (
    "stage",
    "pref_beta",
    "pref_loss",
    "pref_beta_scale",
    "pref_ftx",
    "dpo_label_smoothing",
    "simpo_gamma",
    "finetuning_type",
    "learning_rate",
    "num_train_epochs",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "cutoff_len",
)


def read_log(run: ForeignRun) -> None:
    """Fill the run from trainer_log.jsonl; beside a state file only the steps after it are added.

    Raises:
        ReportError: a line is not JSON or has no usable current_steps.
    """
    path = run.directory / LOG
    numbered = list(read_lines(path, torn_end=True))
    names = found_names(str(k) for _, record in numbered for k in record)
    rows, last = [], 0
    for line, record in numbered:
        where = f"{path}:{line}"
        last = whole(record.get("current_steps"), where, "current_steps")
        run.total_steps = whole(record.get("total_steps"), where, "total_steps") or run.total_steps
        rows.append(columns(record, names, where))
    run.came_from("LLaMA-Factory", path)
    known = max((r["step"] for r in run.steps), default=-1)
    if not run.history:
        run.log(rows, names)
    elif later := [r for r in by_step(run.last_training(rows)) if r["step"] > known and "loss" in r]:
        run.history = by_step([*run.history, *later])
        run.notes.append(f"{len(later)} steps after the last saved state come from {LOG}, which holds fewer columns")
    run.step = max(run.step or 0, last)
    if run.total_steps and run.step < run.total_steps and RESULTS not in {f.name for f in run.files}:
        run.state = "running"


def read_results(run: ForeignRun) -> None:
    """Keep the closing figures of all_results.json (train_loss, eval_loss, ...); their presence says training ended."""
    path = run.directory / RESULTS
    found = read_object(path)
    run.results = {k: number(v, f"{path}:1", k) for k, v in found.items() if isinstance(v, (int, float))}
    run.files.append(path)
    if "train_loss" in run.results or "train_runtime" in run.results:
        run.state = "done"


def read_arguments(run: ForeignRun) -> None:
    """Settings from training_args.yaml and, where the run has no seed, its seed, else the one of the model card."""
    path = run.directory / ARGUMENTS
    if path.is_file():
        value = read_yaml(path)
        run.files.append(path)
        own = "orpo" if value.get("stage") == "orpo" else "dpo"
        value = {new: value[old] for old, new in RENAMED.items() if old in value and old.startswith(own)} | value
        run.settings |= {k: value[k] for k in _SETTINGS if isinstance(value.get(k), (int, float, str, bool))}
        if isinstance(value.get("model_name_or_path"), str):
            run.model = value["model_name_or_path"]
        if run.seed is None and isinstance(value.get("seed"), int):
            run.seed = value["seed"]
    if run.seed is None:
        run.seed = model_card_seed(run.directory)
