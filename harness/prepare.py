"""From a matrix file to a checked plan: `harness.checks.static` first, then models, data and devices, each reached once; and what
an output directory says of itself: the frozen matrix and its claims."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from harness.checks.report import check_report
from harness.checks.settings import check_served
from harness.checks.static import check_columns, check_static
from harness.checks.tokens import answerable, trainable
from harness.checks.trackers import check_trackers
from harness.commands.data.learnability import of_data_card, pairs_hash, recall
from harness.config import MatrixConfig, OverriddenSource, Source, load, override, refuse
from harness.executors.registry import settings_of
from harness.plan.analysis import analysis_plan, frozen_plan
from harness.plan.benchmarks import engine_identity, metrics_of, resolve_benchmark, resolve_task
from harness.plan.data import load_data, pair_sets
from harness.plan.judges import judged_metrics, resolve_judges
from harness.plan.matrix import RunSpec
from harness.plan.model import reference_model, starting_model, template_date
from harness.plan.plan import Plan
from harness.plan.references import model_hash, resolve_model
from harness.state.machine import gpus
from harness.state.store import RUN
from reports.verdict.claims import CLAIMS
from trainers.common import fingerprint, now, read_json, write_bytes, write_json
from trainers.formats import to_jsonl

MATRIX = "matrix.yaml"


def make_plan(config_path: Path, output: Path, log: Callable[[str], None], overrides: Sequence[str] = ()) -> Plan:
    """Read, check and resolve a matrix; `overrides` are `key=value` texts (see harness.config.source).

    Raises:
        UserError: anything wrong, before anything is written or trained.
    """
    source = override(load(config_path), overrides)
    config, drafts = check_static(source)
    check_output(config, output)
    return resolve(config, source, drafts, output.resolve(), log)


def resolve(
    config: MatrixConfig, source: Source, drafts: Sequence[RunSpec], output: Path, log: Callable[[str], None]
) -> Plan:
    """The plan of a checked matrix: its model, data, devices and judges, each reached once.

    Args:
        drafts: the runs of `harness.checks.static.check`, which know neither weights nor data.

    Raises:
        UserError: something is not there, or does not go together.
    """
    check_trackers(config, source)
    data = load_data(config, source, log)
    engine, asked = engine_identity(config, source), config.evaluation
    benchmarks = [resolve_benchmark(config, source, i, engine, data.heldout) for i in range(len(asked.benchmarks))]
    benchmarks += [resolve_task(task, i, source, engine) for i, task in enumerate(asked.lm_eval)]
    judges = resolve_judges(config, source, benchmarks, log)
    if judges:  # only now it is known which answers a judge can read, and whether it compares or scores them
        check_report(config, source, {**metrics_of(benchmarks), **judged_metrics(judges)})
    model = resolve_model(config.model, source.where(("model", "name_or_path")), log, source.path.parent)
    model = starting_model(config, source, model, template_date(config, source, output), log)
    reference = reference_model(config, source, model, log)

    fits = partial(trainable, config, model=model, log=log)
    drawn = pair_sets(config, source, data.pool, [draft.draw for draft in drafts], fits)
    check_columns(drafts, drawn)
    answerable(config, benchmarks, model, log)
    here = settings_of(config, source)[0].here
    check_served(config, source, model.path, str(engine["backend"]), here and not gpus())
    hashes, weights = {draw: pairs_hash(pairs) for draw, pairs in drawn.items()}, model_hash(model.path)
    names = {name for draft in drafts for name in draft.columns}
    columns = {
        draw: {name: fingerprint([pair.columns.get(name) for pair in pairs]) for name in names}
        for draw, pairs in drawn.items()
    }
    theirs = None if reference is None else model_hash(reference.path)
    known = recall(data.every, weights)
    if known is None and isinstance(config.data.train, str):
        known = of_data_card(data.first, config.model.name_or_path)
    if known is not None and known.warning is not None:
        log(known.warning)
    return Plan(
        config,
        source,
        output,
        model,
        weights,
        sets={hashes[draw]: pairs for draw, pairs in drawn.items()},
        pool=len(data.pool),
        specs=[draft.with_hashes(weights, hashes, columns, theirs) for draft in drafts],
        benchmarks=benchmarks,
        judges=judges,
        learnability=known,
        reference_model=reference or model,
        reference_hash=theirs or weights,
    )


def check_output(config: MatrixConfig, output: Path) -> None:
    """Refuse to write over anything that is not this matrix.

    Raises:
        UserError: another matrix or somebody's files are there.
    """
    # listed before matrix.json is looked for: another worker may write it meanwhile
    entries = list(output.iterdir()) if output.is_dir() else []
    name = _name(read_json(output / "matrix.json"))
    if name != config.name and (output / MATRIX).is_file():
        # matrix.json is damaged, or its name is; matrix.yaml is written after it and says the same
        name = _name(load(output / MATRIX).value) or name
    refuse(
        (output.exists() and not output.is_dir(), f"--output {output} is a file; give a directory"),
        (
            name not in (None, config.name),
            f"--output {output} holds the matrix {name!r}, and this one is {config.name!r}; "
            "give another --output, or rename the matrix",
        ),
        (
            name is None and not all(map(_unclaimed, entries)),
            f"--output {output} is not empty and holds no matrix; give a new or empty directory",
        ),
    )


def _unclaimed(path: Path) -> bool:
    """Whether an entry of an output without a matrix was left by a kill before the first freeze.

    That is `.lock`, `.matrix.json.<pid>.tmp`, the workers' lock in `work/setup`, and the claims, which were once written first.
    """
    if path.name == "work":
        return all(inner.name.startswith(".") or inner.is_dir() for inner in path.rglob("*"))
    return path.name.startswith(".") or path.name == CLAIMS


def _name(matrix: Any) -> str | None:
    return str(matrix["name"]) if isinstance(matrix, dict) and "name" in matrix else None


def freeze(plan: Plan) -> None:
    """Write matrix.yaml (as read) and matrix.json (resolved, with the run ids) into the output directory.

    matrix.json is the first file of an output: it says whose the directory is, so that a kill after it blocks nothing.
    claims.json, the whole analysis plan, is written before the first run and never changed afterwards, so that what differs
    later is exploratory. Once a run was begun without it nothing is frozen any more: it would come too late.
    """
    frozen, output, config = read_json(plan.output / "matrix.json"), plan.output, plan.config.model_dump()
    before = frozen if isinstance(frozen, dict) else {}
    record = {
        "schema_version": 1,
        "name": plan.config.name,
        "config": config,
        "runs": [spec.run_id for spec in plan.specs],
        "config_path": plan.source.path.name,
        "plan": analysis_plan(plan),
        # what an output without a whole plan was first asked to report
        "first_report": before.get("first_report") or (before.get("config") or config).get("report"),
        **({"template_date": plan.model.template_date} if plan.model.template_date is not None else {}),
    }
    given = plan.source
    text = given.text().encode() if isinstance(given, OverriddenSource) else given.path.read_bytes()
    if not _holds(output / MATRIX, text) or {key: before.get(key) for key in record} != record:
        write_json(output / "matrix.json", {**record, "frozen": now()})
        write_bytes(output / MATRIX, text)
    if not any((output / "runs").glob(f"*/{RUN}")) and not (output / CLAIMS).exists():
        write_json(output / CLAIMS, frozen_plan(plan))
    for data_hash, found in plan.sets.items():
        path, pairs = plan.training_pairs(data_hash), to_jsonl(found).encode()
        if not _holds(path, pairs):  # missing, or damaged
            write_bytes(path, pairs)


def _holds(path: Path, data: bytes) -> bool:
    return path.is_file() and path.read_bytes() == data
