"""Run one lm-eval task on an engine and keep what every document gave, in the shape of `scores/<benchmark>.json`."""

import logging
import math
from collections.abc import Iterable
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import lm_eval
from lm_eval.tasks import TaskManager
from lm_eval.tasks._index import Kind
from lm_eval.tasks._yaml_loader import load_yaml
from torch.utils import collect_env

from evals.benchmarks.base import Visit
from evals.estimates import score_file
from evals.job import LM_EVAL
from evals.lm_eval.model import EngineLM, ResultCache, cache_path
from trainers.common.files import Json

# lm-eval describes the machine after every task, in seconds (it runs pip, lscpu and more); once a process is enough
collect_env.get_pretty_env_info = cache(collect_env.get_pretty_env_info)

TASKS = Path(__file__).parents[1] / "tasks"
#: The first of these that a task reports is its primary metric; else the first metric it reports.
PRIMARY = ("acc", "exact_match")


#: Settings of a task that lm-eval's simple_evaluate takes as they are.
CHAT_KEYS = ("apply_chat_template", "fewshot_as_multiturn", "system_instruction")


class TaskError(ValueError):
    """The task does not exist, or cannot be run as asked."""


def _absolute(files: Any, base: Path) -> Any:
    """`data_files` of a task, with paths that exist under `base` made absolute."""
    if isinstance(files, dict):
        return {key: _absolute(value, base) for key, value in files.items()}
    if isinstance(files, list):
        return [_absolute(value, base) for value in files]
    return str((base / files).resolve()) if (base / files).exists() else files


def _resolve_data_files(manager: Any, roots: Iterable[Path]) -> None:
    """Let tasks under `roots` name data files relative to their YAML: `datasets` looks in the working directory."""
    parents = [root.resolve() for root in roots]
    for entry in manager.task_index.values():
        path = entry.yaml_path and entry.yaml_path.resolve()
        if entry.kind is not Kind.TASK or not path or not any(path.is_relative_to(parent) for parent in parents):
            continue
        if not ((entry.cfg or {}).get("dataset_kwargs") or {}).get("data_files"):
            continue
        config = load_yaml(path, resolve_func=True)
        keywords = config["dataset_kwargs"]
        entry.cfg = {
            **config,
            "dataset_kwargs": {**keywords, "data_files": _absolute(keywords["data_files"], path.parent)},
        }
        entry.yaml_path = None  # lm-eval then takes the config above instead of reading the file again


@lru_cache(maxsize=8)
def _manager(roots: tuple[Path, ...], include_defaults: bool) -> Any:
    """An index of tasks; with lm-eval's own, thousands of YAML files are read, so it is kept."""
    manager = TaskManager(include_path=list(roots), include_defaults=include_defaults)
    _resolve_data_files(manager, roots)
    return manager


def load_task(task: str, include_path: Path | None) -> tuple[Any, Any]:
    """The task of that name from `include_path`, else from this package, else from lm-eval itself, and its index.

    Raises:
        TaskError: there is none, the name stands for several tasks, or `include_path` is no directory.
    """
    roots = [TASKS]
    if include_path is not None:
        if not Path(include_path).is_dir():
            raise TaskError(f"include_path {include_path} is not a directory; give the one that holds the task's YAML")
        roots.append(Path(include_path))  # later directories win
    manager = _manager(tuple(roots), False)
    if task not in manager.task_index:
        manager = _manager(tuple(roots), True)
    if task not in manager.task_index:
        raise TaskError(f"lm_eval task {task!r} not found in {', '.join(map(str, roots))} or lm-eval; check its name")
    loaded = manager.load([task])
    if list(loaded["tasks"]) != [task]:
        some = ", ".join(sorted(loaded["tasks"])[:5])
        raise TaskError(f"lm_eval task {task!r} is a group of tasks; list the ones you want, such as {some}")
    return loaded["tasks"][task], manager


