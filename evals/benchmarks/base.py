"""What a benchmark is: it reads its rows, collects what the engine gives for them, and turns that into scores."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as checked_dataclass

from evals.estimates import estimates, score_file
from evals.job import BenchmarkEntry, Policy
from trainers.common import Json, UserError


class BenchmarkError(UserError):
    """Prompts or generations that cannot be scored."""


Row = Json
#: Keys of a benchmark in the matrix file that say how answers are sampled.
SAMPLING = ("max_new_tokens", "temperature", "top_p", "samples", "seed")


@checked_dataclass(frozen=True, config=ConfigDict(arbitrary_types_allowed=True))
class Visit:
    """One policy on one benchmark, with the engine that serves it (or, in the second pass, the reference).

    Attributes:
        policy, benchmark, reference: entries of the job; `reference` is None where the job lists none.
        progress: called with the fields of a progress event (done, total, ...).
    """

    engine: Any
    policy: Policy
    benchmark: BenchmarkEntry
    reference: Policy | None
    progress: Callable[..., None]

    @property
    def name(self) -> str:
        return self.benchmark.name

    def of_reference(self) -> "Visit":
        """The same benchmark for the reference, whose weights the engine must serve.

        Raises:
            BenchmarkError: the job has no reference.
        """
        if self.reference is None:
            raise BenchmarkError(f"benchmark {self.name!r} compares with the reference, and the job lists no reference")
        return replace(self, policy=self.reference)


class Benchmark(ABC):
    """One kind of benchmark. Its parameters are the keyword arguments of `__init__`.

    Class attributes:
        kind: name in the matrix file and in score files.
        metrics: what it reports, the primary one first, and whether higher is better (None: a description).
        takes: which of the sampling keys of the matrix file it reads; others are refused.
        defaults: values of keys of the matrix file where they differ from the common ones.

    Attributes, of the class or of one with these parameters:
        by_rule: whether a rule that anyone can run again gives the scores, and not a model's judgement.
        descriptions: what a metric measures, by its name, for the report.
    """

    kind: ClassVar[str]
    metrics: ClassVar[Mapping[str, bool | None]]
    takes: ClassVar[Sequence[str]] = SAMPLING
    defaults: ClassVar[Mapping[str, Any]] = {}
    by_rule: bool = False
    descriptions: Mapping[str, str] = {}

    @classmethod
    def measures(cls, params: Mapping[str, Any]) -> tuple[str, ...]:
        """Names of its metrics with these parameters, which need not be right."""
        return tuple(cls.metrics)

    @abstractmethod
    def load(self, path: Path, limit: int | None) -> list[Row]:
        """The first `limit` rows of a file, checked; `id` is unique.

        Raises:
            BenchmarkError: with file, line and fix.
        """

    def identity(self) -> Row:
        """JSON-ready: what stands in its fingerprint instead of parameters that name files, by their names."""
        return {}

    def prompts_of(self, row: Row) -> list[str]:
        """Prompts of a row as the user would write them, for comparison with the training data."""
        return list(row.get("turns") or [row["prompt"]])

    def turns_of(self, row: Row) -> list[str]:
        """What the policy is asked, turn after turn, for judges of its answers; none for a kind without such answers."""
        return []

    @abstractmethod
    def collect(self, visit: Visit, rows: list[Row]) -> None:
        """While the policy is served: write what is missing of its answers or log-probs to files."""

    def needs_reference(self, visit: Visit, rows: list[Row]) -> bool:
        """Whether `score` must be called while the reference's weights are served."""
        return False

    @abstractmethod
    def score(self, visit: Visit, rows: list[Row], fingerprint: str) -> Row:
        """The content of `scores/<benchmark>.json`, from the files that `collect` wrote."""

    def result(
        self, visit: Visit, fingerprint: str, items: list[Row], metrics: Mapping[str, bool | None] | None = None
    ) -> Row:
        """A score file from its items: every metric is the mean of the items' values, clustered by their group."""
        found = estimates(items, metrics or self.metrics)
        return score_file(
            visit.name, self.kind, visit.policy.run_id, fingerprint, items, found, next(iter(self.metrics))
        )


def __getattr__(name: str) -> Any:
    """`AnswerBenchmark` is documented here; its module needs this one first."""
    if name == "AnswerBenchmark":
        return importlib.import_module("evals.benchmarks.answers").AnswerBenchmark
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
