"""A judge of the matrix file, checked and resolved into an entry of the judging job."""

import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from pydantic import Field

from evals.benchmarks import registry as benchmarks_registry
from evals.job import LM_EVAL, BenchmarkEntry
from evals.judges import registry
from evals.judges.base import Judge, JudgeError
from evals.judges.worker import SCORE, WIN_RATE, JudgeEntry, cell_name
from harness.checks.report import Measured
from harness.config import JudgeConfig, MatrixConfig, ModelConfig, Source, refuse
from harness.plan.references import model_hash, resolve_model
from reports.compare.judges import LENGTH_CONTROLLED
from trainers.common import Json, UserError, file_hash, nearest

#: Keys that every judge reads.
_COMMON = ("name", "kind", "benchmarks", "pairs", "checkpoints")
#: A misspelt key of this form may hold a secret, so its value is not repeated.
_SECRET = re.compile(r"key|token$|secret|password|auth", re.IGNORECASE)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

At = Callable[..., str]


class PlannedJudge(JudgeEntry):
    """A judge, resolved; paths in `params` are absolute."""

    pairs: str = Field(description="all, or reference")
    checkpoints: bool = Field(description="whether it judges these too")
    compares: bool = Field(description="whether it takes two answers or scores one")
    files: dict[str, str] = Field(description="hashes of the files its parameters name")
    answers: dict[str, int] = Field(description="a policy's answers, by benchmark that it judges")


def resolve_judges(
    config: MatrixConfig, source: Source, benchmarks: Sequence[BenchmarkEntry], log: Callable[[str], None]
) -> list[PlannedJudge]:
    """The judges of evaluation.judges; `log` is told of an API key that is not set yet.

    Raises:
        UserError: unknown kind, key or benchmark, a duplicate name, a missing or ill-formed file.
    """
    found: list[PlannedJudge] = []
    rows = {planned.name: answered_rows(planned) for planned in benchmarks if config.evaluation.judges}
    for i, judge in enumerate(config.evaluation.judges):
        at = partial(source.at, "evaluation", "judges", i)
        found.append(_resolve(judge, source, at, rows, log))
        measured, said = config.evaluation.checkpoint_benchmarks, f"{at('checkpoints')} is true, but"
        refuse(
            (
                judge.name in [one.name for one in found[:-1]],
                f"{at('name')}: duplicate judge name {judge.name!r}; names must be unique",
            ),
            (
                judge.checkpoints and not config.evaluation.checkpoints,
                f"{said} evaluation.checkpoints is not set; add it, or remove this",
            ),
            (
                judge.checkpoints and measured is not None and not found[-1].answers.keys() & set(measured),
                f"{said} evaluation.checkpoint_benchmarks holds nothing that it judges "
                f"({', '.join(found[-1].answers)}); add one of them there, or remove this",
            ),
        )
    return found


def answered_rows(planned: BenchmarkEntry) -> tuple[list[Json], int]:
    """Rows of a benchmark whose answers a judge can read, none where it has no answers (pairs, KL, lm-eval); and how many
    answers each policy gives to them."""
    if planned.kind == LM_EVAL:
        return [], 0
    built = benchmarks_registry.build(planned.kind, planned.params)
    turns = [(row, len(built.turns_of(row))) for row in built.load(planned.prompts, planned.limit)]
    return [row for row, n in turns if n], planned.samples * sum(n for _, n in turns)


def judged_metrics(judges: Sequence[PlannedJudge]) -> Measured:
    """`<benchmark>@<judge>` and its metrics, of all that the judges score."""
    return {
        cell_name(benchmark, judge.name): (WIN_RATE, LENGTH_CONTROLLED, *(() if judge.compares else (SCORE,)))
        for judge in judges
        for benchmark in judge.answers
    }


def _resolve(
    judge: JudgeConfig, source: Source, at: At, rows: dict[str, tuple[list[Json], int]], log: Callable[[str], None]
) -> PlannedJudge:
    kind, base = source.placed(judge.kind), source.path.parent
    try:
        cls, names = registry.JUDGES.load(kind), registry.parameters(kind)
    except ValueError as error:
        raise UserError(f"{at('kind')} is {judge.kind!r}; {error}") from None
    unknown = next((key for key in judge.params if names is not None and key not in names), None)
    if unknown is not None:
        shown = "not shown" if _SECRET.search(unknown) else repr(judge.params[unknown])
        hint = nearest(unknown, [*_COMMON, *(names or ())])
        raise UserError(f"{at(unknown).replace(': ', ': unknown key ', 1)} (value {shown}); {hint}")
    params: Json = judge.params
    files: dict[str, str] = {}
    if isinstance(cls, type) and issubclass(cls, Judge):
        try:
            params, files = cls.placed(judge.params, base)
        except JudgeError as error:
            key, _, problem = str(error).partition(" ")
            raise UserError(f"{at(key)} {problem}") from None
    if (
        "serve" in params and kind == "llm"
    ):  # found as the model of the matrix is; its content is part of the name it has
        where, _, key = at("serve").rpartition(": ")
        model = resolve_model(ModelConfig(name_or_path=str(params["serve"])), where, log, base, key)
        files = files | {"serve": model_hash(model.path)}
        name = params.get("model") or Path(model.name.rpartition(":")[2]).name
        params = params | {"serve": str(model.path), "model": f"{name}-{files['serve'][:12]}"}
    _check_key(params.get("api_key_env"), at("api_key_env"), log)
    try:
        built = registry.build(kind, params)
    except ValueError as error:
        key = next((key for key in params if re.search(rf"\b{re.escape(key)}\b", str(error))), "kind")
        raise UserError(f"{at(key)}: {error}") from None
    file = registry.source_file(kind)
    judged = _benchmarks(judge, built, at, {name: found for name, (found, _) in rows.items()})
    return PlannedJudge(
        **judge.model_dump(include={"name", "pairs", "checkpoints"}),
        kind=kind,
        params=params,
        compares=built.compares,
        code=None if file is None else file_hash(file),
        files=files,
        answers={name: rows[name][1] for name in judged},
    )


def _check_key(name: object, at: str, log: Callable[[str], None]) -> None:
    """An API key comes from the environment alone: refuse one that was written down, and say early that one is not set."""
    if name is not None and not (isinstance(name, str) and _VARIABLE.fullmatch(name)):
        raise UserError(
            f"{at} is not the name of an environment variable (value not shown); export the key in a "
            "variable and write its name, for example JUDGE_API_KEY"
        )
    if name is not None and not os.environ.get(str(name)):
        log(f"{at} is {name!r}, which is not set: the judge will fail; export the key in it")


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
    fitting = [name for name in answered if all(key in row for key in built.context_keys for row in rows[name])]
    if wanted is None and not fitting:
        needed = f" whose rows hold {', '.join(built.context_keys)}" if built.context_keys else ""
        raise UserError(f"{at('kind')}: no benchmark has answers{needed}; add one, or remove the judge")
    return fitting if wanted is None else wanted
