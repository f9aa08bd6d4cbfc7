"""What the tasks of a Ray cluster ask for."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from harness.executors import base
from harness.executors.launch import gpus_of_launch
from harness.plan.plan import Plan
from trainers.common import UserError


class StageResources(BaseModel):
    """What Ray reserves for one task; `resources` are custom ones, by name."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    cpus: float = Field(1.0, ge=0, allow_inf_nan=False)
    gpus: int = Field(0, ge=0)
    resources: dict[str, float] = Field(default_factory=dict)

    def amounts(self) -> dict[str, float]:
        """By the names Ray has for them."""
        return {"CPU": self.cpus, "GPU": float(self.gpus), **self.resources}

    def fit_one_of(self, nodes: list[dict[str, float]]) -> bool:
        """Whether one of the nodes (amounts by name) has all of it."""
        return any(all(node.get(name, 0.0) >= count for name, count in self.amounts().items()) for node in nodes)


class RaySettings(base.Settings):
    """`address` of a running cluster (`auto`: RAY_ADDRESS, or the one on this machine); without, one is started here.

    `train` and `evaluate` say what a task of each stage takes; where `gpus` is left out, GPUs are taken if a node has them (to
    train one, or one for each process of `accelerate`; to evaluate as many as the engine spreads over). `max_parallel` limits
    runs at once; Ray queues what does not fit. With `train.gpus` above 1, or `accelerate` (a file of `accelerate config`), a
    run is trained by `accelerate launch`.
    `artifacts` is a folder or URL of any fsspec file system (s3://bucket/folder) for nodes that do not share the output's.
    """

    kind: str = "ray"
    address: str | None = None
    train: StageResources = StageResources.model_validate({})
    evaluate: StageResources = StageResources.model_validate({})
    max_parallel: int | None = Field(None, gt=0)
    threads: int | None = Field(None, gt=0)
    accelerate: str | None = None
    artifacts: str | None = None


def stage_resources(plan: Plan, settings: RaySettings, nodes: list[dict[str, float]]) -> dict[str, StageResources]:
    """What each stage takes on a cluster of `nodes` (what each has, by Ray's names).

    Where nothing is said of GPUs and a node has them, they are taken.

    Raises:
        UserError: no node could ever give it, and Ray would wait for it without a word.
    """
    engine = plan.config.evaluation.engine
    usual = {
        "train": gpus_of_launch(plan, settings.accelerate),
        "evaluate": engine.tensor_parallel_size * engine.data_parallel_size,
    }
    taken = {}
    for stage, gpus in usual.items():
        asked: StageResources = getattr(settings, stage)
        with_gpus = asked.model_copy(update={"gpus": gpus})
        if "gpus" not in asked.model_fields_set and with_gpus.fit_one_of(nodes):
            asked = with_gpus
        if not asked.fit_one_of(nodes):
            shown = ", ".join(f"{count:g} {name}" for name, count in asked.amounts().items() if count)
            raise UserError(
                f"{plan.source.where(('executor', stage))}: executor.{stage} asks for {shown}; no node of the "
                "cluster has that; lower it, or add a node (ray status lists what there is)"
            )
        taken[stage] = asked
    return taken
