"""From a matrix file to a checked plan: `harness.checks.static` first, then models, data and devices, each reached once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from harness.checks.combinations import check_columns
from harness.checks.report import check_claims, check_report
from harness.checks.served import check_served
from harness.checks.static import check_static
from harness.checks.tokens import answerable, trainable
from harness.checks.trackers import check_trackers
from harness.commands.data.learnability import of_data_card, pairs_hash, recall
from harness.config import MatrixConfig, Source, load, override
from harness.executors.registry import settings_of
from harness.plan.benchmarks import engine_identity, metrics_of, resolve_benchmark, resolve_task
from harness.plan.data import load_data
from harness.plan.draws import pair_sets
from harness.plan.judges import judged_metrics, resolve_judges
from harness.plan.machine import gpus
from harness.plan.matrix import RunSpec
from harness.plan.model import reference_model, starting_model, template_date
from harness.plan.model_hash import model_hash
from harness.plan.plan import Plan
from harness.plan.references import resolve_model
from harness.state.output import check_output
from trainers.common import fingerprint
from trainers.formats.pairs import PreferencePair


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
    data_file, every, pool, held_file = load_data(config, source, log)
    engine = engine_identity(config, source)
    benchmarks = [
        resolve_benchmark(config, source, i, engine, held_file) for i in range(len(config.evaluation.benchmarks))
    ]
    benchmarks += [resolve_task(task, i, source, engine) for i, task in enumerate(config.evaluation.lm_eval)]
    judges = resolve_judges(config, source, benchmarks, log)
    if judges:  # only now it is known which answers a judge can read, and whether it compares or scores them
        measured = {**metrics_of(benchmarks), **judged_metrics(judges)}
        check_report(config, source, measured)
        check_claims(config, source, measured)
    model = resolve_model(config.model, source.where(("model", "name_or_path")), log, source.path.parent)
    model = starting_model(config, source, model, template_date(config, source, output), log)
    reference = reference_model(config, source, model, log)

    def fits(pairs: list[PreferencePair]) -> list[PreferencePair]:
        return trainable(config, pairs, model, log)

    drawn = pair_sets(config, source, pool, [draft.draw for draft in drafts], fits)
    check_columns(drafts, drawn, data_file)
    answerable(config, benchmarks, model, log)
    local = settings_of(config, source)[0].here
    check_served(config, source, model.path, str(engine["backend"]), local and not gpus())
    hashes, weights = {draw: pairs_hash(pairs) for draw, pairs in drawn.items()}, model_hash(model.path)
    sets = {hashes[draw]: pairs for draw, pairs in drawn.items()}
    names = {name for draft in drafts for name in draft.columns}
    columns = {
        draw: {name: fingerprint([pair.columns.get(name) for pair in pairs]) for name in names}
        for draw, pairs in drawn.items()
    }
    theirs = None if reference is None else model_hash(reference.path)
    specs = [draft.with_hashes(weights, hashes, columns, theirs) for draft in drafts]
    known = recall(every, weights)
    if known is None and isinstance(config.data.train, str):
        known = of_data_card(data_file, config.model.name_or_path)
    if known is not None and known.warning is not None:
        log(known.warning)
    found = benchmarks, judges, known, reference or model, theirs or weights
    return Plan(config, source, output, model, weights, data_file, sets, len(pool), specs, *found)
