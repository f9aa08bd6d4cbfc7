"""From a configuration to its runs: method x hyper-parameters x seed, each with a fingerprint."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config.matrix_file import MatrixConfig, MethodConfig
from harness.config.source import Source
from harness.plan.model_hash import TRAIN_VERSION
from trainers.common.errors import UserError
from trainers.common.files import Json, file_hash, fingerprint, stable
from trainers.common.plugins import is_file_target
from trainers.rules import catalogue
from trainers.run import objectives

#: Training settings that leave a run's numbers alone.
_EXECUTION = {
    "report_to",
    "logging_dir",
    "save_steps",
    "save_strategy",
    "save_total_limit",
    "dataloader_num_workers",
    "dataloader_pin_memory",
    "dataloader_prefetch_factor",
    "dataloader_persistent_workers",
    "dataset_num_proc",
    "use_cpu",
    "trackio_space_id",
    "project",
    "log_level",
    "ddp_timeout",
}


@dataclass(frozen=True)
class RunSpec:
    """One run. `params` are the rule's parameters with defaults filled in; `hyper` is what the grid chose.

    `parent` is the run id of the run a control repeats, and `parent_method` its method.
    """

    run_id: str
    fingerprint: str
    method: str
    rule: str
    seed: int
    params: Json
    hyper: Json
    training: Json
    parent: str | None = None
    parent_method: str | None = None
    objective: str = "dpo"

    @property
    def label(self) -> str:
        """What people call it: method, chosen hyper-parameters, seed."""
        chosen = ", ".join(f"{key}={value}" for key, value in self.hyper.items())
        return f"{self.method}{f' [{chosen}]' if chosen else ''} seed {self.seed}"


def _points(grid: dict[str, list[Any]]) -> Iterator[Json]:
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def _rule(method: MethodConfig, index: int, source: Source) -> tuple[str, str | None]:
    rule = method.rule or method.name
    if not is_file_target(rule):
        return rule, None
    name, _, cls = rule.rpartition(":")
    path = (source.path.parent / Path(name).expanduser()).resolve()
    if not path.is_file():
        where = source.at("methods", index, "rule")
        raise UserError(f"{where} is {rule!r}; no such file: {path} (paths are relative to the matrix file)")
    return f"{path}:{cls}", file_hash(path)


def _rule_params(method: MethodConfig, rule: str, point: Json, index: int, source: Source) -> Json:
    try:
        params = objectives.validate(method.objective, rule, {**method.params, **point})
    except (catalogue.RuleError, objectives.ObjectiveError) as error:
        keys = [key for key in {**method.params, **point} if key in str(error)] or ["rule"]
        where = source.where(("methods", index, keys[0]))
        raise UserError(f"{where}: methods[{index}] ({method.name}): {error}") from None
    for key, value in params.items():
        try:
            stable(value, key)
        except TypeError as error:
            where = source.where(("methods", index, key))
            raise UserError(
                f"{where}: methods[{index}] ({method.name}): {error}; give text or a finite number"
            ) from None
    return {key: _number(value, rule, key) for key, value in params.items()}


def _number(value: Any, rule: str, key: str) -> Any:
    """1 and 1.0 are the same where the rule's parameter is a float; otherwise `value` as it is."""
    known = catalogue.info(rule).params.get(key)
    is_float = known is not None and isinstance(known.default, float)
    return float(value) if is_float and isinstance(value, int) and not isinstance(value, bool) else value


@dataclass(frozen=True)
class _Cell:
    """The parts of a run, before it has an identity."""

    rule: str
    rule_file: str | None
    params: Json
    hyper: Json
    training: Json
    seed: int
    parent: RunSpec | None = None


def expand(config: MatrixConfig, source: Source, model_hash: str, data_hash: str) -> list[RunSpec]:
    """All runs of a matrix, in the order they are trained: seed by seed, so that every method has results early, and
    controls after their parents.

    Args:
        model_hash: identity of the starting weights. data_hash: identity of the training pairs.

    Raises:
        UserError: unknown rules or parameters, an empty grid, repeated seeds, methods or runs, a control without a parent.
    """
    shared = {
        "version": TRAIN_VERSION,
        "model": model_hash,
        "dtype": config.model.dtype,
        "attention": config.model.attn_implementation,
        "data": data_hash,
        "lora": config.lora,
        "prefix_sharing": config.prefix_sharing,
    }
    if config.model.quantization is not None:
        shared["quantization"] = config.model.quantization.model_dump()
    _check_names(config, source)
    by_method: dict[str, list[RunSpec]] = {}
    seen: dict[str, str] = {}
    # controls last, whatever the order in the file: they need their parents' runs
    order = sorted(range(len(config.methods)), key=lambda i: config.methods[i].parent is not None)
    for index in order:
        method = config.methods[index]
        for cell in _cells(config, method, index, source, by_method):
            spec = _spec(method, cell, shared)
            if spec.fingerprint in seen:
                raise UserError(
                    f"{source.where(('methods', index))}: {spec.label} is the same run as {seen[spec.fingerprint]} "
                    "(same rule, parameters and seed); remove one of them"
                )
            seen[spec.fingerprint] = spec.label
            by_method.setdefault(method.name, []).append(spec)
    runs = [spec for index in sorted(order) for spec in by_method[config.methods[index].name]]
    rank = {seed: i for i, seed in enumerate(dict.fromkeys(run.seed for run in runs))}
    return sorted(runs, key=lambda run: (rank[run.seed], run.parent is not None))


