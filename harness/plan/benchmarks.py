"""A benchmark of the matrix file, checked and resolved into an entry of the evaluation job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.benchmarks import registry
from evals.benchmarks.base import SAMPLING, Benchmark
from evals.rewards.registry import placed
from harness.config.evaluation import BenchmarkConfig, LmEvalConfig
from harness.config.matrix_file import MatrixConfig
from harness.config.source import Source
from harness.plan.data import heldout_file, prompts_file
from trainers.common.errors import UserError
from trainers.common.files import file_hash, fingerprint
from trainers.common.words import nearest

#: Keys that every kind reads.
_COMMON = ("name", "kind", "prompts", "limit", "noise")


def resolve_benchmark(
    config: MatrixConfig, source: Source, i: int, engine: dict[str, Any], held_file: Path | None = None
) -> dict[str, Any]:
    """The entry of evaluation.benchmarks[i]: its settings with the kind's own defaults, its file, a fingerprint.

    Args:
        engine: settings of the engine that determine the answers; part of the fingerprint.
        held_file: pairs held out from the training data, where `data.heldout_share` is set.

    Raises:
        UserError: unknown kind or key, a key the kind does not read, a missing or ill-formed file.
    """
    benchmark = config.evaluation.benchmarks[i]

    def at(key: str) -> str:
        return f"{source.where(('evaluation', 'benchmarks', i, key))}: evaluation.benchmarks[{i}].{key}"

    kind = benchmark.kind
    file = registry.source_file(kind)
    if file is not None:  # relative to the matrix file, as all paths are
        file = (source.path.parent / file.expanduser()).resolve()
        kind = f"{file}:{kind.rpartition(':')[2]}"
    try:
        cls = registry.find(kind)
    except ValueError as error:
        raise UserError(f"{at('kind')} is {benchmark.kind!r}; {error}") from None
    _check_keys(benchmark, cls, at)
    params = benchmark.params
    if kind == "gold_reward" and "reward" in params:
        params["reward"] = placed(params["reward"], source.path.parent)
    try:
        built = registry.build(kind, params)
    except ValueError as error:
        raise UserError(f"{at(next(iter(benchmark.params), 'kind'))}: {error}") from None
    settings = {key: value for key, value in benchmark.model_dump().items() if key not in benchmark.params}
    settings |= {key: value for key, value in cls.defaults.items() if key not in benchmark.model_fields_set}
    longest = config.evaluation.engine.max_model_len
    if settings["max_new_tokens"] >= longest:
        raise UserError(
            f"{at('max_new_tokens')} is {settings['max_new_tokens']}, which leaves no room for a prompt in "
            f"evaluation.engine.max_model_len {longest}; raise that, or lower max_new_tokens"
        )
    path = _rows_file(benchmark, config, source, at, held_file)
    try:
        rows = built.load(path, benchmark.limit)
    except ValueError as error:
        raise UserError(str(error)) from None
    entry = {**settings, "kind": benchmark.kind}
    if not entry.pop("noise"):
        noise: dict[str, Any] = {}
    else:
        noise = {"noise": True}
    own = {"params": {**benchmark.params, **built.identity()}} if params else {}
    identity = {**entry, **noise, **own, "prompts": rows, "engine": engine}
    if file is not None:
        identity |= {"kind": benchmark.kind.rpartition(":")[2], "code": file_hash(file)}
    return {
        **entry,
        **noise,
        **({"params": params} if params else {}),
        "kind": kind,
        "prompts": str(path.resolve()),
        "fingerprint": fingerprint(identity),
    }


def task_settings(task: LmEvalConfig) -> dict[str, Any]:
    """Settings of an entry of evaluation.lm_eval; those of the chat only where they count, so that tasks keep their identity."""
    found = task.model_dump()
    if not task.apply_chat_template:
        del found["apply_chat_template"], found["fewshot_as_multiturn"]
    if task.system_instruction is None:
        del found["system_instruction"]
    if not task.noise:
        del found["noise"]
    return found


def _check_keys(benchmark: BenchmarkConfig, cls: type[Benchmark], at: Any) -> None:
    takes = [*_COMMON, *cls.takes, *registry.parameters(cls)]
    for key in [*benchmark.params, *benchmark.model_fields_set]:
        if key in takes:
            continue
        value = getattr(benchmark, key, benchmark.params.get(key))
        if key in SAMPLING:
            raise UserError(f"{at(key)} is {value!r}, and kind {benchmark.kind!r} has no such setting; remove it")
        raise UserError(f"{at(key).replace(': ', ': unknown key ', 1)} (value {value!r}); {nearest(key, takes)}")


def _rows_file(
    benchmark: BenchmarkConfig, config: MatrixConfig, source: Source, at: Any, held_file: Path | None
) -> Path:
    where, key = at("prompts").split(": ", 1)
    if benchmark.prompts is not None:
        if benchmark.kind == "preference":
            return heldout_file(benchmark.prompts, source.path.parent, where, config.data.without_preference, key)
        return prompts_file(benchmark.prompts, source.path.parent, where, key, benchmark.limit)
    if benchmark.kind != "preference":
        raise UserError(f"{where}: {key} is missing; add it: a JSONL file, or embedded:...")
    if held_file is not None:
        return held_file
    if config.data.heldout is None:
        raise UserError(
            f"{where}: {key} is missing, and so is data.heldout; add one of them, or data.heldout_share: 0.1 to hold out a "
            "part of the training pairs"
        )
    place = source.where(("data", "heldout"))
    return heldout_file(config.data.heldout, source.path.parent, place, config.data.without_preference)


def prompts_of(entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(id, prompt) of every prompt of a resolved benchmark; kind lm_eval keeps its documents to itself and gives none."""
    if entry["kind"] == "lm_eval":
        return []
    benchmark = registry.build(entry["kind"], entry.get("params"))
    rows = benchmark.load(Path(entry["prompts"]), entry["limit"])
    return [(row["id"], prompt) for row in rows for prompt in benchmark.prompts_of(row)]


def contamination_of(training: Sequence[str], benchmarks: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """How many prompts of each benchmark were trained on (see evals.contamination), by its name.

    Args:
        training: the last user message of every training pair. benchmarks: resolved entries.
    """
    from evals.contamination import contamination

    prompts = {str(entry["name"]): prompts_of(entry) for entry in benchmarks}
    return contamination(training, {name: found for name, found in prompts.items() if found})
