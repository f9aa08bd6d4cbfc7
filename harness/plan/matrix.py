"""From a configuration to its runs: method x hyper-parameters x seed, each with a fingerprint."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from harness.config import MatrixConfig, MethodConfig, Source, refuse
from harness.plan.data import Draw, draw_of
from harness.plan.references import TRAIN_VERSION
from trainers.common import Json, UserError, file_hash, fingerprint, nearest, stable
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
    """One run.

    Attributes:
        params: of the rule, with defaults filled in. hyper: what the grid chose.
        identity: what determines its numbers, beside its parent's; weights and data are "unknown" until `with_hashes`.
        parent_run: the run that a control repeats. draw: the pairs it trains on.
    """

    method: str
    rule: str
    seed: int
    params: Json
    hyper: Json
    training: Json
    identity: Json = field(repr=False)
    objective: str = "dpo"
    parent_run: RunSpec | None = None
    draw: Draw = field(default_factory=Draw)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the identity."""
        return fingerprint(self.identity | ({"parent": self.parent_run.fingerprint} if self.parent_run else {}))

    @property
    def run_id(self) -> str:
        """The method and the first 12 digits of the fingerprint."""
        return f"{self.method}-{self.fingerprint[:12]}"

    @property
    def parent(self) -> str | None:
        """Id of the run that a control repeats."""
        return self.parent_run.run_id if self.parent_run is not None else None

    @property
    def label(self) -> str:
        """What people call it: method, chosen hyper-parameters, seed."""
        chosen = ", ".join(f"{key}={value}" for key, value in self.hyper.items())
        return f"{self.method}{f' [{chosen}]' if chosen else ''} seed {self.seed}"

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of numbers that the rule reads from the data."""
        return catalogue.columns(self.rule, self.params)

    def with_hashes(
        self,
        model: str,
        data: Mapping[Draw, str],
        columns: Mapping[Draw, Mapping[str, str]] | None = None,
        reference: str | None = None,
    ) -> RunSpec:
        """The run on these starting weights and training pairs, by their identities.

        Args:
            columns: identity of the values of each column that a rule of the matrix reads.
            reference: identity of the reference, where it is not the start.
        """
        parent = self.parent_run.with_hashes(model, data, columns, reference) if self.parent_run is not None else None
        own = {name: columns[self.draw][name] for name in self.columns} if columns else {}
        found = {"model": model, "data": data[self.draw], **({"columns": own} if own else {})}
        if reference is not None:
            found["reference"] = reference
        return replace(self, identity={**self.identity, **found}, parent_run=parent)

    @property
    def data_hash(self) -> str:
        """Identity of its training pairs (SHA-256)."""
        return str(self.identity["data"])


def _rule(method: MethodConfig, index: int, source: Source) -> tuple[str, str | None]:
    rule = source.placed(method.rule or method.name)
    if not is_file_target(rule):
        return rule, None
    path, said = Path(rule.rpartition(":")[0]), f"{source.at('methods', index, 'rule')} is {method.rule!r}"
    refuse((not path.is_file(), f"{said}; no such file: {path} (paths are relative to the matrix file)"))
    return rule, file_hash(path)


def _rule_params(method: MethodConfig, rule: str, point: Json, index: int, source: Source) -> Json:
    given = {**method.params, **point}
    try:
        params = objectives.validate(method.objective, rule, given)
        stable(params, "params")
    except (catalogue.RuleError, objectives.ObjectiveError, TypeError) as error:
        key = next((key for key in given if key in str(error)), "rule")
        fix = "; give text or a finite number" if isinstance(error, TypeError) else ""
        where = source.where(("methods", index, key))
        raise UserError(f"{where}: methods[{index}] ({method.name}): {error}{fix}") from None
    floats = {key for key, param in catalogue.info(rule).params.items() if isinstance(param.default, float)}
    # 1 and 1.0 are the same where the rule's parameter is a float
    return {key: float(value) if key in floats and type(value) is int else value for key, value in params.items()}


def expand(config: MatrixConfig, source: Source) -> list[RunSpec]:
    """All runs of a matrix, in the order they are trained: seed by seed, so that every method has results early, and
    controls after their parents.

    Raises:
        UserError: unknown rules or parameters, an empty grid, repeated seeds, methods or runs, a control without a parent.
    """
    names = [method.name for method in config.methods]
    for index, method in enumerate(config.methods):
        where = source.where(("methods", index))
        refuse(
            (
                method.name in names[:index],
                f"{where}: duplicate method name {method.name!r}; names must be unique",
            ),
            *(
                (not values, f"{where}: grid of {key} is empty; list at least one value")
                for key, values in method.grid.items()
            ),
        )
    by_method: dict[str, list[RunSpec]] = {name: [] for name in names}
    seen: dict[str, str] = {}
    # controls last, whatever the order in the file: they need their parents' runs
    for index in sorted(range(len(names)), key=lambda i: config.methods[i].parent is not None):
        for spec in _specs(config, config.methods[index], index, source, by_method):
            refuse(
                (
                    spec.fingerprint in seen,
                    f"{source.where(('methods', index))}: {spec.label} is the same run as {seen.get(spec.fingerprint)} "
                    "(same rule, parameters and seed); remove one of them",
                )
            )
            seen[spec.fingerprint] = spec.label
            by_method[spec.method].append(spec)
    runs = [spec for name in names for spec in by_method[name]]
    rank = {seed: i for i, seed in enumerate(dict.fromkeys(run.seed for run in runs))}
    return sorted(runs, key=lambda run: (rank[run.seed], run.parent_run is not None))


def _seeds(config: MatrixConfig, method: MethodConfig, index: int, source: Source) -> list[int]:
    seeds = method.seeds if method.seeds is not None else config.seeds
    where = source.where(("methods", index, "seeds") if method.seeds is not None else ("seeds",))
    wrong = len(set(seeds)) != len(seeds) or not seeds
    refuse((wrong, f"{where}: seeds are {seeds}; list each seed once, and at least one"))
    return seeds


def _specs(
    config: MatrixConfig, method: MethodConfig, index: int, source: Source, known: dict[str, list[RunSpec]]
) -> Iterator[RunSpec]:
    rule, rule_file = _rule(method, index, source)
    try:
        control = catalogue.info(rule).control if rule_file is None else None
    except catalogue.RuleError as error:
        raise UserError(
            f"{source.where(('methods', index, 'rule'))}: methods[{index}] ({method.name}): {error}"
        ) from None
    if control is not None and (method.parent is not None or control == "run"):
        yield from _controls(config, method, index, source, known, rule)
        return
    if method.parent is not None:
        raise UserError(
            f"{source.at('methods', index, 'parent')} is {method.parent!r}, but rule {rule!r} "
            f"is not a control; remove parent, or use {', '.join(n for n, i in catalogue.BUILTIN.items() if i.control)}"
        )
    training = {**config.training, **method.training}
    for values in itertools.product(*method.grid.values()):
        point = dict(zip(method.grid, values, strict=True))
        params = _rule_params(method, rule, point, index, source)
        for seed in _seeds(config, method, index, source):
            yield _spec(config, method, rule, rule_file, params, point, training, seed)


def _controls(
    config: MatrixConfig, method: MethodConfig, index: int, source: Source, known: dict[str, list[RunSpec]], rule: str
) -> Iterator[RunSpec]:
    """One run for each of the parent's: same seed, hyper-parameters and training settings."""
    where = source.where(("methods", index, "parent") if method.parent is not None else ("methods", index))
    named, info = f"{where}: methods[{index}] ({method.name})", catalogue.info(rule)
    names = ", ".join(m.name for m in config.methods if m.parent is None and m is not method)
    parents, key = known.get(method.parent or "", []), "grid" if method.grid else "training"
    refuse(
        (method.parent is None, f"{named}: rule {rule!r} is a control; add parent: one of {names}"),
        (
            not parents,
            f"{where}: methods[{index}].parent is {method.parent!r}; it must be a method that is not a control: {names}",
        ),
        (
            bool(method.grid or method.training),
            f"{source.at('methods', index, key)}: a control takes its parent's; remove {key}",
        ),
    )
    theirs = [run.seed for run in parents]
    seeds = theirs if method.seeds is None else _seeds(config, method, index, source)
    refuse(
        *((seed not in theirs, f"{named}: {method.parent!r} has no run of seed {seed}") for seed in sorted(seeds)),
        *(
            (
                info.control == "formula" and run.rule != "foodpo",
                f"{where}: methods[{index}]: rule {rule!r} inverts foodpo; {method.parent!r} has rule {run.rule!r}",
            )
            for run in parents
        ),
    )
    for run in parents:
        if run.seed in seeds:
            inherited = {key: value for key, value in run.params.items() if key in info.params}
            params = _rule_params(method, rule, {**inherited, **method.params}, index, source)
            yield _spec(config, method, rule, None, params, run.hyper, run.training, run.seed, run)


