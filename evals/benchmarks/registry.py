"""Kinds of benchmark by name. Importing it loads nothing heavy.

A kind from outside the package is reached as `path/to/file.py:ClassName` or through the entry-point group
`dpo_beta_harness.benchmarks`; its parameters are the keyword arguments of its `__init__`.
"""

from evals.benchmarks.base import Benchmark, BenchmarkError
from trainers.common import Registry, refuse

KINDS = Registry(
    "benchmark kind",
    {
        "constraints": "evals.benchmarks.constraints:ConstraintBenchmark",
        "prompts": "evals.benchmarks.prompts:PromptSet",
        "gsm8k": "evals.benchmarks.gsm8k:Gsm8k",
        "ifeval": "evals.benchmarks.ifeval:IfEval",
        "preference": "evals.benchmarks.preference:Preference",
        "gold_reward": "evals.benchmarks.gold_reward:GoldReward",
        "kl": "evals.benchmarks.kl:KlToReference",
    },
    ("dpo_beta_harness.benchmarks",),
    (Benchmark,),
    BenchmarkError,
)
BUILTIN = KINDS.builtin
available, source_file, build = KINDS.available, KINDS.source_file, KINDS.build


def find(kind: str) -> type[Benchmark]:
    """The class of a kind.

    Raises:
        BenchmarkError: unknown, not there, or no subclass of Benchmark.
    """
    found = KINDS.load(kind)
    base = isinstance(found, type) and issubclass(found, Benchmark)
    lacking = [key for key in ("kind", "metrics") if not hasattr(found, key)]
    refuse(
        BenchmarkError,
        (not base, f"{kind!r} is not a subclass of evals.benchmarks.base.Benchmark"),
        (lacking, f"kind {kind!r} does not set {', '.join(lacking)}; see evals.benchmarks.base"),
    )
    return found


def parameters(cls: type[Benchmark]) -> list[str]:
    """Names of a kind's own parameters."""
    return KINDS.parameters(cls) or []
