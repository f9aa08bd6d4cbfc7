"""LLaMA-Factory: `trainer_log.jsonl`, `all_results.json`, `training_args.yaml`, beside Trainer's own state file.

trainer_log.jsonl has one object per log call: current_steps, total_steps, loss, lr, epoch, percentage, elapsed_time,
remaining_time, and where they exist eval_loss, reward, accuracy (of the rewards), throughput, total_tokens.
"""

from __future__ import annotations

from typing import Any

from reports.foreign.hf_trainer import model_card_seed
from reports.foreign.sources import ForeignRun, by_step, number, read_lines, read_object, read_text, whole
from reports.foreign.synonyms import columns, found_names
from reports.runs.records import ReportError

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
        import yaml

        try:
            value: Any = yaml.safe_load(read_text(path))
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = mark.line + 1 if mark else 1
            raise ReportError(f"{path}:{line}: not valid YAML ({getattr(error, 'problem', None) or error})") from None
        if not isinstance(value, dict):
            raise ReportError(f"{path}:1: expected keys and values, found {type(value).__name__}")
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
