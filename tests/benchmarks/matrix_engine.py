"""What the matrix engine costs: dry-run, status and bookkeeping of 1,000 runs, and eight runs against a user's script."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import Measurement

NAMES = ("cli.help", "cli.dry_run_1000", "cli.status_1000", "matrix.overhead_per_cell", "matrix.vs_script")
#: 4 methods of 5 settings, a control's following its parent's, with `seeds` seeds: 20 runs a seed.
_MATRIX = """\
name: large
model: {name_or_path: "embedded:smollm2-135m-instruct"}
data: {train: "embedded:constraint-pairs/train", heldout: "embedded:constraint-pairs/heldout"}
training: {per_device_train_batch_size: 4, learning_rate: 2e-4, max_length: 256, bf16: false}
lora: {r: 8, target_modules: all-linear}
methods:
  - {name: fixed, grid: {pref_beta: [0.05, 0.1, 0.2, 0.3, 0.5]}}
  - {name: foodpo, grid: {pref_beta_scale: [0.1, 0.2, 0.3, 0.4, 0.5]}}
  - {name: learnable, grid: {pref_beta: [0.05, 0.1, 0.2, 0.3, 0.5]}}
  - {name: mean, rule: matched_mean, parent: foodpo}
seeds: SEEDS
evaluation:
  engine: {max_model_len: 512}
  benchmarks: [{name: constraints, prompts: "embedded:constraint-pairs/benchmark", limit: 48, max_new_tokens: 64}]
  lm_eval: [{task: capitals, limit: 40}, {task: word_arithmetic, limit: 24}]
