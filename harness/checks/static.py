"""A matrix file checked on its own: shape, rules, fields, claims. Reads no model, no data, no network."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from evals.benchmarks import registry as benchmark_kinds
from evals.judges.worker import SCORE, WIN_RATE, cell_name
from harness.checks.report import check_report
from harness.checks.settings import Cases, wrong_data, wrong_save, wrong_snapshots
from harness.config import MatrixConfig, Path_, Source, parse, refuse
from harness.config.fields import check_fields, check_objective_fields
from harness.executors.registry import settings_of
from harness.plan.benchmarks import checked_kind
from harness.plan.data import Draw
from harness.plan.matrix import RunSpec, expand
from harness.plan.references import EMBEDDED, data_path
from reports.compare.judges import LENGTH_CONTROLLED
from trainers.common import UserError, nearest
from trainers.formats.pairs import PreferencePair
from trainers.rules import catalogue
from trainers.run.objectives import ObjectiveError, check_lora, check_training

#: How PEFT may begin an adapter: with one that does nothing yet, so that the model without it is the start and the reference.
_STARTS = (True, False, "gaussian", "orthogonal")
#: Attention of transformers; a name with a slash is a kernel of the hub.
_ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flash_attention_4", "flex_attention")
#: Losses TRL combines with an f-divergence other than reverse KL.
_DIVERGENCE_LOSSES = {"sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop"}


def check_static(source: Source) -> tuple[MatrixConfig, list[RunSpec]]:
    """The configuration and its runs.

    Raises:
        UserError: a line for each problem of the file.
    """
    config = parse(source)
    problems, runs = check(config, source)
    refuse((problems, "\n".join(problems)))
    return config, runs


def check(config: MatrixConfig, source: Source) -> tuple[list[str], list[RunSpec]]:
    """Problems of a matrix file, each with file, line, key, value and fix: the first of each group of settings.

    Its runs come second; their fingerprints cover no weights and no data.
    """
    problems: list[str] = []
    runs: list[RunSpec] = []
    groups = (
        settings_of,
        _check_fields,
        lambda *given: refuse(*wrong_data(*given)),
        lambda *given: refuse(*wrong_save(*given)),
        lambda *given: refuse(*_wrong_model(*given)),
        partial(_check_runs, runs),
        _check_measures,
    )
    for group in groups:
        try:
            group(config, source)
        except UserError as error:
            problems.append(str(error))
        except TypeError:  # a value that identifies no run, such as NaN: the group that owns its key has named it
            if not problems:
                raise
    return problems, runs


def _check_fields(config: MatrixConfig, source: Source) -> None:
    check_fields("training", config.training, source, ("training",))
    for i, method in enumerate(config.methods):
        check_fields("training", method.training, source, ("methods", i, "training"), method.objective)
        if method.objective != "dpo":
            check_objective_fields(method.objective, config.training, source)
    check_fields("lora", config.lora or {}, source, ("lora",))


def _wrong_model(config: MatrixConfig, source: Source) -> Cases:
    model, bits = config.model, config.model.quantization
    attention, where = model.attn_implementation, source.at("model", "quantization")
    begins = (config.lora or {}).get("init_lora_weights", True)
    both = bits is not None and bits.load_in_4bit
    sets = "both load_in_4bit and load_in_8bit" if both else "neither load_in_4bit nor load_in_8bit"
    return [
        (
            attention not in _ATTENTION and "/" not in attention,
            f"{source.at('model', 'attn_implementation')} is {attention!r}; {nearest(attention, _ATTENTION)}",
        ),
        (
            begins not in _STARTS,
            f"{source.at('lora', 'init_lora_weights')} is {begins!r}, which changes the weights under the adapter (PiSSA, OLoRA, "
            "CorDA, LoftQ) or needs data (EVA): without it they are the reference; set it to true, gaussian or orthogonal",
        ),
        (
            model.adapter is None and model.adapter_revision is not None,
            f"{source.at('model', 'adapter_revision')} is {model.adapter_revision!r}, but no adapter is named; add adapter",
        ),
        (
            bits is not None and bits.load_in_4bit == bits.load_in_8bit,
            f"{where} sets {sets}; set one of them to true",
        ),
        (
            bits is not None and config.lora is None,
            f"{where} is set, but quantised weights cannot be trained; add lora: or remove it",
        ),
    ]


def _check_runs(runs: list[RunSpec], config: MatrixConfig, source: Source) -> None:
    """Data that does not exist and settings that exclude one another; the runs go into `runs`."""
    for i, one in enumerate(config.data.sources):
        key = "data.train" if isinstance(config.data.train, str) else f"data.train[{i}].source"
        _check_embedded(one.source, source.where(("data", "train")), key)
    runs += expand(config, source)
    check_combinations(config, source, runs)


def _check_embedded(reference: str, where: str, key: str) -> None:
    if reference.startswith(EMBEDDED):
        data_path(reference, Path(), where, key)


def _check_measures(config: MatrixConfig, source: Source) -> None:
    """Benchmarks, and what report, claims and checkpoints say of them; which rows a judge can read is known later."""
    measured: dict[str, tuple[str, ...] | None] = {}
    for i, benchmark in enumerate(config.evaluation.benchmarks):
        kind = checked_kind(benchmark, i, source)
        where, _, key = source.at("evaluation", "benchmarks", i, "prompts").rpartition(": ")
        _check_embedded(benchmark.prompts or "", where, key)
        measured[benchmark.name] = benchmark_kinds.find(kind).measures(benchmark.params)
    measured |= {task.task: None for task in config.evaluation.lm_eval}
    names = config.evaluation.benchmark_names
    twice = next((name for name in names if names.count(name) > 1), None)
    refuse((twice is not None, f"{source.path}: duplicate benchmark name {twice!r}; names must be unique"))
    measured |= {
        cell_name(name, judge.name): (WIN_RATE, SCORE, LENGTH_CONTROLLED)
        for judge in config.evaluation.judges
        for name in judge.benchmarks or names
    }
    check_report(config, source, measured)
    refuse(*wrong_snapshots(config, source))


def check_columns(specs: Sequence[RunSpec], drawn: Mapping[Draw, Sequence[PreferencePair]]) -> None:
    """Refuse pairs without a beta, or without another number, where a run's rule reads it.

    Raises:
        UserError: the first such pair.
    """
    for spec in specs:
        for name in ("beta",) if spec.rule == "dataset_beta" else spec.columns:
            lacking = [p for p in drawn[spec.draw] if {**p.columns, "beta": p.beta}.get(name) is None]
            needs = f"needs a number {'above 0 ' if name == 'beta' else ''}in every row"
            said = f"rule {spec.rule} of method {spec.method!r} {needs}"
            refuse(*((True, f"{one.where}: no {name!r} (id {one.id!r}); {said}") for one in lacking[:1]))


def check_combinations(config: MatrixConfig, source: Source, specs: Sequence[RunSpec]) -> None:
    """Refuse settings of a run that exclude one another.

    Raises:
        UserError: the first such combination.
    """
    try:
        check_lora(config.lora)
    except ObjectiveError as error:
        raise UserError(f"{source.where(('lora', 'init_lora_weights'))}: {error}") from None
    index_of = {method.name: i for i, method in enumerate(config.methods)}
    for spec in specs:
        place: Path_ = ("methods", index_of[spec.method])
        own = config.methods[index_of[spec.method]].training
        for wrong, key, text in _refused(spec, config):
            at = (*place, "training", key) if key in own else ("training", key) if key in spec.training else place
            refuse((wrong, f"{source.where(at)}: method {spec.method!r}: {text}"))


def _refused(spec: RunSpec, config: MatrixConfig) -> list[tuple[bool, str, str]]:
    """Whether a run has settings that exclude one another, the key to point at, and what to say."""
    if spec.objective != "dpo":
        try:
            check_training(spec.objective, spec.params["pref_loss"], spec.training)
        except ObjectiveError as error:
            return [(True, "", str(error))]
        return []
    training, rule = spec.training, spec.rule
    losses, smoothing = catalogue.losses_of(spec.params), training.get("label_smoothing", 0.0)
    divergence, weights = training.get("f_divergence_type", "reverse_kl"), training.get("loss_weights")
    moving, cached = bool(training.get("sync_ref_model")), bool(training.get("precompute_ref_log_probs"))
    known = catalogue.BUILTIN.get(rule, catalogue.RuleInfo(rule, "", ""))
    spread = rule in ("beta_dpo", "alpha_dpo") and catalogue.depends_on_batch(rule, spec.params)
    undivided = [name for name in losses if name not in _DIVERGENCE_LOSSES]
    what = f"rule {rule}" if known.own == "score" else f"pref_loss {', '.join(undivided)}"
    smoothed = [name for name in losses if name in catalogue.SMOOTHED]
    return [
        (
            "exo_pair" in losses and smoothing <= 0,
            "label_smoothing",
            f"pref_loss exo_pair needs training.label_smoothing above 0 (it is {smoothing}); "
            "the EXO paper recommends 0.001",
        ),
        (
            ("robust" in losses or "cdpo" in losses) and not 0 <= smoothing < 0.5,
            "label_smoothing",
            f"pref_loss {smoothed[-1] if smoothed else ''} needs label_smoothing in [0, 0.5), not {smoothing}",
        ),
        (
            bool(smoothing) and not smoothed,
            "label_smoothing",
            f"label_smoothing {smoothing} has no effect on pref_loss {', '.join(losses)}; use pref_loss "
            f"{' or '.join(catalogue.SMOOTHED)}, or rule cdpo or robust, or remove it",
        ),
        (
            divergence != "reverse_kl" and (bool(undivided) or known.own == "score"),
            "f_divergence_type",
            f"{what} has no f_divergence_type {divergence!r}; use reverse_kl",
        ),
        (
            bool(training.get("use_weighting")) and (known.own != "" or "cdpo" in losses),
            "use_weighting",
            f"rule {rule} with pref_loss {', '.join(losses)} forms its own loss; set use_weighting to false",
        ),
        (
            weights is not None and len(weights) != len(losses),
            "loss_weights",
            f"loss_weights has {len(weights or [])} values and pref_loss {len(losses)}; give each loss its weight",
        ),
        (
            weights is not None and len(losses) == 1 and list(weights) != [1.0],
            "loss_weights",
            "pref_loss is a single loss here, so loss_weights has no meaning; remove it",
        ),
        (
            known.reads_prompt and training.get("truncation_mode") == "keep_end",
            "truncation_mode",
            f"rule {rule} reads the prompt, and keep_end cuts more of it the longer the answer is; set it to keep_start",
        ),
        (
            cached and known.reference_in_loop,
            "precompute_ref_log_probs",
            f"rule {rule} needs the reference's logits in every step; remove precompute_ref_log_probs",
        ),
        (
            moving and config.lora is not None,
            "sync_ref_model",
            "it needs a separate reference, which LoRA lacks; set lora to null",
        ),
        (
            moving and cached,
            "sync_ref_model",
            "a moving reference cannot be precomputed; remove precompute_ref_log_probs",
        ),
        (
            spread and training.get("per_device_train_batch_size", 8) < 2,
            "per_device_train_batch_size",
            f"rule {rule} needs the spread of a batch; set per_device_train_batch_size to 2 or more",
        ),
        (
            spec.params.get("ppl_tokens") == "user" and training.get("truncation_mode") == "keep_end",
            "truncation_mode",
            "ppl_tokens user needs the whole prompt; set truncation_mode to keep_start",
        ),
    ]
