"""Train one job in several processes: `accelerate launch --config_file FILE -m trainers.launch JOB.json`.

The job file holds what `harness.workers.train_worker` gets for one run:
{"objective", "data": {"path", "limit", "seed"}, "train_job": {...}}.
Every process runs the same code; the main one writes the files.
"""

import json
import sys
from pathlib import Path

from trainers.formats import load_pairs
from trainers.run.job import Progress, TrainJob
from trainers.run.train import train


def main(argv: list[str]) -> int:
    """Entry point; prints one line per logged step on the main process."""
    from accelerate import PartialState

    if len(argv) != 1 or argv[0].startswith("-"):
        sys.exit("usage: accelerate launch --config_file FILE -m trainers.launch JOB.json")
    job = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    pairs = load_pairs(Path(job["data"]["path"]), job["data"]["limit"], job["data"]["seed"])

    def report(progress: Progress) -> None:
        if progress.loss is not None and PartialState().is_main_process:
            print(f"step {progress.step}/{progress.total_steps} loss {progress.loss:.4f}", flush=True)

    train(TrainJob(**job["train_job"]), pairs, report, job.get("objective", "dpo"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
