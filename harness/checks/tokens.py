"""Checks of what training and evaluation make of conversations: the chat template, the tokenizer and `max_length`."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evals.job import BenchmarkEntry
from harness.commands.data.learnability import pairs_hash
from harness.config import MatrixConfig, refuse
from harness.plan.references import ResolvedModel, model_hash
from trainers.common import UserError, cache_dir, fingerprint, read_json, write_json
from trainers.formats.pairs import PreferencePair
from trainers.formats.tokens import KINDS, Cut, TokenFaults, token_faults

#: Raise when `token_faults` finds something else in the same tokens.
_VERSION = 2
#: Pairs that take some seconds.
_MANY = 5000
#: What to do about each kind of fault, beside leaving the rows out.
_FIXES = {
    "no_room": "raise max_length",
    "no_prompt": "raise max_length",
    "cut": "raise max_length",
    "equal": "give another model.chat_template",
    "no_tokens": "give another model.chat_template",
}


def faults_of(pairs: Sequence[PreferencePair], model: Path, cuts: Sequence[Cut], trust: bool = False) -> TokenFaults:
    """See `token_faults`; kept in the user's cache directory, so that the second plan of a matrix answers at once."""
    own = {"pairs": pairs_hash(pairs), "model": model_hash(model), "cuts": [asdict(cut) for cut in cuts]}
    identity = {"version": _VERSION, **own}
    kept = cache_dir() / "tokens" / f"{fingerprint(identity)[:16]}.json"
    known: Any = read_json(kept)
    if isinstance(known, dict):
        return TokenFaults(**known)
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=trust)
    except (OSError, ValueError) as error:
        raise UserError(f"{model}: the tokenizer cannot be loaded ({str(error).splitlines()[0]})") from None
    found = token_faults(tokenizer, pairs, cuts)
    write_json(kept, asdict(found))
    return found


def trainable(
    config: MatrixConfig, pairs: list[PreferencePair], model: ResolvedModel, log: Callable[[str], None]
) -> list[PreferencePair]:
    """The pairs that differ in tokens and fit; the others are left out where `data.without_preference` is drop.

    Raises:
        UserError: the chat template refuses a conversation; or, without drop, a pair's prompt, answers or their difference are
            not in the tokens that are trained on. With file, line and fix.
    """
    settings = [{**config.training, **method.training} for method in config.methods]
    cuts = {Cut(one.get("max_length", 1024), one.get("truncation_mode") or "keep_start") for one in settings}
    if len(pairs) > _MANY:
        log(f"checking the tokens of {len(pairs):,} pairs; the result is kept")
    found = _accepted(pairs, model, sorted(cuts, key=str), config.model.trust_remote_code)
    where = {pair.id: pair.where for pair in pairs}
    drop = config.data.without_preference == "drop"
    out: set[str] = set()
    for kind, ids in ((kind, found.faults[kind]) for kind in KINDS if found.faults[kind]):
        first, text = next(iter(ids.items()))
        told, said = f"{where[first]}: {text}", KINDS[kind]
        if drop and kind != "marked" and len(ids) < len(pairs):
            log(f"dropped {len(ids)} rows {said}; the first: {told}")
            out |= set(ids)
        elif kind in ("special", "marked"):
            log(f"{len(ids)} of {len(pairs)} rows {said}; the first: {told}; write the texts without them")
        else:
            advice = "" if drop else ", data.without_preference: drop leaves them out"
            rest = f"{len(ids)} of {len(pairs)} rows are such{advice}"
            raise UserError(f"{told}; {_FIXES[kind]}, or remove the row ({rest})")
    if found.ahead:
        first, (asked, trained) = next(iter(found.ahead.items()))
        log(
            f"{where[first]}: evaluation asks for answers after {asked!r}; training has {trained!r} in its place "
            f"({len(found.ahead)} of {len(pairs)} pairs); give a model.chat_template where they agree"
        )
    refuse((len(out) == len(pairs), f"{pairs[0].source}: no row is left to train on"))
    return [pair for pair in pairs if pair.id not in out]


def answerable(
    config: MatrixConfig, benchmarks: Sequence[BenchmarkEntry], model: ResolvedModel, log: Callable[[str], None]
) -> None:
    """Refuse conversations of the evaluation that the chat template refuses; say what it makes equal.

    Raises:
        UserError: with the benchmark, the row and the fix.
    """
    from evals.benchmarks import registry

    trust = config.model.trust_remote_code
    for planned in (one for one in benchmarks if one.kind == "preference"):
        rows = registry.build(planned.kind, planned.params).load(planned.prompts, planned.limit)
        pairs = [
            PreferencePair(
                row["id"], row["prompt"], row["chosen"], row["rejected"], "", source=f"{planned.prompts} ({row['id']})"
            )
            for row in rows
        ]
        found = _accepted(pairs, model, [Cut(None)], trust, f"benchmark {planned.name}: ")
        for kind, ids in found.faults.items():
            if ids:
                log(f"benchmark {planned.name}: {len(ids)} of {len(pairs)} pairs {KINDS[kind]}")
    for i, task in enumerate(config.evaluation.lm_eval):
        if task.apply_chat_template and task.system_instruction is not None:
            asked = [{"role": "system", "content": task.system_instruction}, {"role": "user", "content": "?"}]
            chosen, rejected = ([{"role": "assistant", "content": text}] for text in "ab")
            key = f"evaluation.lm_eval[{i}].system_instruction"
            _accepted([PreferencePair(key, asked, chosen, rejected, "", source=key)], model, [Cut(None)], trust)


def _accepted(
    pairs: Sequence[PreferencePair], model: ResolvedModel, cuts: Sequence[Cut], trust: bool, what: str = ""
) -> TokenFaults:
    """The faults of pairs none of which the chat template refuses; UserError for the first that it does."""
    found = faults_of(pairs, model.path, cuts, trust)
    refused = next((pair for pair in pairs if pair.id in found.refused), None)
    if refused is not None:
        raise UserError(
            f"{what}{refused.where}: the chat template of {model.name} refuses this conversation "
            f"({found.refused[refused.id]}), as it does {len(found.refused)} of {len(pairs)}: put a system text into the "
            "user's turn and let questions and answers alternate, or give a model.chat_template that takes them"
        )
    return found
