"""What the trainer costs beside the step: memory, recording, and reference passes of a second run."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import Measurement

NAMES = ("trainer.memory_vs_trl", "trainer.recording_overhead", "reference.second_run_forwards")


def _peak(which: str) -> int:
    """Peak resident memory (bytes) of two training steps in a process of their own, model loading left out."""
    command = [sys.executable, "-m", "tests.benchmarks.trainer_costs", which]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(json.loads(done.stdout.splitlines()[-1])["peak"])


def measure_peak(which: str) -> int:
    """In this process: two steps of ours, or of stock TRL with its reference cached, on long prompts."""
    from tests.benchmarks.trainer_steps import _ours, _pairs, _stock
    from trainers.trainer.recording import peak_memory, reset_peak_memory

    pairs = _pairs(300, 60)
    with tempfile.TemporaryDirectory() as folder:
        stepper = _ours(pairs, "foodpo", Path(folder)) if which == "ours" else _stock(pairs, Path(folder), cached=True)
        reset_peak_memory()
        stepper.step(), stepper.step()
    return peak_memory()


def _recording() -> Measurement:
    """Seconds spent on the example rows over the seconds of the step they belong to."""
    from tests.benchmarks.trainer_steps import _ours, _pairs
    from trainers.trainer import dpo as module

    spent = [0.0]

    def timed(function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            result = function(*args, **kwargs)
            spent[0] += time.perf_counter() - started
            return result

        return call

    with tempfile.TemporaryDirectory() as folder:
        stepper = _ours(_pairs(40, 80), "foodpo", Path(folder))
        module.example_rows = timed(module.example_rows)  # type: ignore[assignment]
        trainer = stepper.trainer
        stepper.step()
        shares = []
        for step in range(1, 6):
            spent[0] = 0.0
            seconds = stepper.step()
            timed(trainer._record)(timed(trainer._gather_rows)())
            timed(trainer.recorder.flush)(step)
            shares.append(spent[0] / (seconds + spent[0]))
    detail = "rows, gathering and one Parquet part after every step (training writes one per checkpoint)"
    return Measurement(shares, "share of a step", None, detail)


def _second_run() -> Measurement:
    """Reference batches of a second run with another beta, seed and method on the same store."""
    from tests.trainers.helpers import make_job, make_pairs
    from trainers.run.train import train
    from trainers.tiny import build_tiny_model

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model, shared = build_tiny_model(root / "model"), root / "reference"
        first = train(make_job(model, root / "a", reference_root=shared), make_pairs(), lambda _: None)
        other = make_job(model, root / "b", "foodpo", reference_root=shared, seed=7, params={"pref_beta": 0.3})
        second = train(other, make_pairs(), lambda _: None)
    detail = f"the first run made {first['reference_forwards']}; the second has another method, beta and seed"
    return Measurement([float(second["reference_forwards"])], "forward passes", None, detail)


def run(name: str) -> Measurement:
    """One of `NAMES`."""
    if name == "reference.second_run_forwards":
        return _second_run()
    if name == "trainer.recording_overhead":
        return _recording()
    pairs = [(_peak("ours"), _peak("stock")) for _ in range(2)]
    gib = [value / 2**30 for value in pairs[0]]
    detail = (
        f"peak resident memory, ours {gib[0]:.2f} GiB, theirs {gib[1]:.2f} GiB; 300 + 60 tokens, 4 pairs, all weights"
    )
    return Measurement([a / b for a, b in pairs], "ratio", "trl.DPOTrainer, reference cached", detail)


if __name__ == "__main__":
    print(json.dumps({"peak": measure_peak(sys.argv[1])}))
