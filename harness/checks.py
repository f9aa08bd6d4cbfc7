"""Checks of a matrix against its data, its model and itself, before anything is written or trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from evals.benchmarks import registry as registry_of_benchmarks
from harness.config import MatrixConfig, nearest
from harness.errors import UserError
from harness.matrix import RunSpec
from harness.store import read_json
from harness.yaml_source import Path_, Source, load
from reports.claims import CLAIMS
from trainers.data import PreferencePair
from trainers.objectives import ObjectiveError, check_training
from trainers.rules import registry

MATRIX = "matrix.yaml"

#: Losses TRL combines with an f-divergence other than reverse KL.
_DIVERGENCE_LOSSES = {"sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop"}
_OWN_LOSS = {"beta_dpo", "alpha_dpo", "weight_only", "saturation_only"}


def check_combinations(
    config: MatrixConfig, source: Source, specs: Sequence[RunSpec], pairs: Sequence[PreferencePair], data_file: Path
) -> None:
    """Refuse settings that cannot go together, with what to change.

    Raises:
        UserError: the first such combination.
    """
    index_of = {method.name: i for i, method in enumerate(config.methods)}
    for spec in specs:
        own = config.methods[index_of[spec.method]].training

        def where(key: str, spec: RunSpec = spec, own: dict[str, Any] = own) -> str:
            place: Path_ = ("methods", index_of[spec.method])
            if key in spec.training:
                place = (*place, "training", key) if key in own else ("training", key)
            return f"{source.where(place)}: method {spec.method!r}"

        if spec.objective != "dpo":
            _check_objective(spec, where)
            continue
        _check_loss(spec, where)
        _check_reference(spec, config, where)
        _check_batch(spec, where)
        if spec.rule == "dataset_beta":
            lacking = next((pair for pair in pairs if pair.beta is None), None)
            if lacking is not None:
                raise UserError(
                    f"{lacking.source or data_file}:{lacking.line}: no 'beta' (id {lacking.id!r}); rule dataset_beta of method "
                    f"{spec.method!r} needs a number above 0 in every row"
                )


def _check_objective(spec: RunSpec, where: Any) -> None:
    try:
        check_training(spec.objective, spec.params["pref_loss"], spec.training)
    except ObjectiveError as error:
        raise UserError(f"{where('')}: {error}") from None


def _check_loss(spec: RunSpec, where: Any) -> None:
    loss, training = spec.params.get("pref_loss", "sigmoid"), spec.training
    smoothing = training.get("label_smoothing", 0.0)
    if loss == "exo_pair" and smoothing <= 0:
        raise UserError(
            f"{where('label_smoothing')}: pref_loss exo_pair needs training.label_smoothing above 0 (it is {smoothing}); "
            "the EXO paper recommends 0.001"
        )
    if loss == "robust" and not 0 <= smoothing < 0.5:
        raise UserError(
            f"{where('label_smoothing')}: pref_loss robust needs label_smoothing in [0, 0.5), not {smoothing}"
        )
    divergence = training.get("f_divergence_type", "reverse_kl")
    if divergence != "reverse_kl" and (loss not in _DIVERGENCE_LOSSES or spec.rule == "alpha_dpo"):
        what = "rule alpha_dpo" if spec.rule == "alpha_dpo" else f"pref_loss {loss}"
        raise UserError(f"{where('f_divergence_type')}: {what} has no f_divergence_type {divergence!r}; use reverse_kl")
    if training.get("use_weighting") and spec.rule in _OWN_LOSS:
        raise UserError(f"{where('use_weighting')}: rule {spec.rule} weighs pairs itself; set use_weighting to false")
    if training.get("loss_weights") is not None and list(training["loss_weights"]) != [1.0]:
        raise UserError(
            f"{where('loss_weights')}: pref_loss is a single loss here, so loss_weights has no meaning; remove it"
        )


def _check_reference(spec: RunSpec, config: MatrixConfig, where: Any) -> None:
    training = spec.training
    cached = training.get("precompute_ref_log_probs")
    if cached and spec.rule in registry.BUILTIN and registry.info(spec.rule).reference_in_loop:
        raise UserError(
            f"{where('precompute_ref_log_probs')}: rule {spec.rule} needs the reference's logits in every step; remove "
            "precompute_ref_log_probs"
        )
    if training.get("sync_ref_model"):
        if config.lora is not None:
            raise UserError(
                f"{where('sync_ref_model')}: it moves a reference of its own, which LoRA does not keep; set lora to null"
            )
        if cached:
            raise UserError(
                f"{where('sync_ref_model')}: a moving reference cannot be precomputed; remove precompute_ref_log_probs"
            )


def _check_batch(spec: RunSpec, where: Any) -> None:
    training = spec.training
    spread = spec.rule == "beta_dpo" or (spec.rule == "alpha_dpo" and spec.params["alpha"] > 0)
    if spread and training.get("per_device_train_batch_size", 8) < 2:
        raise UserError(
            f"{where('per_device_train_batch_size')}: rule {spec.rule} needs the spread of a batch; set "
            "per_device_train_batch_size to 2 or more"
        )
    if spec.params.get("ppl_tokens") == "user" and training.get("truncation_mode") == "keep_end":
        raise UserError(
            f"{where('truncation_mode')}: ppl_tokens user needs the whole prompt; set truncation_mode to keep_start"
        )


def fitting(
    pairs: list[PreferencePair],
    file: Path,
    model_dir: Path,
    max_length: int | None,
    drop: bool,
    log: Callable[[str], None],
) -> list[PreferencePair]:
    """The pairs whose prompts leave room for an answer; without it a row prefers nothing.

    Args:
        drop: leave the others out and say how many (`data.without_preference: drop`).

    Raises:
        UserError: without `drop` the first that leaves none, with file, line, its length and the limit; with it, if all do.
    """
    if max_length is None or sum(len(turn["content"]) for pair in pairs for turn in pair.prompt) == 0:
        return pairs
    # a token has at least one byte, so short prompts need no tokenizer (64 tokens are left for a chat template)
    suspects = [pair for pair in pairs if sum(len(t["content"].encode()) + 8 for t in pair.prompt) + 64 >= max_length]
    suspects = _still_long(suspects, model_dir / "tokenizer.json", max_length)
    if not suspects:
        return pairs
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    too_long: list[tuple[PreferencePair, str]] = []
    for pair in suspects:
        if tokenizer.chat_template:
            text = tokenizer.apply_chat_template(pair.prompt, add_generation_prompt=True, tokenize=False)
        else:
            text = "".join(turn["content"] for turn in pair.prompt)
        length = len(tokenizer(text, add_special_tokens=False)["input_ids"])
        if length >= max_length:
            what = f"{pair.source or file}:{pair.line}: the prompt has {length} tokens and training.max_length is {max_length}"
            if not drop:
                raise UserError(
                    f"{what}, so nothing of the answers would be seen; raise max_length or remove the row "
                    "(all such rows: data.without_preference: drop)"
                )
            too_long.append((pair, what))
    if not too_long:
        return pairs
    if len(too_long) == len(pairs):
        raise UserError(f"{too_long[0][1]}, and no row leaves room for an answer; raise max_length")
    log(f"dropped {len(too_long)} rows whose prompts leave no room for an answer; the first: {too_long[0][1]}")
    out = {id(pair) for pair, _ in too_long}
    return [pair for pair in pairs if id(pair) not in out]


def _still_long(pairs: list[PreferencePair], tokenizer_file: Path, max_length: int) -> list[PreferencePair]:
    """Those whose prompts may be too long going by their tokens, with the same room for a chat template.

    The tokenizers library alone is imported in a moment; transformers, which knows chat templates, takes seconds.
    """
    if not pairs or not tokenizer_file.is_file():
        return pairs
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(tokenizer_file))
    except (
        Exception
    ):  # the library raises this bare class; what is wrong with the file shows when transformers reads it
        return pairs
    tokenizer.no_truncation()
    counts = [
        sum(len(ids.ids) + 8 for ids in tokenizer.encode_batch([t["content"] for t in pair.prompt])) for pair in pairs
    ]
    return [pair for pair, count in zip(pairs, counts, strict=True) if count + 64 >= max_length]


def check_report(config: MatrixConfig, source: Source, benchmarks: list[dict[str, Any]]) -> None:
    """Refuse a baseline or primary measure that is not in the matrix."""
    names = [method.name for method in config.methods]
    if config.report.baseline is not None and config.report.baseline not in names:
        where = source.where(("report", "baseline"))
        raise UserError(
            f"{where}: report.baseline is {config.report.baseline!r}; {nearest(config.report.baseline, names)}"
        )
    if config.report.primary is not None:
        _check_metric(config.report.primary, f"{source.where(('report', 'primary'))}: report.primary", benchmarks)


#: What a claim asserts -> rules of the controls it needs beside its method.
_NEEDED_CONTROLS = {"gain": (), "variation": ("matched_mean",), "perplexity": ("matched_mean", "permuted")}


def check_claims(config: MatrixConfig, source: Source, benchmarks: list[dict[str, Any]]) -> None:
    """Refuse claims that nothing in the matrix could settle."""
    methods = {method.name: method for method in config.methods}
    names: set[str] = set()
    for i, claim in enumerate(config.claims):

        def at(key: str, i: int = i) -> str:
            return f"{source.where(('claims', i, key))}: claims[{i}].{key}"

        if claim.name in names:
            raise UserError(f"{at('name')} is {claim.name!r}, which stands twice; give each claim a name of its own")
        names.add(claim.name)
        for key in ("method", "against"):
            value = getattr(claim, key)
            if value not in methods:
                raise UserError(f"{at(key)} is {value!r}; {nearest(value, methods)}")
        if claim.method == claim.against:
            raise UserError(f"{at('against')} is {claim.against!r}, the claim's own method; name another")
        _check_metric(claim.metric, at("metric"), benchmarks)
        controls = {m.rule or m.name for m in config.methods if m.parent == claim.method}
        lacking = [rule for rule in _NEEDED_CONTROLS[claim.asserts] if rule not in controls]
        if lacking:
            raise UserError(
                f"{at('asserts')} is {claim.asserts!r}, which needs the control {lacking[0]}; add a method with rule: "
                f"{lacking[0]} and parent: {claim.method}"
            )


def _check_metric(metric: str, where: str, benchmarks: list[dict[str, Any]]) -> None:
    kinds = {entry["name"]: entry["kind"] for entry in benchmarks}
    own = {entry["name"]: entry["metrics"] for entry in benchmarks if "metrics" in entry}  # of judges
    name, _, key = metric.partition("/")
    if name not in kinds:
        raise UserError(f"{where} is {metric!r}; write benchmark/metric; {nearest(name, kinds)}")
    if kinds[name] == "lm_eval":
        return
    known = own[name] if name in own else registry_of_benchmarks.find(kinds[name]).metrics
    if key not in known:
        raise UserError(f"{where} is {metric!r}; {nearest(key, known)}")


def check_output(config: MatrixConfig, output: Path) -> None:
    """Refuse to write over anything that is not this matrix."""
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output} is a file; give a directory")
    # listed before matrix.json is looked for: another worker may write it meanwhile
    entries = list(output.iterdir()) if output.is_dir() else []
    name = _name(read_json(output / "matrix.json"))
    if name != config.name and (output / MATRIX).is_file():
        # matrix.json is damaged, or its name is; matrix.yaml is written after it and says the same
        name = _name(load(output / MATRIX).value) or name
    if name is not None and name != config.name:
        raise UserError(
            f"--output {output} holds the matrix {name!r}, and this one is {config.name!r}; "
            "give another --output, or rename the matrix"
        )
    if name is None and not all(_unclaimed(path) for path in entries):
        raise UserError(f"--output {output} is not empty and holds no matrix; give a new or empty directory")


def _unclaimed(path: Path) -> bool:
    """Whether an entry of an output without a matrix is no one's work: what a kill before the first freeze leaves behind.

    That is `.lock`, `.matrix.json.<pid>.tmp`, the workers' lock in `work/setup`, and the claims, which were once written first.
    """
    if path.name == "work":
        return all(inner.name.startswith(".") or inner.is_dir() for inner in path.rglob("*"))
    return path.name.startswith(".") or path.name == CLAIMS


def _name(matrix: Any) -> str | None:
    """Name of a frozen matrix."""
    return str(matrix["name"]) if isinstance(matrix, dict) and "name" in matrix else None