report: {baseline: fixed, primary: constraints/gold_reward}
"""


def run(name: str) -> Measurement:
    """One of `NAMES`."""
    if name == "cli.help":
        return Measurement([_seconds(["--help"]) for _ in range(10)], "s", None, "python -m harness --help")
    if name == "matrix.vs_script":
        from tests.benchmarks.matrix_script import compare

        return compare()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if name == "matrix.overhead_per_cell":
            return _overhead(root)
        config = _write(root, 50)
        output = root / "out"
        _run_empty(config, output, "half")
        words = ["run-matrix", str(config), "--dry-run"] if name == "cli.dry_run_1000" else ["status"]
        seconds = [_seconds([*words, "--output", str(output)]) for _ in range(7)][1:]  # the first one reads cold files
        return Measurement(
            seconds, "s", None, f"harness {words[0]}{' --dry-run' * (len(words) > 1)}, half of 1,000 done"
        )


def _write(root: Path, seeds: int) -> Path:
    config = root / f"matrix-{seeds}.yaml"
    config.write_text(_MATRIX.replace("SEEDS", str(list(range(seeds)))), encoding="utf-8")
    return config


def _seconds(words: list[str]) -> float:
    started = time.perf_counter()
    command = [sys.executable, "-m", "harness", *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


#: Cells of a run: its training, and each of the three benchmarks.
_CELLS = 4


def _overhead(root: Path) -> Measurement:
    """Milliseconds a cell: the difference between matrices of 1,040 and of 160 cells, so that imports do not count."""
    values, again, few, many = [], [], 2, 13
    for repeat in range(3):
        seconds = {}
        for seeds in (few, many):
            config, output = _write(root, seeds), root / f"out-{repeat}-{seeds}"
            started = time.perf_counter()
            _run_empty(config, output, "all")
            seconds[seeds] = time.perf_counter() - started
        started = time.perf_counter()
        _run_empty(_write(root, many), root / f"out-{repeat}-{many}", "all")
        again.append(time.perf_counter() - started)
        values.append(1000 * (seconds[many] - seconds[few]) / (20 * (many - few) * _CELLS))
    detail = (
        f"plan, locks, events, records, checksums, fsyncs of {20 * many * _CELLS} cells ({20 * many} runs: a training and 3 "
        f"benchmarks each) whose stages write empty files; a second call that finds all done takes {min(again):.1f} s"
    )
    return Measurement(values, "ms a cell", None, detail)


def _run_empty(config: Path, output: Path, which: str) -> None:
    """`run-matrix` in a process of its own whose stages do nothing; with `half`, training fails for every second seed."""
    command = [sys.executable, "-m", "tests.benchmarks.matrix_engine", "matrix", which, str(config), str(output)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != (0 if which == "all" else 1):
        raise RuntimeError(f"the empty matrix ended with {result.returncode}: {result.stderr[-2000:]}")


# --- in the processes of an empty matrix --------------------------------------------------------------------------------


def _empty_training(job: Any, pairs: Any, on_progress: Callable[[Any], None], objective: str = "dpo") -> dict[str, Any]:
    """What `trainers.run.train.train` leaves, empty."""
    from trainers.common.training_schema import EXAMPLE_METRICS, LOG_HISTORY, POLICY_DIR, TRAIN_RESULT

    if "half" in sys.argv and job.seed % 2:
        raise ValueError("every second seed fails")
    (job.run_dir / POLICY_DIR).mkdir(parents=True)
    for name in (LOG_HISTORY, EXAMPLE_METRICS, TRAIN_RESULT, f"{POLICY_DIR}/model.safetensors"):
        (job.run_dir / name).write_bytes(b"")
    return {"steps": 1}


def _empty_evaluation(
    job: dict[str, Any], work_file: Path, on_event: Callable[[dict[str, Any]], None], **_: Any
) -> Any:
    """What `evals.supervise.run_job` leaves: scores of 40 items for every cell, and its events."""
    from evals.supervise import JobResult
    from trainers.common import scores_schema

    items = [{"id": f"i{i}", "values": {"gold_reward": 0.5}} for i in range(40)]
    for policy in job["policies"]:
        for benchmark in job["benchmarks"]:
            cell = scores_schema.cell_fingerprint(policy["fingerprint"], benchmark["fingerprint"])
            path = scores_schema.scores_path(Path(policy["out"]), benchmark["name"])
            scores_schema.write_json(path, {"fingerprint": cell, "metrics": {}, "items": items})
        on_event({"event": "policy_done", "policy": policy["run_id"]})
    return JobResult()


@contextlib.contextmanager
def _training_process(which: str) -> Iterator[None]:
    """Training workers started inside are this module's `worker`, whose training is empty."""
    start = subprocess.Popen

    def popen(command: list[str], *arguments: Any, **options: Any) -> Any:
        if command[1:3] == ["-m", "harness.workers.train_worker"]:
            command = [sys.executable, "-m", "tests.benchmarks.matrix_engine", "worker", which, *command[3:]]
        return start(command, *arguments, **options)

    subprocess.Popen = popen  # type: ignore[assignment, misc]
    try:
        yield
    finally:
        subprocess.Popen = start  # type: ignore[misc]


def _child(role: str, which: str, arguments: list[str]) -> int:
    if role == "worker":
        import trainers.run.train
        from harness.workers.train_worker import main as train_main

        trainers.run.train.train = _empty_training
        return train_main(arguments)
    import harness.executors.local
    import harness.stages.run
    import reports.files.metrics
    import reports.page.first
    from harness.cli import main

    harness.executors.local.run_job = _empty_evaluation  # type: ignore[assignment]
    harness.stages.run.make_report = lambda plan, progress: True  # type: ignore[assignment, misc]
    reports.files.metrics.write_run_files = lambda run_dir: {}  # type: ignore[assignment, misc]
    reports.page.first.print_summary = lambda output: None  # type: ignore[assignment, misc]
    config, output = arguments
    with _training_process(which), contextlib.redirect_stdout(io.StringIO()):
        return main(["run-matrix", config, "--output", output])


if __name__ == "__main__":
    sys.exit(_child(sys.argv[1], sys.argv[2], sys.argv[3:]))
