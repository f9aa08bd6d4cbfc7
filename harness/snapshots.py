"""Policies on the way (`evaluation.checkpoints`): which were kept, and what the evaluation job needs of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config import MatrixConfig, dotted, nearest
from harness.errors import UserError
from harness.fingerprint import file_hash, fingerprint
from harness.kept import merge_settings
from harness.store import RunStore, read_json, set_aside
from harness.yaml_source import Path_, Source
from trainers.schema import ADAPTER_DIR, POLICY_DIR, SNAPSHOT_RECORD, SNAPSHOTS, snapshot_dir

if TYPE_CHECKING:
    from harness.matrix import RunSpec
    from harness.plan import Plan


def check_snapshots(config: MatrixConfig, source: Source, benchmarks: Sequence[dict[str, Any]]) -> None:
    """Refuse checkpoints that no trainer would save, and benchmarks that the matrix does not have.

    Raises:
        UserError: with the line.
    """
    evaluation = config.evaluation
    names = [str(entry["name"]) for entry in benchmarks]
    for i, name in enumerate(evaluation.checkpoint_benchmarks or []):
        key: Path_ = ("evaluation", "checkpoint_benchmarks", i)
        if name not in names:
            raise UserError(
                f"{source.where(key)}: {dotted(key)} is {name!r}; no such benchmark; {nearest(name, names)}"
            )
    for name in ("checkpoint_seeds", "checkpoint_benchmarks"):
        if getattr(evaluation, name) is not None and not evaluation.checkpoints:
            key = ("evaluation", name)
            raise UserError(f"{source.where(key)}: {dotted(key)} is set, but evaluation.checkpoints is not; add it")
    seeds = {seed for method in config.methods for seed in (config.seeds if method.seeds is None else method.seeds)}
    for i, seed in enumerate(evaluation.checkpoint_seeds or []):
        if seed not in seeds:
            key = ("evaluation", "checkpoint_seeds", i)
            raise UserError(f"{source.where(key)}: {dotted(key)} is {seed}; no run has this seed; take one of {sorted(seeds)}")
    never = {"no", "SaveStrategy.NO"}
    if evaluation.checkpoints is True and str(config.training.get("save_strategy", "steps")) in never:
        key = ("evaluation", "checkpoints")
        raise UserError(
            f"{source.where(key)}: {dotted(key)} is true, but training.save_strategy is 'no'; name the steps, or remove it"
        )
    if evaluation.checkpoints and not benchmarks:
        key = ("evaluation", "checkpoints")
        raise UserError(f"{source.where(key)}: {dotted(key)} is set, but there is no benchmark; add one, or remove it")


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
    wanted, total = plan.config.evaluation.checkpoints_of(spec.seed), RunStore(plan.run_dir(spec)).status()["total_steps"]
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