def _spec(
    config: MatrixConfig,
    method: MethodConfig,
    rule: str,
    rule_file: str | None,
    params: Json,
    hyper: Json,
    training: Json,
    seed: int,
    parent: RunSpec | None = None,
) -> RunSpec:
    """A run. Keys of its identity that came later are there only where they differ from what was before."""
    quantization, draw = config.model.quantization, draw_of(config, method, seed, params.get("pref_beta"))
    identity = {
        "version": TRAIN_VERSION,
        "model": "unknown",
        "dtype": config.model.dtype,
        "attention": config.model.attn_implementation,
        "data": "unknown",
        "lora": config.lora,
        "prefix_sharing": config.prefix_sharing,
        "rule": f"external:{rule.rpartition(':')[2]}" if rule_file else rule,
        "rule_file": rule_file,
        "seed": seed,
        "training": {key: value for key, value in training.items() if key not in _EXECUTION},
        **catalogue.identity(rule, params),
        **({} if quantization is None else {"quantization": quantization.model_dump()}),
        **({} if method.objective == "dpo" else {"objective": method.objective}),
        **({"draw": draw.identity} if draw.identity else {}),
    }
    return RunSpec(method.name, rule, seed, params, hyper, training, identity, method.objective, parent, draw)


def select(
    specs: Sequence[RunSpec], only: Sequence[str] = (), exclude: Sequence[str] = (), seeds: Sequence[int] = ()
) -> tuple[list[RunSpec], list[RunSpec]]:
    """Part of a matrix: which of its runs a call works on. The matrix itself, and every fingerprint, stay as they are.

    Args:
        only, exclude: names of methods or run ids. Empty means all, as for `seeds`.

    Returns:
        The runs to work on, in their order, and those of them taken in only as parents of selected controls.

    Raises:
        UserError: a name or seed that is not in the matrix, or a selection that leaves nothing.
    """
    methods, known = list(dict.fromkeys(spec.method for spec in specs)), sorted({spec.seed for spec in specs})
    names = {*methods, *(spec.run_id for spec in specs)}
    given = [("--only", name) for name in only] + [("--exclude", name) for name in exclude]
    refuse(
        *(
            (name not in names, f"{option} {name}: no such method in the matrix; {nearest(name, methods)}")
            for option, name in given
        ),
        *(
            (
                seed not in known,
                f"--seeds {seed}: the matrix has no run of this seed; it has {', '.join(map(str, known))}",
            )
            for seed in seeds
        ),
    )
    chosen = {
        spec.run_id
        for spec in specs
        if (not only or {spec.method, spec.run_id} & set(only))
        and not {spec.method, spec.run_id} & set(exclude)
        and (not seeds or spec.seed in seeds)
    }
    refuse((not chosen, f"--only, --exclude and --seeds leave no run of the {len(specs)} in the matrix; widen them"))
    needed = {spec.parent for spec in specs if spec.run_id in chosen and spec.parent is not None}
    taken = [spec for spec in specs if spec.run_id in chosen | needed]
    return taken, [spec for spec in taken if spec.run_id not in chosen]