def _check_names(config: MatrixConfig, source: Source) -> None:
    names: set[str] = set()
    for index, method in enumerate(config.methods):
        where = source.where(("methods", index))
        if method.name in names:
            raise UserError(f"{where}: duplicate method name {method.name!r}; names must be unique")
        names.add(method.name)
        for key, values in method.grid.items():
            if not values:
                raise UserError(f"{where}: grid of {key} is empty; list at least one value")


def _seeds(config: MatrixConfig, method: MethodConfig, index: int, source: Source) -> list[int]:
    seeds = method.seeds if method.seeds is not None else config.seeds
    if len(set(seeds)) != len(seeds) or not seeds:
        where = source.where(("methods", index, "seeds") if method.seeds is not None else ("seeds",))
        raise UserError(f"{where}: seeds are {seeds}; list each seed once, and at least one")
    return seeds


def _cells(
    config: MatrixConfig, method: MethodConfig, index: int, source: Source, known: dict[str, list[RunSpec]]
) -> Iterator[_Cell]:
    rule, rule_file = _rule(method, index, source)
    try:
        control = catalogue.info(rule).control if rule_file is None else None
    except catalogue.RuleError as error:
        raise UserError(
            f"{source.where(('methods', index, 'rule'))}: methods[{index}] ({method.name}): {error}"
        ) from None
    if control is not None and (method.parent is not None or control == "run"):
        yield from _control_cells(config, method, index, source, known, rule)
        return
    if method.parent is not None:
        raise UserError(
            f"{source.at('methods', index, 'parent')} is {method.parent!r}, but rule {rule!r} "
            "is not a control; remove parent, or use matched_mean, permuted, inverse, weight_only or saturation_only"
        )
    seeds = _seeds(config, method, index, source)
    for point in _points(method.grid):
        params = _rule_params(method, rule, point, index, source)
        for seed in seeds:
            yield _Cell(rule, rule_file, params, point, {**config.training, **method.training}, seed)


def _control_cells(
    config: MatrixConfig, method: MethodConfig, index: int, source: Source, known: dict[str, list[RunSpec]], rule: str
) -> Iterator[_Cell]:
    """One run for each of the parent's: same seed, hyper-parameters and training settings."""
    where = source.where(("methods", index, "parent") if method.parent is not None else ("methods", index))
    names = ", ".join(m.name for m in config.methods if m.parent is None and m is not method)
    if method.parent is None:
        raise UserError(
            f"{where}: methods[{index}] ({method.name}): rule {rule!r} is a control; add parent: one of {names}"
        )
    parents = known.get(method.parent)
    if parents is None:
        raise UserError(
            f"{where}: methods[{index}].parent is {method.parent!r}; it must be a method that is not a control: {names}"
        )
    if method.grid or method.training:
        key = "grid" if method.grid else "training"
        raise UserError(f"{source.at('methods', index, key)}: a control takes its parent's; remove {key}")
    seeds = _seeds(config, method, index, source) if method.seeds is not None else [run.seed for run in parents]
    lacking = sorted(set(seeds) - {run.seed for run in parents})
    if lacking:
        raise UserError(f"{where}: methods[{index}] ({method.name}): {method.parent!r} has no run of seed {lacking[0]}")
    taken = catalogue.info(rule).params
    formula = catalogue.info(rule).control == "formula"
    for parent in parents:
        if parent.seed not in seeds:
            continue
        if formula and parent.rule != "foodpo":
            raise UserError(
                f"{where}: methods[{index}]: rule {rule!r} inverts foodpo; {method.parent!r} has rule {parent.rule!r}"
            )
        inherited = {key: value for key, value in parent.params.items() if key in taken}
        params = _rule_params(method, rule, {**inherited, **method.params}, index, source)
        yield _Cell(rule, None, params, parent.hyper, parent.training, parent.seed, parent)


def _spec(method: MethodConfig, cell: _Cell, shared: Json) -> RunSpec:
    identity = {
        **shared,
        "rule": f"external:{cell.rule.rpartition(':')[2]}" if cell.rule_file else cell.rule,
        "rule_file": cell.rule_file,
        "params": cell.params,
        "seed": cell.seed,
        "training": {key: value for key, value in cell.training.items() if key not in _EXECUTION},
    }
    if cell.parent is not None:
        identity["parent"] = cell.parent.fingerprint
    if method.objective != "dpo":
        identity["objective"] = method.objective
    print_ = fingerprint(identity)
    return RunSpec(
        f"{method.name}-{print_[:12]}",
        print_,
        method.name,
        cell.rule,
        cell.seed,
        cell.params,
        cell.hyper,
        cell.training,
        cell.parent.run_id if cell.parent else None,
        cell.parent.method if cell.parent else None,
        method.objective,
    )
