"""What a LoRA run keeps of its policy (`save`): merged weights, the adapter, or both; and how each is served."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config import MatrixConfig
from harness.errors import UserError
from harness.yaml_source import Source
from trainers.schema import ADAPTER_DIR, POLICY_DIR

if TYPE_CHECKING:
    from harness.matrix import RunSpec
    from harness.plan import Plan

#: Where an adapter is merged for as long as it is served; by its ending nobody takes it for a result.
MERGED = ".merged.tmp"


def check_save(config: MatrixConfig, source: Source) -> None:
    """Refuse to keep what there is not, or to leave out what the evaluation reads.

    Raises:
        UserError: with the line and the fix.
    """
    where = f"{source.where(('save',))}: save is {config.save!r}"
    if config.save == "adapter" and config.lora is None:
        raise UserError(f"{where}, but the matrix trains all weights (no lora); add lora, or remove save")
    if config.save == "merged" and config.evaluation.engine.lora == "adapters":
        raise UserError(
            f"{where}, but evaluation.engine.lora is 'adapters', which serves the adapters; set save to adapter or both"
        )


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
    """What an adapter of this matrix is merged into, for `evals.merge`."""
    model = plan.config.model
    return {"base": str(plan.model.path), "dtype": model.dtype, "trust_remote_code": model.trust_remote_code}


def published_dir(run_dir: Path) -> Path | None:
    """The folder of a run that is its policy to others: the merged weights, else the adapter, else None."""
    if (run_dir / POLICY_DIR / "config.json").is_file():
        return run_dir / POLICY_DIR
    adapter = run_dir / ADAPTER_DIR
    return adapter if (adapter / "adapter_config.json").is_file() else None