def _number(value: Any) -> float | None:
    """A plain finite float, or None for what is not a number (lm-eval writes N/A where there is no standard error)."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _name(metric: str, chosen: str, filters: list[str]) -> str:
    """Metric as reported: with its filter where a task scores the same answers through several."""
    return metric if len(filters) == 1 else f"{metric},{chosen}"


def _texts(sample: Json, output_type: str) -> Json:
    """Prompt, answer and target of a document, as text."""
    prompt, target = sample["arguments"][0][0], sample["target"]
    if output_type == "multiple_choice":
        choices = sample["arguments"]
        if "acc_mutual_info" in sample["metrics"]:  # the second half asks for each choice without the context
            choices = choices[: len(choices) // 2]
        scores = [response[0][0] for response in sample["resps"][: len(choices)]]
        best = max(range(len(scores)), key=scores.__getitem__)
        # tasks with one continuation and several contexts (Winogrande) choose among the contexts
        part = 1 if len({arguments[0] for arguments in choices}) == 1 else 0
        if isinstance(target, int) and 0 <= target < len(choices):
            target = choices[target][part]
        return {"prompt": prompt, "response": choices[best][part].strip(), "target": str(target).strip()}
    first = sample["resps"][0][0]
    return {"prompt": prompt, "response": first if isinstance(first, str) else None, "target": str(target)}


def _items(samples: list[Json], filters: list[str], output_type: str) -> list[Json]:
    """One item a document, whatever the number of filters: (metric, filter) names a value, doc_id the item."""
    items: dict[str, Json] = {}
    for sample in samples:
        key = str(sample["doc_id"])
        if key not in items:
            hashes = {"doc_hash": sample["doc_hash"], "prompt_hash": sample["prompt_hash"]}
            items[key] = {"id": key, "values": {}, "group": None, **hashes, **_texts(sample, output_type)}
        items[key]["values"] |= {
            _name(metric, sample["filter"], filters): _number(sample[metric])
            for metric in sample["metrics"]
            # corpus metrics (perplexity, BLEU) keep parts here, not a score of the document
            if not isinstance(sample[metric], (tuple, list, dict, str))
        }
    return list(items.values())


def _metrics(output: Json, task: str, filters: list[str]) -> dict[str, Json]:
    results, samples = output["results"][task], output["samples"][task]
    named = [(metric, chosen) for metric, _, chosen in (key.partition(",") for key in results) if chosen]
    return {
        _name(metric, chosen, filters): {
            "value": _number(results[f"{metric},{chosen}"]),
            "stderr": _number(results.get(f"{metric}_stderr,{chosen}")),
            "n": sum(metric in sample["metrics"] for sample in samples if sample["filter"] == chosen),
            "higher_is_better": bool(output["higher_is_better"][task].get(metric, True)),
        }
        for metric, chosen in named
        if not metric.endswith("_stderr")
    }


def _dataset(task: Any) -> Json | None:
    """Where a task's documents come from on the hub: `id`, `config`, `split`; None for files."""
    name = task.get_config("dataset_path")
    if not isinstance(name, str) or name.count("/") != 1 or Path(name).exists():
        return None
    split = task.get_config("test_split") or task.get_config("validation_split")
    return {"id": name, "config": task.get_config("dataset_name"), "split": split}


def run_task(visit: Visit, again: bool = False) -> Json:
    """Scores of the engine's present weights on the lm-eval task of a visit (its first `limit` documents).

    Results of requests are kept in the policy's directory as they come.

    Args:
        again: a second time, keeping nothing and asking for the last document first, so that each comes in another batch: how
            far the results differ is the engine's noise.

    Returns:
        The content of `scores/<benchmark>.json`, kind `lm_eval`; values that are not finite are None.

    Raises:
        TaskError: the task does not exist or cannot be run as asked.
    """
    entry, fingerprint = visit.benchmark, visit.benchmark.cell(visit.policy)
    found, manager = load_task(entry.task, entry.include_path)
    if entry.num_fewshot and found.get_config("num_fewshot") == 0:
        raise TaskError(
            f"task {entry.task!r} fixes num_fewshot to 0; remove num_fewshot: {entry.num_fewshot} from the benchmark"
        )
    logging.getLogger("lm_eval").setLevel(logging.WARNING)
    cache = None if again else ResultCache(cache_path(visit.policy.out, visit.name), fingerprint)
    chat = {key: value for key, value in (entry.model_extra or {}).items() if key in CHAT_KEYS}
    output = lm_eval.simple_evaluate(
        EngineLM(visit.engine, visit.progress, cache, again),
        tasks=[found],
        num_fewshot=entry.num_fewshot,
        limit=entry.limit,
        log_samples=True,
        bootstrap_iters=1000,
        task_manager=manager,  # without one, lm-eval reads its whole index on every call
        **chat,
    )
    samples = output["samples"][entry.task]
    filters = list(dict.fromkeys(sample["filter"] for sample in samples))
    metrics = _metrics(output, entry.task, filters)
    ranked = [name for wanted in PRIMARY for name in metrics if name.partition(",")[0] == wanted]
    items = _items(samples, filters, str(found.get_config("output_type")))
    return score_file(visit.name, LM_EVAL, visit.policy.run_id, fingerprint, items, metrics, [*ranked, *metrics][0]) | {
        "task": entry.task,
        "dataset": _dataset(found),
        "num_fewshot": output["n-shot"][entry.task],
        "chat": chat,
        "versions": {"lm_eval": lm_eval.__version__, "task": str(output["versions"][entry.task])},
    }
