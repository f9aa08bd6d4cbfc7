"""Policies on disk: merged weights, adapters and snapshots, and how each is served."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.plan.entries import PlannedBenchmark, Policy
from harness.state.records import differing
from harness.state.store import RunStore, set_aside
from trainers.common import Json, fingerprint, read_json
from trainers.common.training_schema import ADAPTER_DIR, POLICY_DIR, SNAPSHOT_RECORD, SNAPSHOTS, snapshot_dir

if TYPE_CHECKING:
    from harness.plan.matrix import RunSpec
    from harness.plan.plan import Plan


#: Where an adapter is merged for as long as it is served; by its ending nobody takes it for a result.
MERGED = ".merged.tmp"


def policy_entry(plan: Plan, spec: RunSpec) -> Policy:
    """The policy of a trained run, by what is on disk: `save` may have been another when it was trained."""
    folder = plan.run_dir(spec)
    policy, adapter = folder / POLICY_DIR, folder / ADAPTER_DIR
    alone = adapter.is_dir() and not policy.is_dir()
    served = plan.config.lora is not None and (adapter.is_dir() or not policy.is_dir())
    return Policy(
        spec.run_id,
        str(folder / MERGED if alone else policy),
        spec.fingerprint,
        str(folder),
        str(adapter) if served else None,
        merge_settings(plan) if alone else None,
    )


def merge_settings(plan: Plan) -> Json:
    """What an adapter of this matrix is merged into, for `evals.engine.merge`."""
    model = plan.config.model
    return {"base": str(plan.model.path), "dtype": model.dtype, "trust_remote_code": model.trust_remote_code}


def published_dir(run_dir: Path) -> Path | None:
    """The folder of a run that is its policy to others: the merged weights, else the adapter, else None."""
    if (run_dir / POLICY_DIR / "config.json").is_file():
        return run_dir / POLICY_DIR
    adapter = run_dir / ADAPTER_DIR
    return adapter if (adapter / "adapter_config.json").is_file() else None


# Intermediate checkpoints (`evaluation.checkpoints`): which were kept, and what the evaluation needs of them.


def kept_steps(plan: Plan, spec: RunSpec) -> list[int]:
    """Steps of a run whose policy is on disk and asked for, in order."""
    wanted = plan.config.evaluation.checkpoints_of(spec.seed)
    folders = (plan.run_dir(spec) / SNAPSHOTS).glob("step-*")
    steps = {int(number) for folder in folders if (number := folder.name.removeprefix("step-")).isdigit()}
    asked = steps if wanted is True else steps & set(wanted or [])
    return sorted(step for step in asked if _record(snapshot_dir(plan.run_dir(spec), step)) is not None)


def _record(folder: Path) -> Json | None:
    record = read_json(folder / SNAPSHOT_RECORD)
    return record if isinstance(record, dict) and f"step-{record.get('step')}" == folder.name else None


def set_torn_aside(policy: Policy) -> list[str]:
    """Quarantine a kept checkpoint whose weights are not what was kept; returns its bad files.

    Call it before the weights are used. Records of earlier versions do not say what the files were.
    """
    out = Path(policy.out)
    weights = out / (POLICY_DIR if policy.adapter is None else ADAPTER_DIR)
    files = (_record(out) or {}).get("files") or {}
    bad = differing(weights, files)
    if bad:
        for path in (out / SNAPSHOT_RECORD, weights):  # the record first: without it the folder counts for nothing
            if path.exists():
                set_aside(path, out)
    return [f"{weights.name}/{name}" for name in bad]


def missing_steps(plan: Plan, spec: RunSpec) -> list[int]:
    """Steps before a trained run's last one that were asked for by number and not kept (it was trained before that)."""
    wanted = plan.config.evaluation.checkpoints_of(spec.seed)
    total = RunStore(plan.run_dir(spec)).status().total_steps
    if isinstance(wanted, bool):
        return []
    kept = kept_steps(plan, spec)
    return [step for step in sorted(wanted) if step not in kept and step < total]


def snapshot_policies(plan: Plan, trained: Sequence[RunSpec]) -> list[Policy]:
    """The kept checkpoints of the runs; `run_id` is that of the run, '@' and the step."""
    if not plan.config.evaluation.checkpoints:
        return []
    return [_entry(plan, spec, step) for spec in trained for step in kept_steps(plan, spec)]


def _entry(plan: Plan, spec: RunSpec, step: int) -> Policy:
    folder, lora = snapshot_dir(plan.run_dir(spec), step), plan.config.lora is not None
    return Policy(
        f"{spec.run_id}@{step}",
        str(folder / POLICY_DIR),
        fingerprint({"run": spec.fingerprint, "step": step}),
        str(folder),
        str(folder / ADAPTER_DIR) if lora else None,
        merge_settings(plan) if lora else None,
        plan.config.evaluation.checkpoint_benchmarks,
    )


def benchmarks_of(plan: Plan, policy: Policy) -> list[PlannedBenchmark]:
    """The benchmarks a policy is measured on."""
    return [one for one in plan.benchmarks if policy.benchmarks is None or one.name in policy.benchmarks]


def label_of(spec: RunSpec, policy: Policy) -> str:
    """What people call a kept checkpoint."""
    return f"{spec.label}, step {policy.run_id.rpartition('@')[2]}"
