"""Everything a matrix needs, resolved and checked before anything is trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from evals.job import BenchmarkEntry, Policy
from harness.commands.data.learnability import Learnability
from harness.config import MatrixConfig, Source
from harness.plan.benchmarks import contamination_of
from harness.plan.judges import PlannedJudge
from harness.plan.matrix import RunSpec
from harness.plan.references import ResolvedModel
from harness.state import Environment, RunRecord
from harness.state.machine import source_version, this_environment
from harness.state.policies import policy_entry
from trainers.common import Json, fingerprint, now, scores_schema
from trainers.formats.pairs import PreferencePair


@dataclass(frozen=True)
class Plan:
    """A checked matrix and where its results go. `sets`: the training pairs by their identity, those of the first run first.
    `reference_model` is the start, unless model.reference names another."""

    config: MatrixConfig
    source: Source
    output: Path
    model: ResolvedModel
    model_hash: str
    sets: dict[str, list[PreferencePair]]
    pool: int
    specs: list[RunSpec]
    benchmarks: list[BenchmarkEntry]
    judges: list[PlannedJudge]
    learnability: Learnability | None
    reference_model: ResolvedModel
    reference_hash: str

    def run_dir(self, spec: RunSpec) -> Path:
        """Where a run lies."""
        return self.output / "runs" / spec.run_id

    def training_pairs(self, data_hash: str) -> Path:
        """The pairs trained on, as JSONL in the output: workers need neither the sources nor a network."""
        return self.output / f"train_pairs-{data_hash[:16]}.jsonl"

    @property
    def data_hash(self) -> str:
        """Identity of all training pairs of the matrix."""
        return next(iter(self.sets)) if len(self.sets) == 1 else fingerprint(sorted(self.sets))

    @property
    def pairs(self) -> list[PreferencePair]:
        """The pairs that the first run trains on; all draws are about as many."""
        return next(iter(self.sets.values()))

    @cached_property
    def training_prompts(self) -> list[str]:
        """The last user message of every pair that any run trains on."""
        return list({p.id: p.prompt[-1]["content"] for pairs in self.sets.values() for p in pairs}.values())

    @property
    def reference_dir(self) -> Path:
        """Where the evaluation of the reference policy lies."""
        return self.output / scores_schema.REFERENCE

    @cached_property
    def mean_pair_bytes(self) -> float:
        """UTF-8 bytes of a training pair's contents, prompt and both answers, on average."""
        turns = (turn for pair in self.pairs for turn in pair.prompt + pair.chosen + pair.rejected)
        return sum(len(turn["content"].encode()) for turn in turns) / max(len(self.pairs), 1)

    @cached_property
    def environment(self) -> Environment:
        """Versions and hardware, for the record."""
        return this_environment()

    def run_record(self, spec: RunSpec) -> RunRecord:
        """The content of run.json."""
        return RunRecord.model_validate(
            {
                "schema_version": 1,
                "run_id": spec.run_id,
                "method": spec.method,
                "rule": spec.rule,
                "objective": spec.objective,
                "seed": spec.seed,
                "params": spec.params,
                "hyper": spec.hyper,
                "parent": spec.parent,
                "parent_method": spec.parent_run.method if spec.parent_run is not None else None,
                **self._planted(spec),
                "fingerprint": spec.fingerprint,
                "model": {
                    "name": self.model.name,
                    "weights_hash": self.model_hash,
                    "reference": self.config.model.reference,
                    "reference_hash": self.reference_hash,
                },
                "data": {
                    "train": self.config.model_dump()["data"]["train"],
                    "content_hash": spec.data_hash,
                    "n_pairs": len(self.sets[spec.data_hash]),
                    **({} if spec.draw.seed is None else {"pool": self.pool}),
                    "heldout_overlap": self.heldout_overlap,
                    "contamination": {n: {k: c[k] for k in ("exact", "near")} for n, c in self.contamination.items()},
                },
                "training": spec.training,
                "lora": self.config.lora,
                **self.environment.plain(),
                "source": source_version(),
                "created": now(),
            }
        )

    def _planted(self, spec: RunSpec) -> Json:
        """What a control of `sensitivity` is for, and what it is compared with."""
        planted = self.config.sensitivity
        role = None if planted is None else planted.roles.get(spec.method)
        if planted is None or role is None or (role == "against" and planted.flip is None):
            return {}
        return {"planted": {"role": role, "against": planted.against}}

    @cached_property
    def contamination(self) -> dict[str, Json]:
        """Benchmark prompts that are trained on, exactly or nearly, by benchmark (see evals.contamination)."""
        return contamination_of(self.training_prompts, self.benchmarks)

    @property
    def heldout_overlap(self) -> int:
        """How many benchmark prompts are also training prompts."""
        return sum(found["exact"] for found in self.contamination.values())

    def train_job(self, spec: RunSpec) -> Json:
        """What harness.workers.train_worker needs for one run."""
        model, reference = self.config.model, self.reference if self.config.model.reference is not None else None
        return {
            "fingerprint": spec.fingerprint,
            "objective": spec.objective,
            "data": {"path": str(self.training_pairs(spec.data_hash)), "limit": None, "seed": self.config.data.seed},
            "train_job": {
                "run_id": spec.run_id,
                "run_dir": str(self.run_dir(spec)),
                "rule": spec.rule,
                "params": spec.params,
                "seed": spec.seed,
                "model_path": str(self.model.path),
                "weights_hash": self.model_hash,
                "reference_path": str(reference.path) if reference is not None else None,
                "reference_hash": reference.fingerprint if reference is not None else None,
                "dtype": model.dtype,
                "attn_implementation": model.attn_implementation,
                "trust_remote_code": model.trust_remote_code,
                "reference_root": str(self.output / "shared" / "reference"),
                "training": spec.training,
                "lora": self.config.lora,
                "group": self.config.name,
                "quantization": model.quantization.model_dump() if model.quantization is not None else None,
                "prefix_sharing": self.config.prefix_sharing,
                "parent_dir": str(self.output / "runs" / spec.parent) if spec.parent is not None else None,
                "snapshots": self.config.evaluation.checkpoints_of(spec.seed),
                "save": self.config.save,
            },
        }

    @property
    def reference(self) -> Policy:
        """The reference, which every run is trained against and compared with."""
        path, out = self.reference_model.path, self.reference_dir
        return Policy(run_id=scores_schema.REFERENCE, path=path, fingerprint=self.reference_hash, out=out)

    def policies(self, trained: Sequence[RunSpec]) -> list[Policy]:
        """The reference and the trained runs."""
        return [self.reference, *(policy_entry(self, spec) for spec in trained)]

    def cell_done(self, policy: Policy, benchmark: BenchmarkEntry) -> bool:
        """Whether a policy has valid scores on a benchmark."""
        return scores_schema.is_scored(policy.out, benchmark.name, benchmark.cell(policy))
