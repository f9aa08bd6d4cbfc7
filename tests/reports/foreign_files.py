"""Files as other tools write them, small: keys and shapes were taken from the tools' own output and sources."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TIME = "2026-01-02T03-04-05.678901"


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")


def trl_record(step: int, of: int, **more: float) -> dict[str, Any]:
    """One training record of trl.DPOTrainer."""
    return {
        "entropy": 5.4,
        "epoch": step / of,
        "grad_norm": 1.5 + 0.1 * step,
        "learning_rate": 1e-6,
        "logits/chosen": -0.01,
        "logits/rejected": -0.02,
        "logps/chosen": -40.0 - step,
        "logps/rejected": -33.0 - step,
        "loss": 0.7 - 0.02 * step,
        "mean_token_accuracy": 0.3,
        "num_tokens": 38.0 * step,
        "rewards/accuracies": 0.5,
        "rewards/chosen": 0.01 * step,
        "rewards/margins": 0.02 * step,
        "rewards/rejected": -0.01 * step,
        "step": step,
        **more,
    }


def trainer_state(path: Path, records: Sequence[Mapping[str, Any]], step: int, of: int) -> None:
    """A trainer_state.json as transformers.TrainerState.save_to_json writes it."""
    write_json(
        path,
        {
            "best_global_step": None,
            "best_metric": None,
            "best_model_checkpoint": None,
            "epoch": step / of,
            "eval_steps": 500,
            "global_step": step,
            "is_hyper_param_search": False,
            "is_local_process_zero": True,
            "is_world_process_zero": True,
            "log_history": list(records),
            "logging_steps": 1,
            "max_steps": of,
            "num_input_tokens_seen": 0,
            "num_train_epochs": 1,
            "save_steps": 1,
            "stateful_callbacks": {},
            "total_flos": 8924160.0,
            "train_batch_size": 2,
            "trial_name": None,
            "trial_params": None,
        },
    )


def factory_line(step: int, of: int, **more: Any) -> dict[str, Any]:
    """One line of LLaMA-Factory's trainer_log.jsonl at the preference stage."""
    return {
        "current_steps": step,
        "total_steps": of,
        "loss": 0.69 - 0.03 * step,
        "accuracy": 0.4000000059604645,
        "lr": 2.777777777777778e-05,
        "epoch": step / of,
        "percentage": round(100 * step / of, 2),
        "elapsed_time": "0:00:27",
        "remaining_time": "0:00:27",
        **more,
    }


def factory(directory: Path, steps: int, of: int, arguments: str | None = None, ended: bool = True) -> None:
    """An output folder of LLaMA-Factory without a state file: trainer_log.jsonl, all_results.json, training_args.yaml."""
    directory.mkdir(parents=True, exist_ok=True)
    lines = [factory_line(step, of) for step in range(1, steps + 1)]
    if ended:
        last = {k: v for k, v in factory_line(of, of).items() if k not in ("loss", "accuracy", "lr")}
        lines.append(last)
        write_json(
            directory / "all_results.json",
            {
                "epoch": 1.0,
                "total_flos": 36653597884416.0,
                "train_loss": 0.61,
                "train_runtime": 70.6535,
                "train_samples_per_second": 0.283,
                "train_steps_per_second": 0.142,
            },
        )
    (directory / "trainer_log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    if arguments is not None:
        (directory / "training_args.yaml").write_text(arguments, encoding="utf-8")


def evaluation(
    directory: Path,
    scores: Sequence[float],
    *,
    task: str = "arc_easy",
    first: int = 0,
    samples: bool = True,
    shots: int = 0,
    time: str = TIME,
) -> None:
    """An lm-eval folder of one model: document i of the task scored scores[i - first] on acc."""
    n = len(scores)
    mean = sum(scores) / n
    error = (sum((s - mean) ** 2 for s in scores) / (n - 1) / n) ** 0.5
    write_json(
        directory / f"results_{time}.json",
        {
            "results": {task: {"alias": task, "sample_len": n, "acc,none": mean, "acc_stderr,none": error}},
            "group_subtasks": {task: []},
            "configs": {task: {"task": task, "output_type": "multiple_choice"}},
            "versions": {task: 1.0},
            "n-shot": {task: shots},
            "higher_is_better": {task: {"acc": True}},
            "n-samples": {task: {"original": n, "effective": n}},
            "config": {"model": "hf", "model_args": "pretrained=policy", "random_seed": 0},
            "model_source": "hf",
            "model_name": "policy",
            "model_name_sanitized": "policy",
            "chat_template_sha": None,
            "task_hashes": {},
        },
    )
    if not samples:
        return
    rows = []
    for doc, score in enumerate(scores, start=first):
        text = f"Question {doc}?"
        rows.append(
            {
                "doc_id": doc - first,
                "doc": {"question": text},
                "target": "0",
                "arguments": {
                    "gen_args_0": {"arg_0": text, "arg_1": " yes"},
                    "gen_args_1": {"arg_0": text, "arg_1": " no"},
                },
                "resps": [[["-3.5", "False"]], [["-4.5", "False"]]],
                "filtered_resps": [["-3.5", "False"], ["-4.5", "False"]],
                "filter": "none",
                "metrics": ["acc"],
                "doc_hash": hashlib.sha256(text.encode()).hexdigest(),
                "prompt_hash": hashlib.sha256(f"{shots}{text}".encode()).hexdigest(),
                "target_hash": hashlib.sha256(b"0").hexdigest(),
                "acc": float(score),
            }
        )
    path = directory / f"samples_{task}_{time}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
