"""A matrix file checked on its own: shape, rules, fields, claims. Reads no model, no data, no network."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from evals.benchmarks import registry as benchmark_kinds
from evals.judges.worker import SCORE, WIN_RATE, cell_name
from harness.checks.combinations import check_combinations
from harness.checks.report import check_claims, check_report, check_sensitivity
from harness.checks.settings import check_data, check_save, check_snapshots
from harness.config import MatrixConfig, Source, parse, refuse
from harness.config.fields import check_fields, check_objective_fields
from harness.executors.registry import settings_of
from harness.plan.benchmarks import checked_kind
from harness.plan.matrix import RunSpec, expand
from harness.plan.references import DATA, EMBEDDED
from reports.compare.judges import LENGTH_CONTROLLED
from trainers.common import UserError, nearest

#: How PEFT may begin an adapter: with one that does nothing yet, so that the model without it is the start and the reference.
_STARTS = (True, False, "gaussian", "orthogonal")
#: Attention of transformers; a name with a slash is a kernel of the hub.
_ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flash_attention_4", "flex_attention")


class Checked(NamedTuple):
    """`problems` of a matrix file, a line each, and its `runs`, whose fingerprints cover no weights and no data."""

    problems: list[str]
    runs: list[RunSpec]


def check_static(source: Source) -> tuple[MatrixConfig, list[RunSpec]]:
    """The configuration and its runs.

    Raises:
        UserError: a line for each problem of the file.
    """
    config = parse(source)
    found = check(config, source)
    if found.problems:
        raise UserError("\n".join(found.problems))
    return config, found.runs


def check(config: MatrixConfig, source: Source) -> Checked:
    """Problems of a matrix file, each with file, line, key, value and fix: the first of each group of settings."""
    problems: list[str] = []
    runs: list[RunSpec] = []
    groups = (
        settings_of,
        _check_fields,
        check_data,
        check_save,
        _check_model,
        partial(_check_runs, runs),
        _check_measures,
    )
    for group in groups:
        try:
            group(config, source)
        except UserError as error:
            problems.append(str(error))
        except TypeError:  # a value that identifies no run, such as NaN: the group that owns its key has named it
            if not problems:
                raise
    return Checked(problems, runs)


def _check_fields(config: MatrixConfig, source: Source) -> None:
    check_fields("training", config.training, source, ("training",))
    for i, method in enumerate(config.methods):
        check_fields("training", method.training, source, ("methods", i, "training"), method.objective)
        if method.objective != "dpo":
            check_objective_fields(method.objective, config.training, source)
    if config.lora is not None:
        check_fields("lora", config.lora, source, ("lora",))


def _check_model(config: MatrixConfig, source: Source) -> None:
    model, bits = config.model, config.model.quantization
    attention, where = model.attn_implementation, source.at("model", "quantization")
    begins = (config.lora or {}).get("init_lora_weights", True)
    both = bits is not None and bits.load_in_4bit
    sets = "both load_in_4bit and load_in_8bit" if both else "neither load_in_4bit nor load_in_8bit"
    refuse(
        (
            attention not in _ATTENTION and "/" not in attention,
            f"{source.at('model', 'attn_implementation')} is {attention!r}; {nearest(attention, _ATTENTION)}",
        ),
        (
            begins not in _STARTS,
            f"{source.at('lora', 'init_lora_weights')} is {begins!r}, which changes the weights under the adapter (PiSSA, OLoRA, "
            "CorDA, LoftQ) or needs data (EVA): without it they are the reference; set it to true, gaussian or orthogonal",
        ),
        (
            model.adapter is None and model.adapter_revision is not None,
            f"{source.at('model', 'adapter_revision')} is {model.adapter_revision!r}, but no adapter is named; add adapter",
        ),
        (
            bits is not None and bits.load_in_4bit == bits.load_in_8bit,
            f"{where} sets {sets}; set one of them to true",
        ),
        (
            bits is not None and config.lora is None,
            f"{where} is set, but quantised weights cannot be trained; add lora: or remove it",
        ),
    )


def _check_runs(runs: list[RunSpec], config: MatrixConfig, source: Source) -> None:
    """Data that does not exist and settings that exclude one another; the runs go into `runs`."""
    for i, one in enumerate(config.data.sources):
        key = "data.train" if isinstance(config.data.train, str) else f"data.train[{i}].source"
        _check_embedded(one.source, f"{source.where(('data', 'train'))}: {key}")
    runs += expand(config, source)
    check_combinations(config, source, runs)


def _check_embedded(reference: str, key: str) -> None:
    name = reference.removeprefix(EMBEDDED)
    if reference.startswith(EMBEDDED) and name not in DATA:
        raise UserError(f"{key} is {reference!r}; no such embedded data; {nearest(name, DATA)}")


def _check_measures(config: MatrixConfig, source: Source) -> None:
    """Benchmarks, and what report, claims and checkpoints say of them; which rows a judge can read is known later."""
    measured: dict[str, tuple[str, ...] | None] = {}
    for i, benchmark in enumerate(config.evaluation.benchmarks):
        kind = checked_kind(benchmark, i, source)
        if benchmark.prompts is not None:
            _check_embedded(benchmark.prompts, source.at("evaluation", "benchmarks", i, "prompts"))
        measured[benchmark.name] = benchmark_kinds.find(kind).measures(benchmark.params)
    measured |= {task.task: None for task in config.evaluation.lm_eval}
    names = config.evaluation.benchmark_names
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{source.path}: duplicate benchmark name {twice!r}; names must be unique")
    measured |= {
        cell_name(name, judge.name): (WIN_RATE, SCORE, LENGTH_CONTROLLED)
        for judge in config.evaluation.judges
        for name in judge.benchmarks or names
    }
    check_report(config, source, measured)
    check_claims(config, source, measured)
    check_sensitivity(config, source, measured)
    check_snapshots(config, source)
