"""harness/STARTS.md as a new user follows it: each start in an empty directory, its files written and its commands run."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness import load_results
from tests.reports.foreign_files import evaluation
from trainers.tiny import build_tiny_model

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "harness" / "STARTS.md").read_text(encoding="utf-8")
TOOL_DATA = ROOT.parent / "shared" / "data" / "preferences" / "llamafactory"


class Start:
    """One section of the page in a directory of its own: the files it shows are there, `follow` runs what it says."""

    def __init__(self, root: Path, number: int) -> None:
        self.root = root
        found = re.search(rf"^## {number}\. .*?(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
        assert found is not None, f"the page has no start {number}"
        self.text = found[0]
        build_tiny_model(root / "my-model", hidden_size=128)  # heads of 32, which vLLM serves
        for name, content in re.findall(
            r"^`([\w.]+)`[^\n]*:\n\n```\w+\n(.*?)^```", self.text, re.MULTILINE | re.DOTALL
        ):
            (root / name).write_text(content, encoding="utf-8")

    def follow(self, **environment: str) -> str:
        """Run the section's commands as one shell script that ends at the first failure; returns what was printed."""
        (script,) = re.findall(r"^```bash\n(.*?)^```", self.text, re.MULTILINE | re.DOTALL)
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.root,
            env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "80", **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPO_HARNESS_CACHE", str(tmp_path_factory.getbasetemp() / "starts-cache"))


def states(output: Path) -> dict[str, str]:
    """State of each run of the matrix, by method and seed."""
    runs = load_results(output).runs
    runs = runs[runs["run_id"] != "reference"]
    return {f"{m} {s}": state for m, s, state in runs[["method", "seed", "state"]].itertuples(index=False)}


def summary(folder: Path) -> dict[str, Any]:
    assert (folder / "report.html").stat().st_size > 10_000
    return dict(json.loads((folder / "summary.json").read_text(encoding="utf-8")))


def test_the_toy_model(tmp_path: Path) -> None:
    """The command before the first start."""
    before = PAGE.split("## 1.")[0]
    (command,) = re.findall(r"^```bash\n(.*?)\n```", before, re.MULTILINE | re.DOTALL)
    words = command.split()
    assert words[:2] == ["python", "-m"]
    subprocess.run([sys.executable, *words[1:]], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    assert (tmp_path / "my-model" / "model.safetensors").is_file()


def test_1_from_trl_with_a_jsonl(tmp_path: Path) -> None:
    said = Start(tmp_path, 1).follow()
    assert "TRL, standard" in said and "output_dir" in said
    found = states(tmp_path / "out")
    assert {name for name, state in found.items() if state == "done"} == {"original 42", "foodpo 42"}
    runs = load_results(tmp_path / "out").runs.dropna(subset=["constraints/gold_reward"])
    assert len(runs) == 3  # these two and the reference
    assert summary(tmp_path / "out")["baseline"]["value"] == "original"


def test_2_from_llamafactory(tmp_path: Path) -> None:
    if not TOOL_DATA.is_dir():
        pytest.skip("LLaMA-Factory's own data files are not beside this checkout (../shared/data)")
    shutil.copytree(TOOL_DATA, tmp_path / "data")
    said = Start(tmp_path, 2).follow()
    assert "LLaMA-Factory sharegpt ranking" in said and "template: 'default'" in said
    done = {name for name, state in states(tmp_path / "out").items() if state == "done"}
    assert done == {"original 42", "foodpo 42"}
    examples = load_results(tmp_path / "out").examples
    betas = examples.groupby("method")["dynamic_beta"]
    assert betas.std()["original"] == 0 and betas.std()["foodpo"] > 0
    assert summary(tmp_path / "out")["baseline"]["value"] == "original"


def _trl_runs(root: Path, model: Path) -> None:
    """Four short runs of stock TRL as they leave their folders, and lm-eval's files beside two of them."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    rows = [{"prompt": f"Say {i}.", "chosen": f"Here is {i}.", "rejected": "No."} for i in range(4)]
    for method, beta in (("dpo", 0.1), ("new", 0.5)):
        for seed in (0, 1):
            folder = root / "runs" / f"{method}-seed{seed}"
            arguments = DPOConfig(
                output_dir=str(folder),
                beta=beta,
                seed=seed,
                max_steps=2,
                per_device_train_batch_size=2,
                logging_steps=1,
                save_steps=2,
                bf16=False,
                report_to=[],
                disable_tqdm=True,
            )
            DPOTrainer(
                AutoModelForCausalLM.from_pretrained(model),
                args=arguments,
                train_dataset=Dataset.from_list(rows),
                processing_class=AutoTokenizer.from_pretrained(model),
            ).train()
            evaluation(folder, [1, 0, 1, 0] if method == "dpo" else [1, 1, 1, seed])


def test_3_with_nothing_but_finished_runs(tmp_path: Path, tiny_model: Path) -> None:
    start = Start(tmp_path, 3)
    _trl_runs(tmp_path, tiny_model)
    said = start.follow()
    assert "Missing from these runs" in said
    made = summary(tmp_path / "report")
    assert made["baseline"]["value"] == "dpo"
    curves = pd.read_csv(tmp_path / "report" / "training_metrics.csv")
    assert set(curves["method"]) == {"dpo", "new"} and curves["loss"].notna().sum() == 8


def test_4_with_a_beta_rule_of_ones_own(tmp_path: Path) -> None:
    Start(tmp_path, 4).follow()
    assert set(states(tmp_path / "out").values()) == {"done"}
    rows = load_results(tmp_path / "out").examples
    own = rows[rows["method"] == "bounded"]
    expected = 0.1 * (1 + 0.8 * (own["log_prompt_perplexity"] - 3.0).map(math.tanh))
    assert own["dynamic_beta"].std() > 0
    assert own["dynamic_beta"].tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    mean = rows[rows["method"] == "mean"]["dynamic_beta"]
    assert mean.std() == pytest.approx(0, abs=1e-9) and mean.mean() == pytest.approx(own["dynamic_beta"].mean())
    made = summary(tmp_path / "out")
    assert made["primary"] is not None


@pytest.fixture
def cluster() -> Iterator[str]:
    """A Ray cluster of a head without room for tasks and one node; its address."""
    pytest.importorskip("ray", reason="the ray extra is not installed")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 80 * 2**20})
    made.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    yield str(made.address)
    made.shutdown()


def test_5_with_a_ray_cluster(tmp_path: Path, cluster: str) -> None:
    start = Start(tmp_path, 5)
    start.follow(RAY_ADDRESS=cluster)
    assert set(states(tmp_path / "out").values()) == {"done"}
    for run_id in load_results(tmp_path / "out").run_ids:  # each was a task of the cluster
        assert (tmp_path / "out" / "work" / f"ray-{run_id}.events.jsonl").is_file()
