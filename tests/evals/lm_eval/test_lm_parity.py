"""Multiple choice from real files: accuracies through the engines against lm-eval's own `hf` model, item by item.

That vLLM gives what transformers gives is tested in `tests/evals/engine/test_vllm_engine.py`, whose engine runs already.

`python -m tests.evals.lm_eval.test_lm_parity LIMIT [vllm]` prints the figures that evals/README.md quotes.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM

from evals.benchmarks.base import Visit
from evals.engine.base import Engine, EngineConfig
from evals.engine.start import start_engine
from evals.lm_eval.run import load_task, run_task
from tests.evals.benchmarks.scored import entry, policy_entry
from trainers.models.embedded import prepare_model

FILES = {"arc_easy": "arc_easy.jsonl", "openbook_qa": "openbook_qa.jsonl"}
LIMIT = 20


def write_tasks(folder: Path, data: Path) -> Path:
    """Task files over the local rows `{query, choices, gold}`, in the form of lm-eval's own ARC and OpenBookQA."""
    for task, name in FILES.items():
        config = {
            "task": f"local_{task}",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(data / name)}},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "{{query}}\nAnswer:" if task == "arc_easy" else "{{query}}",
            "doc_to_choice": "{{choices}}",
            "doc_to_target": "{{gold}}",
            "metric_list": [{"metric": metric} for metric in ("acc", "acc_norm")],
        }
        (folder / f"local_{task}.yaml").write_text(yaml.safe_dump(config))
    return folder


def by_hf(model_dir: Path, folder: Path, limit: int) -> dict[str, Any]:
    """Results of lm-eval's `hf` model by task."""
    hf = HFLM(pretrained=str(model_dir), device="cpu", dtype="float32", batch_size=16, max_length=512)
    return {
        task: simple_evaluate(hf, tasks=[found], task_manager=manager, limit=limit, bootstrap_iters=0)
        for task in FILES
        for found, manager in [load_task(f"local_{task}", folder)]
    }


def agreement(engine: Engine, theirs: dict[str, Any], folder: Path, limit: int) -> dict[str, dict[str, float]]:
    """By `task/metric`: both accuracies and the share of the documents with the same verdict."""
    found = {}
    for task, output in theirs.items():
        about = entry(task, "lm_eval", task=f"local_{task}", include_path=folder, limit=limit, num_fewshot=0)
        visit = Visit(engine, policy_entry("p", Path()), about, None, lambda **_: None)
        ours = run_task(visit, again=True)  # which keeps nothing
        samples = {str(sample["doc_id"]): sample for sample in output["samples"][f"local_{task}"]}
        for metric in ("acc", "acc_norm"):
            same = [item["values"][metric] == samples[item["id"]][metric] for item in ours["items"]]
            assert all(item["doc_hash"] == samples[item["id"]]["doc_hash"] for item in ours["items"])
            found[f"{task}/{metric}"] = {
                "engine": ours["metrics"][metric]["value"],
                "hf": output["results"][f"local_{task}"][f"{metric},none"],
                "agreement": sum(same) / len(same),
                "n": len(same),
            }
    return found


@pytest.fixture(scope="module")
def model_dir() -> Path:
    return prepare_model("smollm2-135m-instruct")


@pytest.fixture(scope="module")
def tasks(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tasks(tmp_path_factory.mktemp("tasks"), shared_data / "benchmarks")


@pytest.fixture(scope="module")
def theirs(model_dir: Path, tasks: Path) -> dict[str, Any]:
    return by_hf(model_dir, tasks, LIMIT)


def test_transformers_engine_equals_hf(model_dir: Path, tasks: Path, theirs: dict[str, Any]) -> None:
    engine = start_engine(model_dir, EngineConfig(backend="transformers", dtype="float32", max_model_len=512))
    for name, figures in agreement(engine, theirs, tasks, LIMIT).items():
        assert figures["agreement"] == 1.0 and figures["engine"] == figures["hf"] and figures["n"] == LIMIT, name


def main(limit: int, backend: str) -> None:
    """Print accuracies and agreement on the first `limit` documents of each file."""
    import lm_eval

    model = prepare_model("smollm2-135m-instruct")
    with tempfile.TemporaryDirectory() as folder:
        root = write_tasks(Path(folder), Path(__file__).resolve().parents[4] / "shared" / "data" / "benchmarks")
        expected = by_hf(model, root, limit)
        engine = start_engine(model, EngineConfig(backend=backend, dtype="float32", max_model_len=512))
        print(f"{engine.name} against lm-eval {lm_eval.__version__} hf, float32")
        for name, figures in agreement(engine, expected, root, limit).items():
            print(name, figures)
        engine.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "transformers")
