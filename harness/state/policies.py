"""Policies on disk: merged weights, adapters and snapshots, and how each is served."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evals.job import BenchmarkEntry, Merge, Policy
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
    found: Json = {"path": folder / MERGED if alone else policy, "merge": merge_settings(plan)} if alone else {}
    if plan.config.lora is not None and (adapter.is_dir() or not policy.is_dir()):
        found["adapter"] = adapter
    return Policy(run_id=spec.run_id, fingerprint=spec.fingerprint, out=folder, **{"path": policy, **found})


def merge_settings(plan: Plan) -> Merge:
    """What an adapter of this matrix is merged into, for `evals.engine.merge`."""
    model = plan.config.model
    return Merge(base=plan.model.path, dtype=model.dtype, trust_remote_code=model.trust_remote_code)


def published_dir(run_dir: Path) -> Path | None:
    """The folder of a run that is its policy to others: the merged weights, else the adapter, else None."""
    known = ((POLICY_DIR, "config.json"), (ADAPTER_DIR, "adapter_config.json"))
    return next((run_dir / folder for folder, file in known if (run_dir / folder / file).is_file()), None)


# Intermediate checkpoints (`evaluation.checkpoints`): which were kept, and what the evaluation needs of them.


def kept_steps(plan: Plan, spec: RunSpec) -> list[int]:
    """Steps of a run whose policy is on disk and asked for, in order."""
    wanted = plan.config.evaluation.checkpoints_of(spec.seed)
    records = [_record(folder) for folder in (plan.run_dir(spec) / SNAPSHOTS).glob("step-*")]
    return sorted(r["step"] for r in records if r and (wanted is True or r["step"] in (wanted or [])))


def _record(folder: Path) -> Json | None:
    record = read_json(folder / SNAPSHOT_RECORD)
    return record if isinstance(record, dict) and f"step-{record.get('step')}" == folder.name else None


def set_torn_aside(policy: Policy) -> list[str]:
    """Quarantine a kept checkpoint whose weights are not what was kept; returns its bad files.

    Call it before the weights are used. Records of earlier versions do not say what the files were.
    """
    weights = policy.out / (POLICY_DIR if policy.adapter is None else ADAPTER_DIR)
    bad = differing(weights, (_record(policy.out) or {}).get("files") or {})
    # the record first: without it the folder counts for nothing
    for path in (policy.out / SNAPSHOT_RECORD, weights) if bad else ():
        if path.exists():
            set_aside(path, policy.out)
    return [f"{weights.name}/{name}" for name in bad]


def missing_steps(plan: Plan, spec: RunSpec) -> list[int]:
    """Steps before a trained run's last one that were asked for by number and not kept (it was trained before that)."""
    wanted = plan.config.evaluation.checkpoints_of(spec.seed)
    kept, total = kept_steps(plan, spec), RunStore(plan.run_dir(spec)).status().total_steps
    asked = [] if isinstance(wanted, bool) else sorted(wanted)
    return [step for step in asked if step not in kept and step < total]


def snapshot_policies(plan: Plan, trained: Sequence[RunSpec]) -> list[Policy]:
    """The kept checkpoints of the runs; `run_id` is that of the run, '@' and the step."""
    found: list[Policy] = []
    for spec in trained if plan.config.evaluation.checkpoints else ():
        for step in kept_steps(plan, spec):
            folder = snapshot_dir(plan.run_dir(spec), step)
            served: Json = {"adapter": folder / ADAPTER_DIR, "merge": merge_settings(plan)}
            made = Policy(
                run_id=f"{spec.run_id}@{step}",
                path=folder / POLICY_DIR,
                fingerprint=fingerprint({"run": spec.fingerprint, "step": step}),
                out=folder,
                benchmarks=plan.config.evaluation.checkpoint_benchmarks,
                **(served if plan.config.lora is not None else {}),
            )
            found.append(made)
    return found


def benchmarks_of(plan: Plan, policy: Policy) -> list[BenchmarkEntry]:
    """The benchmarks a policy is measured on."""
    return [one for one in plan.benchmarks if policy.benchmarks is None or one.name in policy.benchmarks]
