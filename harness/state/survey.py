"""How far each run of an output is."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.plan.matrix import RunSpec
from harness.plan.plan import Plan
from harness.state.records import FrozenMatrix, Status
from harness.state.store import RunStore
from trainers.common import UserError, read_json, scores_schema


@dataclass(frozen=True)
class RunState:
    """One run: whether it is trained, how many of its benchmarks are scored, and seconds its training took if known."""

    spec: RunSpec
    trained: bool
    cells: int
    train_seconds: float | None


def survey(plan: Plan, specs: Sequence[RunSpec]) -> list[RunState]:
    """The state of `specs`, in their order. Files need only be there: their content is checked when the matrix is run."""
    found = []
    for spec, policy in zip(specs, plan.policies(specs)[1:], strict=True):
        store = RunStore(plan.run_dir(spec))
        stages = store.status().stages if store.directory.is_dir() else {}
        train, evaluated = stages.get("train"), stages.get("evaluate")
        trained = train is not None and store.is_done("train", spec.fingerprint, verify=False)
        cells = [scores_schema.cell_fingerprint(spec.fingerprint, one.fingerprint) for one in plan.benchmarks]
        if evaluated is not None and evaluated.is_there(store.directory, scores_schema.digest(cells)):
            count = len(cells)
        else:  # some may be scored all the same; the score files tell
            count = sum(plan.cell_done(policy, benchmark) for benchmark in plan.benchmarks) if stages else 0
        found.append(RunState(spec, trained, count, train.seconds if train is not None and trained else None))
    return found


def frozen_matrix(output: Path) -> FrozenMatrix:
    """matrix.json of an output directory.

    Raises:
        UserError: there is none.
    """
    frozen = FrozenMatrix.of(read_json(output / "matrix.json"))
    if frozen is None:
        raise UserError(
            f"--output {output} holds no matrix; run: python -m harness run-matrix CONFIG --output {output}"
        )
    return frozen


def shown_state(status: Status) -> str:
    """The state; a run whose process on this machine is gone, or that was told to stop, is `interrupted`, not running."""
    if status.state == "pending" and status.stopped:
        return "interrupted"
    here = status.host in (None, socket.gethostname())
    if status.pid and here and status.state == "running" and "train" not in status.stages:
        try:
            os.kill(status.pid, 0)
        except ProcessLookupError:
            return "interrupted"
        except PermissionError:
            pass
    return status.state
