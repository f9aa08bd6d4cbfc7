"""What a plan lists for evaluation and judging, and how the job files of `evals` say it."""

from __future__ import annotations

from dataclasses import dataclass, fields

from trainers.common import Json

LM_EVAL = "lm_eval"


@dataclass(frozen=True)
class PlannedBenchmark:
    """A benchmark or lm-eval task, resolved.

    Attributes:
        entry: all of it, as the evaluation job lists it; the other attributes are its keys.
        kind: a name of evals.benchmarks.registry, `/path/to/file.py:ClassName`, or lm_eval.
        fingerprint: identity of its rows, its settings and the engine (SHA-256).
        limit: rows read, None for all. samples: answers to each prompt. prompts: the file of its rows.
    """

    entry: Json
    name: str
    kind: str
    fingerprint: str
    limit: int | None = None
    samples: int = 1
    max_new_tokens: int = 0
    prompts: str = ""
    params: Json | None = None

    @classmethod
    def of(cls, entry: Json) -> PlannedBenchmark:
        """The benchmark of an entry of the evaluation job."""
        known = {field.name for field in fields(cls)}
        return cls(entry, **{key: value for key, value in entry.items() if key in known})


@dataclass(frozen=True)
class Policy:
    """A model to evaluate: the reference, a trained run, or a checkpoint of one (`run_id` then ends with @step).

    Attributes:
        path: the checkpoint directory. out: where its generations and scores go.
        adapter: the LoRA adapter, where there is one. merge: what that is merged into first (see evals.engine.merge).
        benchmarks: names of those it is measured on, None for all.
    """

    run_id: str
    path: str
    fingerprint: str
    out: str
    adapter: str | None = None
    merge: Json | None = None
    benchmarks: list[str] | None = None

    @property
    def entry(self) -> Json:
        """As the evaluation job lists it."""
        return {key: value for key, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class PlannedJudge:
    """A judge, resolved.

    Attributes:
        params: of its kind, paths absolute. pairs: all, or reference. checkpoints: whether it judges these too.
        compares: whether it takes two answers or scores one. code: hash of the judge's own file.
        files: hashes of the files its parameters name. benchmarks: names of what it judges.
        answers: a policy's answers, by benchmark.
    """

    name: str
    kind: str
    params: Json
    pairs: str
    checkpoints: bool
    compares: bool
    code: str | None
    files: dict[str, str]
    benchmarks: list[str]
    answers: dict[str, int]


@dataclass(frozen=True)
class JudgeCell:
    """One judge on one benchmark: the policies with answers and the pairs of them to compare."""

    name: str
    judge: str
    benchmark: PlannedBenchmark
    policies: list[Policy]
    pairs: list[tuple[str, str]]
    fingerprint: str

    @property
    def entry(self) -> Json:
        """As the judging job lists it."""
        return {**vars(self), "benchmark": self.benchmark.entry, "policies": [one.entry for one in self.policies]}
