"""A matrix file checked by itself: shape, rules, fields, claims. Needs no model, no data, no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evals.benchmarks import registry as benchmark_kinds
from harness.checks.combinations import check_combinations
from harness.checks.report import check_claims, check_report
from harness.checks.settings import check_data, check_save
from harness.config.fields import check_fields, check_objective_fields
from harness.config.matrix_file import MatrixConfig, parse
from harness.config.source import Source
from harness.executors.registry import settings_of
from harness.plan.benchmarks import _check_keys
from harness.plan.matrix import RunSpec, expand
from harness.plan.references import DATA, EMBEDDED
from trainers.common.errors import UserError
from trainers.common.words import nearest


def check_settings(config: MatrixConfig, source: Source) -> None:
    """Check training, LoRA and model settings by name, type and against one another.

    Raises:
        UserError: the first mistake, with file, line, key, value and fix.
    """
    check_fields("training", config.training, source, ("training",))
    for i, method in enumerate(config.methods):
        check_fields("training", method.training, source, ("methods", i, "training"), method.objective)
        if method.objective != "dpo":
            check_objective_fields(method.objective, config.training, source)
    if config.lora is not None:
        check_fields("lora", config.lora, source, ("lora",))
    check_data(config, source)
    check_save(config, source)
    _check_model(config, source)


#: Attention of transformers; a name with a slash is a kernel of the hub.
_ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flash_attention_4", "flex_attention")


def _check_model(config: MatrixConfig, source: Source) -> None:
    model, bits = config.model, config.model.quantization
    if model.attn_implementation not in _ATTENTION and "/" not in model.attn_implementation:
        where = source.where(("model", "attn_implementation"))
        raise UserError(
            f"{where}: model.attn_implementation is {model.attn_implementation!r}; "
            f"{nearest(model.attn_implementation, _ATTENTION)}"
        )
    if model.adapter is None and model.adapter_revision is not None:
        where = source.where(("model", "adapter_revision"))
        raise UserError(
            f"{where}: model.adapter_revision is {model.adapter_revision!r}, but no adapter is named; add adapter"
        )
    if bits is None:
        return
    where = source.where(("model", "quantization"))
    if bits.load_in_4bit == bits.load_in_8bit:
        both = "both load_in_4bit and load_in_8bit" if bits.load_in_4bit else "neither load_in_4bit nor load_in_8bit"
        raise UserError(f"{where}: model.quantization sets {both}; set one of them to true")
    if config.lora is None:
        raise UserError(
            f"{where}: model.quantization is set, but quantised weights cannot be trained; add lora: or remove it"
        )


def _benchmarks(config: MatrixConfig, source: Source) -> list[dict[str, Any]]:
    """Name and kind of every benchmark; kinds, keys and packaged prompts are checked, files are not looked for."""
    found: list[dict[str, Any]] = []
    for i, benchmark in enumerate(config.evaluation.benchmarks):

        def at(key: str, i: int = i) -> str:
            return f"{source.where(('evaluation', 'benchmarks', i, key))}: evaluation.benchmarks[{i}].{key}"

        kind, file = benchmark.kind, benchmark_kinds.source_file(benchmark.kind)
        if file is not None:
            kind = f"{(source.path.parent / file.expanduser()).resolve()}:{kind.rpartition(':')[2]}"
        try:
            cls = benchmark_kinds.find(kind)
        except ValueError as error:
            raise UserError(f"{at('kind')} is {benchmark.kind!r}; {error}") from None
        _check_keys(benchmark, cls, at)
        if benchmark.prompts is not None:
            _check_embedded(benchmark.prompts, at("prompts"))
        found.append({"name": benchmark.name, "kind": kind})
    found += [{"name": task.task, "kind": "lm_eval"} for task in config.evaluation.lm_eval]
    names = [entry["name"] for entry in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{source.path}: two benchmarks are called {twice!r}; give each a name of its own")
    return found


def _check_embedded(reference: str, key: str) -> None:
    name = reference.removeprefix(EMBEDDED)
    if reference.startswith(EMBEDDED) and name not in DATA:
        raise UserError(f"{key} is {reference!r}; no such embedded data; {nearest(name, DATA)}")


def check_static(source: Source) -> tuple[MatrixConfig, Sequence[RunSpec]]:
    """The configuration and its runs (with fingerprints that stand for no weights or data).

    Raises:
        UserError: whatever is wrong in the file itself.
    """
    config = parse(source)
    settings_of(config, source)
    check_settings(config, source)
    for i, one in enumerate(config.data.sources):
        key = "data.train" if isinstance(config.data.train, str) else f"data.train[{i}].source"
        _check_embedded(one.source, f"{source.where(('data', 'train'))}: {key}")
    runs = expand(config, source, "unknown", "unknown")
    check_combinations(config, source, runs, [], Path(config.data.sources[0].source))
    benchmarks = _benchmarks(config, source)
    check_report(config, source, benchmarks)
    check_claims(config, source, benchmarks)
    return config, runs
