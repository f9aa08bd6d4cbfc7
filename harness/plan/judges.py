"""A judge of the matrix file, checked and resolved into an entry of the judging job."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from evals.benchmarks import registry as benchmarks_registry
from evals.judges import registry
from evals.judges.base import Judge, JudgeError
from evals.judges.worker import SCORE, WIN_RATE, cell_name
from harness.checks.report import Measured
from harness.config import JudgeConfig, MatrixConfig, ModelConfig, Source, refuse
from harness.plan.entries import LM_EVAL, PlannedBenchmark, PlannedJudge
from harness.plan.model_hash import model_hash
from harness.plan.references import resolve_model
from reports.compare.judges import LENGTH_CONTROLLED
from trainers.common import Json, UserError, file_hash, nearest

#: Keys that every judge reads.
_COMMON = ("name", "kind", "benchmarks", "pairs", "checkpoints")
#: A misspelt key of this form may hold a secret, so its value is not repeated.
_SECRET = re.compile(r"key|token$|secret|password|auth", re.IGNORECASE)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

At = Callable[..., str]


def resolve_judges(
    config: MatrixConfig, source: Source, benchmarks: Sequence[PlannedBenchmark], log: Callable[[str], None]
) -> list[PlannedJudge]:
    """The judges of evaluation.judges; `log` is told of an API key that is not set yet.

    Raises:
        UserError: unknown kind, key or benchmark, a duplicate name, a missing or ill-formed file.
    """
    found: list[PlannedJudge] = []
    rows = {planned.name: answered_rows(planned) for planned in benchmarks if config.evaluation.judges}
    for i, judge in enumerate(config.evaluation.judges):
        at = partial(source.at, "evaluation", "judges", i)
        if judge.name in [one.name for one in found]:
            raise UserError(f"{at('name')}: duplicate judge name {judge.name!r}; names must be unique")
        found.append(_resolve(judge, source.path.parent, at, rows, log))
        _check_checkpoints(config, found[-1], at)
    return found


def _check_checkpoints(config: MatrixConfig, judge: PlannedJudge, at: At) -> None:
    measured, said = config.evaluation.checkpoint_benchmarks, f"{at('checkpoints')} is true, but"
    refuse(
        (
            judge.checkpoints and not config.evaluation.checkpoints,
            f"{said} evaluation.checkpoints is not set; add it, or remove this",
        ),
        (
            judge.checkpoints and measured is not None and not set(judge.benchmarks) & set(measured),
            f"{said} evaluation.checkpoint_benchmarks holds nothing that it judges "
            f"({', '.join(judge.benchmarks)}); add one of them there, or remove this",
        ),
    )


@dataclass(frozen=True)
class Answered:
    """Rows of a benchmark whose answers a judge can read, and how many answers each policy gives to them."""

    rows: list[Json]
    answers: int


def answered_rows(planned: PlannedBenchmark) -> Answered:
    """What a judge can read of a benchmark: nothing where it has no answers (pairs, KL, lm-eval)."""
    if planned.kind == LM_EVAL:
        return Answered([], 0)
    built = benchmarks_registry.build(planned.kind, planned.params)
    turns = [(row, len(built.turns_of(row))) for row in built.load(Path(planned.prompts), planned.limit)]
    return Answered([row for row, n in turns if n], planned.samples * sum(n for _, n in turns))


def judged_metrics(judges: Sequence[PlannedJudge]) -> Measured:
    """`<benchmark>@<judge>` and its metrics, of all that the judges score."""
    return {
        cell_name(benchmark, judge.name): (WIN_RATE, LENGTH_CONTROLLED, *(() if judge.compares else (SCORE,)))
        for judge in judges
        for benchmark in judge.benchmarks
    }


def _resolve(
    judge: JudgeConfig, base: Path, at: At, rows: dict[str, Answered], log: Callable[[str], None]
) -> PlannedJudge:
    kind = judge.kind
    file = registry.source_file(kind)
    if file is not None:  # relative to the matrix file, as all paths are
        file = (base / file.expanduser()).resolve()
        kind = f"{file}:{kind.rpartition(':')[2]}"
    try:
        cls, names = registry.JUDGES.load(kind), registry.parameters(kind)
    except ValueError as error:
        raise UserError(f"{at('kind')} is {judge.kind!r}; {error}") from None
    for key, value in judge.params.items():
        if names is not None and key not in names:
            shown = "not shown" if _SECRET.search(key) else repr(value)
            raise UserError(
                f"{at(key).replace(': ', ': unknown key ', 1)} (value {shown}); {nearest(key, [*_COMMON, *names])}"
            )
    try:
        params, files = (
            cls.placed(judge.params, base) if isinstance(cls, type) and issubclass(cls, Judge) else (judge.params, {})
        )
    except JudgeError as error:
        key, _, problem = str(error).partition(" ")
        raise UserError(f"{at(key)} {problem}") from None
    if "serve" in params and kind == "llm":
        params, files = _served(params, files, base, at, log)
    _check_key(params, at, log)
    try:
        built = registry.build(kind, params)
    except ValueError as error:
        key = next((key for key in params if re.search(rf"\b{re.escape(key)}\b", str(error))), "kind")
        raise UserError(f"{at(key)}: {error}") from None
    benchmarks = _benchmarks(judge, built, at, {name: found.rows for name, found in rows.items()})
    return PlannedJudge(
        name=judge.name,
        kind=kind,
        params=params,
        pairs=judge.pairs,
        checkpoints=judge.checkpoints,
        compares=built.compares,
        code=None if file is None else file_hash(file),
        files=files,
        benchmarks=benchmarks,
        answers={name: rows[name].answers for name in benchmarks},
    )


def _served(
    params: Json, files: dict[str, str], base: Path, at: At, log: Callable[[str], None]
) -> tuple[Json, dict[str, str]]:
    """The model that a judge serves, found as the model of the matrix is; its content is part of the name it is served by."""
    wanted = ModelConfig.model_validate({"name_or_path": str(params["serve"])})
    where, _, key = at("serve").rpartition(": ")
    found = resolve_model(wanted, where, log, base, key)
    digest = model_hash(found.path)
    name = f"{params.get('model') or Path(found.name.rpartition(':')[2]).name}-{digest[:12]}"
    return {**params, "serve": str(found.path), "model": name}, {**files, "serve": digest}


def _check_key(params: Json, at: At, log: Callable[[str], None]) -> None:
    """An API key comes from the environment alone: refuse one that was written down, and say early that one is not set."""
    name = params.get("api_key_env")
    if name is None:
        return
    if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
        raise UserError(
            f"{at('api_key_env')} is not the name of an environment variable (value not shown); export the key in a "
            "variable and write its name, for example JUDGE_API_KEY"
        )
    if not os.environ.get(name):
        log(f"{at('api_key_env')} is {name!r}, which is not set: the judge will fail; export the key in it")


def _benchmarks(judge: JudgeConfig, built: Judge, at: At, rows: dict[str, list[Json]]) -> list[str]:
    """What it judges: the benchmarks named, or all with answers whose rows hold what the judge reads."""
    answered = [name for name, found in rows.items() if found]
    wanted = judge.benchmarks
    for j, name in enumerate(wanted or []):
        said, found = f"{at('benchmarks', j)} is {name!r}", rows.get(name, [])
        lacking = next((key for key in built.context_keys if not any(key in row for row in found)), None)
        refuse(
            (name not in rows, f"{said}; {nearest(name, rows)}"),
            (
                name not in answered,
                f"{said}, which has no answers to judge; with answers: {', '.join(answered) or 'none'}",
            ),
            ((wanted or []).index(name) != j, f"{said}, which is listed twice; remove one"),
            (
                lacking is not None,
                f"{said}, whose rows have no {lacking!r}, which this judge reads; use another judge",
            ),
        )
    if wanted is not None:
        return list(wanted)
    fitting = [name for name in answered if all(key in row for key in built.context_keys for row in rows[name])]
    if not fitting:
        needed = f" whose rows hold {', '.join(built.context_keys)}" if built.context_keys else ""
        raise UserError(f"{at('kind')}: no benchmark has answers{needed}; add one, or remove the judge")
    return fitting
