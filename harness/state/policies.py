"""Policies on disk: merged weights, adapters and snapshots, and how each is served."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.state.store import RunStore, set_aside
from trainers.common.files import file_hash, fingerprint, read_json
from trainers.common.training_schema import ADAPTER_DIR, POLICY_DIR, SNAPSHOT_RECORD, SNAPSHOTS, snapshot_dir

if TYPE_CHECKING:
    from harness.plan.matrix import RunSpec
    from harness.plan.plan import Plan


# What a LoRA run keeps of its policy (`save`): merged weights, the adapter, or both; and how each is served.


#: Where an adapter is merged for as long as it is served; by its ending nobody takes it for a result.
MERGED = ".merged.tmp"


def policy_entry(plan: Plan, spec: RunSpec) -> dict[str, Any]:
    """A trained run as the evaluation job lists it, by what is on disk: `save` may have been another when it was trained."""
    folder = plan.run_dir(spec)
    policy, adapter = folder / POLICY_DIR, folder / ADAPTER_DIR
    entry: dict[str, Any] = {
        "run_id": spec.run_id,
        "path": str(policy),
        "fingerprint": spec.fingerprint,
        "out": str(folder),
    }
    if plan.config.lora is not None and (adapter.is_dir() or not policy.is_dir()):
        entry["adapter"] = str(adapter)
    if adapter.is_dir() and not policy.is_dir():
        entry |= {"path": str(folder / MERGED), "merge": merge_settings(plan)}
    return entry


def merge_settings(plan: Plan) -> dict[str, Any]:
    """What an adapter of this matrix is merged into, for `evals.engine.merge`."""
    model = plan.config.model
    return {"base": str(plan.model.path), "dtype": model.dtype, "trust_remote_code": model.trust_remote_code}


def published_dir(run_dir: Path) -> Path | None:
    """The folder of a run that is its policy to others: the merged weights, else the adapter, else None."""
    if (run_dir / POLICY_DIR / "config.json").is_file():
        return run_dir / POLICY_DIR
    adapter = run_dir / ADAPTER_DIR
    return adapter if (adapter / "adapter_config.json").is_file() else None


# Policies on the way (`evaluation.checkpoints`): which were kept, and what the evaluation job needs of them.


def kept_steps(plan: Plan, spec: RunSpec) -> list[int]:
    """Steps of a run whose policy is on disk and asked for, in order."""
    wanted = plan.config.evaluation.checkpoints_of(spec.seed)
    folders = (plan.run_dir(spec) / SNAPSHOTS).glob("step-*")
    steps = {int(number) for folder in folders if (number := folder.name.removeprefix("step-")).isdigit()}
    asked = steps if wanted is True else steps & set(wanted or [])
    return sorted(step for step in asked if _record(snapshot_dir(plan.run_dir(spec), step)) is not None)


def _record(folder: Path) -> dict[str, Any] | None:
    """The record of a kept policy; None if there is none, or it is damaged."""
    record = read_json(folder / SNAPSHOT_RECORD)
    return record if isinstance(record, dict) and f"step-{record.get('step')}" == folder.name else None


def set_torn_aside(policy: dict[str, Any]) -> list[str]:
    """Set a kept policy aside whose weights are not what was kept; returns its bad files. It is not kept any more then.

    Call it before the weights are used. Records of earlier versions do not say what the files were.
    """
    out = Path(policy["out"])
    weights = out / (ADAPTER_DIR if "adapter" in policy else POLICY_DIR)
    files = (_record(out) or {}).get("files") or {}
    bad = [n for n, checksum in files.items() if not (weights / n).is_file() or file_hash(weights / n) != checksum]
    if bad:
        for path in (out / SNAPSHOT_RECORD, weights):  # the record first: without it the folder counts for nothing
            if path.exists():
                set_aside(path, out)
    return [f"{weights.name}/{name}" for name in bad]


def missing_steps(plan: Plan, spec: RunSpec) -> list[int]:
    """Steps before a trained run's last one that were asked for by number and not kept (it was trained before that)."""
    wanted, total = (
        plan.config.evaluation.checkpoints_of(spec.seed),
        RunStore(plan.run_dir(spec)).status()["total_steps"],
    )
    if isinstance(wanted, bool):
        return []
    kept = kept_steps(plan, spec)
    return [step for step in sorted(wanted) if step not in kept and step < int(total or 0)]


def snapshot_policies(plan: Plan, trained: Sequence[RunSpec]) -> list[dict[str, Any]]:
    """The kept policies of the runs as the evaluation job lists them; `run_id` is that of the run, '@' and the step."""
    if not plan.config.evaluation.checkpoints:
        return []
    return [_entry(plan, spec, step) for spec in trained for step in kept_steps(plan, spec)]


def _entry(plan: Plan, spec: RunSpec, step: int) -> dict[str, Any]:
    folder = snapshot_dir(plan.run_dir(spec), step)
    entry: dict[str, Any] = {
        "run_id": f"{spec.run_id}@{step}",
        "path": str(folder / POLICY_DIR),
        "fingerprint": fingerprint({"run": spec.fingerprint, "step": step}),
        "out": str(folder),
        "benchmarks": plan.config.evaluation.checkpoint_benchmarks,
    }
    if plan.config.lora is not None:
        entry["adapter"] = str(folder / ADAPTER_DIR)
        entry["merge"] = merge_settings(plan)
    return entry


def benchmarks_of(plan: Plan, policy: dict[str, Any]) -> list[dict[str, Any]]:
    """The benchmarks a policy is measured on."""
    names = policy.get("benchmarks")
    return [entry for entry in plan.benchmarks if names is None or entry["name"] in names]


def label_of(spec: RunSpec, policy: dict[str, Any]) -> str:
    """What people call a kept policy."""
    return f"{spec.label}, step {Path(policy['out']).name.removeprefix('step-')}"
