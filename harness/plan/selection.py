"""Part of a matrix: which of its runs a call works on. The matrix itself, and every fingerprint, stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.plan.matrix import RunSpec
from trainers.common import UserError, nearest


@dataclass(frozen=True)
class Selection:
    """What the user asked for; empty means all. `only` and `exclude` hold names of methods or run ids."""

    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()


def select(specs: Sequence[RunSpec], selection: Selection) -> tuple[list[RunSpec], list[RunSpec]]:
    """The runs of `specs` to work on, in their order, and those of them taken in only as parents of selected controls.

    Raises:
        UserError: a name or seed that is not in the matrix, or a selection that leaves nothing.
    """
    names = {name for spec in specs for name in (spec.method, spec.run_id)}
    for option, wanted in (("--only", selection.only), ("--exclude", selection.exclude)):
        for name in wanted:
            if name not in names:
                raise UserError(f"{option} {name}: no such method in the matrix; {nearest(name, _methods(specs))}")
    seeds = sorted({spec.seed for spec in specs})
    for seed in selection.seeds:
        if seed not in seeds:
            raise UserError(f"--seeds {seed}: the matrix has no run of this seed; it has {', '.join(map(str, seeds))}")
    chosen = {
        spec.run_id
        for spec in specs
        if (not selection.only or {spec.method, spec.run_id} & set(selection.only))
        and not {spec.method, spec.run_id} & set(selection.exclude)
        and (not selection.seeds or spec.seed in selection.seeds)
    }
    if not chosen:
        raise UserError(f"--only, --exclude and --seeds leave no run of the {len(specs)} in the matrix; widen them")
    needed = {spec.parent for spec in specs if spec.run_id in chosen and spec.parent is not None}
    taken = [spec for spec in specs if spec.run_id in chosen | needed]
    return taken, [spec for spec in taken if spec.run_id not in chosen]


def _methods(specs: Sequence[RunSpec]) -> list[str]:
    return list(dict.fromkeys(spec.method for spec in specs))
