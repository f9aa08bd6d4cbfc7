"""From a configuration to its runs: method x hyper-parameters x seed, each with a fingerprint."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config import MatrixConfig, MethodConfig
from harness.errors import UserError
from harness.fingerprint import TRAIN_VERSION, file_hash, fingerprint, stable
from harness.yaml_source import Source
from trainers.rules import registry

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
    """One run. `params` are the rule's parameters with defaults filled in; `hyper` is what the grid chose."""

    run_id: str
    fingerprint: str
    method: str
    rule: str
    seed: int
    params: dict[str, Any]
    hyper: dict[str, Any]
    training: dict[str, Any]

    @property
    def label(self) -> str:
        """What people call it: method, chosen hyper-parameters, seed."""
        chosen = ", ".join(f"{key}={value}" for key, value in self.hyper.items())
        return f"{self.method}{f' [{chosen}]' if chosen else ''} seed {self.seed}"


def _points(grid: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def _rule(method: MethodConfig, index: int, source: Source) -> tuple[str, str | None]:
    """The rule, and the hash of its file if it is one; a file is looked for beside the matrix file."""
    rule = method.rule or method.name
    if not registry.is_external(rule):
        return rule, None
    name, _, cls = rule.rpartition(":")
    path = (source.path.parent / Path(name).expanduser()).resolve()
    if not path.is_file():
        where = source.where(("methods", index, "rule"))
        raise UserError(
            f"{where}: methods[{index}].rule is {rule!r}; no such file: {path} (paths are relative to the matrix file)"
        )
    return f"{path}:{cls}", file_hash(path)


def _rule_params(method: MethodConfig, rule: str, point: dict[str, Any], index: int, source: Source) -> dict[str, Any]:
    try:
        params = registry.validate(rule, {**method.params, **point})
    except registry.RuleError as error:
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
    known = registry.info(rule).params.get(key)
    is_float = known is not None and isinstance(known.default, float)
    return float(value) if is_float and isinstance(value, int) and not isinstance(value, bool) else value


def expand(config: MatrixConfig, source: Source, model_hash: str, data_hash: str) -> list[RunSpec]:
    """All runs of a matrix, in the order they are trained (seed by seed, so that every method has results early).

    Args:
        model_hash: identity of the starting weights. data_hash: identity of the training pairs.

    Raises:
        UserError: unknown rules or parameters, an empty grid, repeated seeds, methods or runs.
    """
    runs: list[RunSpec] = []
    seen: dict[str, str] = {}
    names: set[str] = set()
    for index, method in enumerate(config.methods):
        where = source.where(("methods", index))
        if method.name in names:
            raise UserError(f"{where}: method {method.name!r} stands twice; give each method a name of its own")
        names.add(method.name)
        for key, values in method.grid.items():
            if not values:
                raise UserError(f"{where}: grid of {key} is empty; list at least one value")
        seeds = method.seeds if method.seeds is not None else config.seeds
        if len(set(seeds)) != len(seeds) or not seeds:
            where = source.where(("methods", index, "seeds") if method.seeds is not None else ("seeds",))
            raise UserError(f"{where}: seeds are {seeds}; list each seed once, and at least one")
        rule, rule_file = _rule(method, index, source)
        training = {**config.training, **method.training}
        for point in _points(method.grid):
            params = _rule_params(method, rule, point, index, source)
            for seed in seeds:
                identity = {
                    "version": TRAIN_VERSION,
                    "model": model_hash,
                    "dtype": config.model.dtype,
                    "attention": config.model.attn_implementation,
                    "data": data_hash,
                    "rule": f"external:{rule.rpartition(':')[2]}" if rule_file else rule,
                    "rule_file": rule_file,
                    "params": params,
                    "seed": seed,
                    "training": {key: value for key, value in training.items() if key not in _EXECUTION},
                    "lora": config.lora,
                    "prefix_sharing": config.prefix_sharing,
                }
                print_ = fingerprint(identity)
                spec = RunSpec(f"{method.name}-{print_[:12]}", print_, method.name, rule, seed, params, point, training)
                if print_ in seen:
                    raise UserError(
                        f"{where}: {spec.label} is the same run as {seen[print_]} (same rule, parameters and seed); "
                        "remove one of them"
                    )
                seen[print_] = spec.label
                runs.append(spec)
    order = {seed: i for i, seed in enumerate(dict.fromkeys(run.seed for run in runs))}
    return sorted(runs, key=lambda run: order[run.seed])
