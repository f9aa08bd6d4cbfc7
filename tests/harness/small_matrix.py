"""Matrices of tiny runs on disk, and one whose steps take a while, for tests that disturb several runs at once."""

import json
from pathlib import Path
from typing import Any

from harness.prepare import freeze, make_plan
from harness.progress import Progress
from harness.stages.train import train_runs
from harness.state.store import RunStore
from harness.workers.stopping import StopSignals
from tests.faults.compare import results
from trainers.common.jsonl import write_jsonl

PROMPTS = [{"id": "b0", "prompt": "Say it briefly.", "constraints": [{"kind": "no_commas", "args": {}}]}]
RULES = """
import os, pathlib, time
from trainers.rules.base import BetaRule

class Slow(BetaRule):
    def __init__(self, hidden_size, pref_beta=0.1):
        super().__init__(pref_beta)
    def beta(self, batch):
        with pathlib.Path(__file__).with_name("steps.log").open("a") as log:
            log.write(f"{os.getpid()} {time.time()}\\n")
        pause = pathlib.Path(__file__).with_name("pause")  # not there on a node that was sent this file alone
        time.sleep(float(pause.read_text()) if pause.exists() else 0.0)
        return self.pref_beta
"""
MATRIX = """
name: small
model: {name_or_path: "MODEL"}
data: {train: pairs.jsonl}
training: {per_device_train_batch_size: 2, max_steps: 4, save_steps: 1, max_length: 64, bf16: false,
  gradient_checkpointing: false, learning_rate: 1e-3}
methods:
  - {name: slow, rule: "rules.py:Slow"}
  - {name: foodpo}
  - {name: mean, rule: matched_mean, parent: foodpo}
seeds: [0, 1]
report: {}
"""


def write_matrix(root: Path, text: str, model: Path, pairs: int = 4, prompts: list[Any] = PROMPTS) -> Path:
    """A matrix file with its data beside it; MODEL in `text` is the model's path."""
    rows = [{"id": f"p{i}", "prompt": f"say {i}", "chosen": "yes " * (1 + i), "rejected": "no"} for i in range(pairs)]
    write_jsonl(root / "pairs.jsonl", rows)
    write_jsonl(root / "prompts.jsonl", prompts)
    (root / "matrix.yaml").write_text(text.replace("MODEL", str(model)), encoding="utf-8")
    return root / "matrix.yaml"


def statuses(output: Path) -> dict[str, dict[str, Any]]:
    """The last status of every run, by method; of several seeds that of the last."""
    return {path.parent.name.split("-")[0]: json.loads(path.read_text()) for path in output.glob("runs/*/status.json")}


class SmallMatrix:
    """Six runs: `config` is the matrix file, `pause` the seconds that each step of method slow takes."""

    def __init__(self, root: Path, model: Path) -> None:
        self.root, self.steps = root, root / "steps.log"
        root.mkdir(exist_ok=True)
        (root / "rules.py").write_text(RULES, encoding="utf-8")
        self.config = write_matrix(root, MATRIX, model)
        self.pause(0.0)

    def pause(self, seconds: float) -> None:
        (self.root / "pause").write_text(str(seconds), encoding="utf-8")

    def plan(self, output: Path, *overrides: str) -> Any:
        """The plan under these `--set`s; `said` holds what making it said."""
        self.said: list[str] = []
        return make_plan(self.config, output, self.said.append, overrides)

    def begun(self, output: Path, *overrides: str) -> tuple[Any, list[RunStore]]:
        """The plan, and its runs as `run-matrix` makes them before the first step."""
        plan = self.plan(output, *overrides)
        output.mkdir(parents=True, exist_ok=True)
        freeze(plan)
        stores = [RunStore(plan.run_dir(spec)) for spec in plan.specs]
        for store, spec in zip(stores, plan.specs, strict=True):
            store.create(plan.run_record(spec))
        return plan, stores

    def train(self, output: Path, *overrides: str) -> None:
        """Train every run by the executor that the overrides name, in this process."""
        plan, _ = self.begun(output, *overrides)
        with StopSignals() as stops:
            train_runs(plan, plan.specs, Progress(), stops)

    @staticmethod
    def all_trained(output: Path) -> bool:
        found = [json.loads(path.read_text()) for path in output.glob("runs/*/status.json")]
        return len(found) > 0 and all("train" in status["stages"] and status["error"] is None for status in found)

    @staticmethod
    def trained(output: Path) -> dict[str, Any]:
        """Everything the runs left, without what is timed."""
        return {name: value for name, value in results(output).items() if name.startswith("runs/")}
