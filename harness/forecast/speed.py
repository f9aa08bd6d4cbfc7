"""How far each run of an output is, and how fast this machine trains and evaluates a model: from what it has done so far, kept in
the user's cache directory."""

import contextlib
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from evals.job import LM_EVAL, BenchmarkEntry
from harness.plan.matrix import RunSpec
from harness.plan.plan import Plan
from harness.state import RunStore, whole_rows
from harness.state.machine import gpus
from trainers.common import Json, cache_dir, fingerprint, now, read_json, scores_schema, write_json

_FILE = "speeds.json"
_BYTES_PER_TOKEN = 3.5  # of text; enough for an estimate


@dataclass(frozen=True)
class RunState:
    """One run: whether it is trained, how many of its benchmarks are scored, and seconds its training took if known."""

    spec: RunSpec
    trained: bool
    cells: int
    train_seconds: float | None


def survey(plan: Plan, specs: Sequence[RunSpec]) -> list[RunState]:
    """The state of `specs`, in their order. Files need only be there: their content is checked when the matrix is run."""
    found = []
    for spec, policy in zip(specs, plan.policies(specs)[1:], strict=True):
        store = RunStore(plan.run_dir(spec))
        stages = store.status().stages if store.directory.is_dir() else {}
        train, evaluated = stages.get("train"), stages.get("evaluate")
        trained = train is not None and store.is_done("train", spec.fingerprint, verify=False)
        cells = scores_schema.digest([benchmark.cell(policy) for benchmark in plan.benchmarks])
        count = len(plan.benchmarks)
        if evaluated is None or not evaluated.is_there(store.directory, cells):  # the score files tell
            count = sum(plan.cell_done(policy, benchmark) for benchmark in plan.benchmarks) if stages else 0
        found.append(RunState(spec, trained, count, train.seconds if train is not None and trained else None))
    return found


@dataclass(frozen=True)
class Speed:
    """Seconds, each None or absent where nothing was measured.

    Attributes:
        pair_token: training, a token of a pair (prompt and both answers), over all steps.
        engine: the evaluation engine's start.
        item: one answer or item of a kind of benchmark (see `cell_kind`).
        source: where the figures are from, for people.
    """

    pair_token: float | None = None
    engine: float | None = None
    item: Mapping[str, float] = field(default_factory=dict)
    source: str = ""


def pair_tokens(plan: Plan) -> float:
    """Mean tokens of a training pair, prompt and both answers, going by its bytes; a chat template adds about 40."""
    return plan.mean_pair_bytes / _BYTES_PER_TOKEN + 40


def examples(plan: Plan, training: Json) -> int:
    """Pairs a run trains on, each epoch counted."""
    steps = int(training.get("max_steps", -1))
    batch = int(training.get("per_device_train_batch_size", 8)) * int(training.get("gradient_accumulation_steps", 1))
    return steps * batch if steps > 0 else int(len(plan.pairs) * float(training.get("num_train_epochs", 3)))


def items(benchmark: BenchmarkEntry) -> int:
    """Answers or items of a benchmark; 200 for each sample where no limit is set."""
    return (benchmark.limit or 200) * benchmark.samples


def cell_kind(benchmark: BenchmarkEntry) -> str:
    """Benchmarks whose items cost the same: by task, or by kind and length of the answers."""
    return f"{benchmark.kind} {benchmark.name if benchmark.kind == LM_EVAL else benchmark.max_new_tokens}"


def measured(plan: Plan, states: Sequence[RunState]) -> Speed:
    """What the finished runs and the last evaluation in the output took."""
    per_token = [
        state.train_seconds / (number * pair_tokens(plan))
        for state in states
        if state.train_seconds is not None and (number := examples(plan, state.spec.training))
    ]
    source = f"{len(per_token)} finished run{'s' * (len(per_token) != 1)} of this matrix" if per_token else ""
    return Speed(statistics.median(per_token) if per_token else None, *_evaluation(plan), source)


def _evaluation(plan: Plan) -> tuple[float | None, dict[str, float]]:
    """Seconds of the engine's start and of an item, from the events of the last evaluation."""
    by_name = {benchmark.name: benchmark for benchmark in plan.benchmarks}
    seconds: dict[str, list[float]] = {}
    engine, last = None, None
    for event in whole_rows(plan.output / "work" / "evaluate.events.jsonl"):
        kind, benchmark = event.get("event"), by_name.get(event.get("benchmark", ""))
        if kind == "engine_started":
            engine = float(event["seconds"])
        if kind == "benchmark_done" and benchmark is not None and last is not None:
            seconds.setdefault(cell_kind(benchmark), []).append(max(event["time"] - last, 0.0) / items(benchmark))
        if kind in ("policy_started", "benchmark_done"):
            last = event["time"]
    return engine, {kind: statistics.median(values) for kind, values in seconds.items()}


def _known() -> Json:
    """Speeds by key; empty where the file cannot be read: an estimate must not end a matrix."""
    with contextlib.suppress(OSError):
        known = read_json(cache_dir() / _FILE)
        return known if isinstance(known, dict) else {}
    return {}


def _key(plan: Plan) -> str:
    """What speeds depend on beside the length of texts: machine, model, precision, and how the matrix trains and serves."""
    config = plan.config
    return fingerprint(
        {
            "cpus": len(os.sched_getaffinity(0)),
            "gpus": gpus(),
            "model": plan.model_hash,
            "dtype": config.model.dtype,
            "lora": config.lora is not None,
            "prefix_sharing": config.prefix_sharing,
            "engine": config.evaluation.engine.backend,
        }
    )


def recall(plan: Plan) -> Speed:
    """What earlier matrices of this model took on this machine; empty where there was none, or one of another version."""
    entry = _known().get(_key(plan), {})
    return Speed(**entry) if entry.keys() == asdict(Speed()).keys() else Speed()


def remember(plan: Plan) -> None:
    """Keep what this output's runs and its last evaluation took for the estimates of later matrices."""
    new, old = measured(plan, survey(plan, plan.specs)), recall(plan)
    if new.pair_token is not None or new.item:
        entry = {key: value for key, value in asdict(new).items() if value is not None}
        entry |= {"item": {**old.item, **new.item}, "source": f"runs of this model on this machine, last {now()[:10]}"}
        write_json(cache_dir() / _FILE, {**_known(), _key(plan): {**asdict(old), **entry}})
