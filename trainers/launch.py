"""Train one job in several processes: `accelerate launch --config_file FILE -m trainers.launch JOB.json`.

The job file is what `harness.workers.train_worker` gets for one run:
{"objective", "data": {"path", "limit", "seed"}, "train_job": {...}}.
Every process runs the same code; the main one writes the files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from trainers.formats.pairs import load_pairs
from trainers.run.job import Progress, TrainJob
from trainers.run.objective_run import train_objective
from trainers.run.train import train

_PATHS = ("run_dir", "model_path", "reference_root", "parent_dir")


def read_job(values: dict[str, Any]) -> TrainJob:
    """A TrainJob from its JSON form, where paths are texts."""
    paths = {key: Path(values[key]) for key in _PATHS if values.get(key) is not None}
    return TrainJob(**{**values, **paths})


def main(argv: list[str]) -> int:
    """Entry point; prints one line per logged step on the main process."""
    from accelerate import PartialState

    if len(argv) != 1 or argv[0].startswith("-"):
        sys.exit("usage: accelerate launch --config_file FILE -m trainers.launch JOB.json")
    job = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    train_job, data = read_job(job["train_job"]), job["data"]
    pairs = load_pairs(Path(data["path"]), data["limit"], data["seed"])

    def report(progress: Progress) -> None:
        if progress.loss is not None and PartialState().is_main_process:
            print(f"step {progress.step}/{progress.total_steps} loss {progress.loss:.4f}", flush=True)

    if job.get("objective", "dpo") == "dpo":
        train(train_job, pairs, report)
    else:
        train_objective(train_job, job["objective"], pairs, report)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
