"""What the evaluation worker is told: its job, as the harness writes it and both sides read it."""

import os
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field

from evals.engine.base import EngineConfig
from trainers.common import Events, Json, end_with, scores_schema

LM_EVAL = "lm_eval"


class _Record(BaseModel):
    """Keys that are not known here are kept: a kind of benchmark from outside may read them."""

    model_config = ConfigDict(extra="allow", frozen=True)

    def __getitem__(self, key: str) -> object:
        """A field by name, as kinds of benchmark from outside read what was a mapping."""
        return getattr(self, key)


class Merge(_Record):
    """What an adapter is merged into before it is served."""

    base: Path = Field(description="folder of the base model")
    dtype: str = Field(description="of the merged weights")
    trust_remote_code: bool = Field(default=False, description="run modelling code that comes with the base model")


class Policy(_Record):
    """A model to evaluate."""

    run_id: str = Field(description="`reference`, a run, or a checkpoint of one")
    path: Path = Field(description="folder of the weights that are served")
    fingerprint: str = Field(description="identity of the weights")
    out: Path = Field(description="folder of its generations and scores")
    adapter: Path | None = Field(default=None, description="the LoRA adapter that is in `path`, or is merged into it")
    merge: Merge | None = Field(
        default=None, description="set where only the adapter was kept: `path` is made while it is served"
    )
    benchmarks: list[str] | None = Field(default=None, description="names of those it is measured on; null for all")

    @property
    def is_reference(self) -> bool:
        return self.run_id == scores_schema.REFERENCE


class BenchmarkEntry(_Record):
    """A benchmark or lm-eval task, with its settings in the matrix file."""

    name: str
    kind: str = Field(description="of evals.benchmarks.registry, or lm_eval")
    fingerprint: str = Field(description="identity of its rows, its settings and the engine")
    prompts: Path = Field(default=Path(), description="JSONL file of its rows; none of an lm-eval task")
    params: Json | None = Field(default=None, description="parameters of the kind")
    limit: int | None = Field(default=None, description="rows read; null for all")
    samples: int = Field(default=1, description="answers to each prompt")
    max_new_tokens: int = Field(default=0, description="longest answer, tokens")
    temperature: float = Field(default=0.0, description="0 is greedy")
    top_p: float = Field(default=1.0, description="share of the probability that is sampled from")
    seed: int = Field(default=0, description="of sampled answers")
    noise: bool = Field(default=False, description="evaluate the reference twice")
    task: str = Field(default="", description="of an lm-eval task: its name")
    include_path: Path | None = Field(default=None, description="folder with more lm-eval tasks")
    num_fewshot: int | None = Field(
        default=None, description="examples before each prompt; null for the task's own number"
    )

    def cell(self, policy: Policy) -> str:
        """Fingerprint of a policy's scores."""
        return scores_schema.cell_fingerprint(policy.fingerprint, self.fingerprint)


class WorkerJob(_Record):
    """What every worker is told."""

    events: Path = Field(description="JSONL file of what the worker reports")
    parent: int | None = Field(default=None, description="process that the worker ends with")


class Job(WorkerJob):
    """Policies to evaluate on benchmarks with one engine."""

    engine: EngineConfig
    base_model: Path = Field(description="weights that the engine is started with")
    policies: list[Policy]
    benchmarks: list[BenchmarkEntry]
    skip: list[str] = Field(default=[], description="policies to leave out")

    @property
    def reference(self) -> Policy | None:
        return next((policy for policy in self.policies if policy.is_reference), None)

    def pending(self, policy: Policy) -> list[BenchmarkEntry]:
        """Benchmarks that the policy has no valid scores for."""
        return [
            benchmark
            for benchmark in self.benchmarks
            if (policy.benchmarks is None or benchmark.name in policy.benchmarks)
            and not scores_schema.is_scored(policy.out, benchmark.name, benchmark.cell(policy))
        ]


AnyJob = TypeVar("AnyJob", bound=WorkerJob)


def begin(argv: list[str], kind: type[AnyJob]) -> tuple[AnyJob, Events]:
    """How a worker begins: read the job file that it was started with, end with its parent, report that it is there."""
    job = kind.model_validate_json(Path(argv[0]).read_bytes())
    events = Events(job.events)
    if job.parent:
        end_with(job.parent)
    events.emit("started", pid=os.getpid())
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    return job, events
