"""A matrix of tiny runs whose steps take a while, for tests that disturb several runs at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.faults.compare import results

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


class SmallMatrix:
    """Six runs: `config` is the matrix file, `pause` the seconds that each step of method slow takes."""

    def __init__(self, root: Path, model: Path) -> None:
        self.root, self.config = root, root / "matrix.yaml"
        root.mkdir(exist_ok=True)
        self.config.write_text(MATRIX.replace("MODEL", str(model)), encoding="utf-8")
        (root / "rules.py").write_text(RULES, encoding="utf-8")
        rows = [{"id": f"p{i}", "prompt": f"say {i}", "chosen": "yes " * (1 + i), "rejected": "no"} for i in range(4)]
        (root / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        self.pause(0.0)

    def pause(self, seconds: float) -> None:
        (self.root / "pause").write_text(str(seconds), encoding="utf-8")

    def statuses(self, output: Path) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in sorted(output.glob("runs/*/status.json"))]

    def train(self, output: Path, *overrides: str) -> None:
        """Train every run by the executor that the overrides name, in this process."""
        from harness.prepare import freeze, make_plan
        from harness.progress import Progress
        from harness.stages.train import train_runs
        from harness.state.store import RunStore
        from harness.workers.signals import StopSignals

        plan = make_plan(self.config, output, lambda line: None, overrides)
        output.mkdir(parents=True, exist_ok=True)
        freeze(plan)
        for spec in plan.specs:
            RunStore(plan.run_dir(spec)).create(plan.run_record(spec))
        with StopSignals() as stops:
            train_runs(plan, plan.specs, Progress(), stops)

    @staticmethod
    def trained(output: Path) -> dict[str, Any]:
        """Everything the runs left, without what is timed."""
        return {name: value for name, value in results(output).items() if name.startswith("runs/")}
