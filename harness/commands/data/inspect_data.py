"""inspect-data: what a preference data set holds, before anything is trained on it."""

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from evals.engine.chat import chat_ids
from evals.preferences.sampling import prompt_nll
from harness.commands.data.data_page import print_page
from harness.commands.data.learnability import Named
from harness.commands.options import DEFAULT_MODEL, print_json
from harness.config import ModelConfig
from harness.plan.model import template_of
from harness.plan.references import ResolvedModel, data_source, resolve_model
from harness.progress import Progress, stderr_line
from harness.workers.stopping import StopSignals
from trainers.common import Json, UserError
from trainers.formats import load_source
from trainers.formats.inspect import inspect_source, overlaps, samples, spread
from trainers.formats.load import draw
from trainers.formats.pairs import PreferencePair
from trainers.formats.tokens import KINDS, Cut

#: Prompts whose perplexity is measured, and the most tokens of one: a figure to look at, not a training run.
PROMPTS, LONGEST = 64, 1024


def run(options: argparse.Namespace) -> int:
    """Print the figures; only learnability is kept, in the user's cache directory.

    Returns:
        0; 1 if a learnability run failed.

    Raises:
        UserError: a source cannot be read, or has no usable row at all.
    """
    if options.heldout is not None and not options.learnability:
        raise UserError(f"--heldout {options.heldout}: only --learnability evaluates; add it, or remove --heldout")
    heldout = None
    if options.heldout is not None:
        place = data_source(options.heldout, Path(), "inspect-data", "--heldout")
        heldout = Named(options.heldout, load_source(place, without_preference="drop").pairs)
    name = options.model or (DEFAULT_MODEL if options.learnability else None)
    model = ResolvedModel(name, _model_dir(name)) if name is not None else None
    tokens = _tokenizer(model.path) if model is not None else None
    reports: list[Json] = []
    named: dict[str, list[PreferencePair]] = {}
    trained: dict[str, list[PreferencePair]] = {}  # what run-matrix would train on
    for text in options.sources:
        place = data_source(text, Path(), "inspect-data", "SOURCE")
        found = inspect_source(place, tokens=tokens, first=options.first)
        named[text] = pairs = found.checked.pairs
        reports.append(
            {
                **found.figures,
                "source": text,
                "tokens": _token_faults(model, pairs),
                "prompt_perplexity": _perplexity(model, pairs, options.seed),
                "samples": [
                    {key: getattr(pair, key) for key in ("id", "group", "prompt", "chosen", "rejected", "where")}
                    for pair in samples(pairs, options.samples, options.seed)
                ],
                "learnability": None,
            }
        )
        if pairs:
            trained[text] = draw(pairs, found.limit, 0)
    code = 0
    if options.learnability and model is not None and tokens is not None:
        code = _learnability(model, tokens, trained, heldout, reports)
    result = {"sources": reports, "overlaps": overlaps(named)}
    if options.json:
        print_json(result, ensure_ascii=False, default=asdict)
    else:
        print_page(result)
    if empty := [text for text, pairs in named.items() if not pairs]:
        raise UserError("no usable pair in " + ", ".join(empty))
    return code


def _learnability(
    model: ResolvedModel,
    tokens: Callable[[str], int],
    data: dict[str, list[PreferencePair]],
    heldout: Named | None,
    reports: list[Json],
) -> int:
    from harness.commands.data.learnability_run import measure

    if not any(model.path.glob("*.safetensors")):
        raise UserError(f"--model {model.name}: no weights (*.safetensors) there, which --learnability trains")
    with StopSignals() as stops, Progress() as progress:
        for report in [report for report in reports if report["source"] in data]:
            source = Named(report["source"], data[report["source"]])
            report["learnability"] = measure(source, heldout, model, tokens, progress, stops)
    return 0 if all(report["learnability"] for report in reports if report["source"] in data) else 1


def _model_dir(name: str) -> Path:
    """The checkpoint's directory, which may hold a tokenizer alone; what else a matrix file takes is fetched."""
    if Path(name).is_dir():
        return Path(name)
    try:
        return resolve_model(ModelConfig(name_or_path=name), f"--model {name}", stderr_line).path
    except UserError as error:
        message = str(error).replace(f"model.name_or_path is {name!r}; ", "")
        raise UserError(message.replace("model.name_or_path: ", "")) from None


def _tokenizer(model: Path) -> Callable[[str], int]:
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise UserError(f"--model {model}: no tokenizer there ({str(error).splitlines()[0]})") from None
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])


def _token_faults(model: ResolvedModel | None, pairs: Sequence[PreferencePair]) -> list[str]:
    """A line for each kind of fault that the model's tokenizer and chat template bring out."""
    from harness.checks.tokens import faults_of

    if model is None or not pairs:
        return []
    if template_of(model.path) is None:
        return [f"{model.path} has no chat template: its tokens were not checked"]
    found = faults_of(pairs, model.path, [Cut(None)])
    kinds = {
        "that the chat template refuses": found.refused,
        **{KINDS[kind]: ids for kind, ids in found.faults.items() if kind != "marked"},
        "where evaluation and training differ at the beginning of the answer": {
            name: f"{asked!r} against {trained!r}" for name, (asked, trained) in found.ahead.items()
        },
    }
    where = {pair.id: pair.where for pair in pairs}
    firsts = [(said, ids, next(iter(ids.items()))) for said, ids in kinds.items() if ids]
    return [f"{len(ids):,} pairs {said}, first in {where[name]} ({what})" for said, ids, (name, what) in firsts]


def _perplexity(model: ResolvedModel | None, pairs: Sequence[PreferencePair], seed: int) -> Json:
    """Perplexity of up to 64 prompts, or null with the reason. A conversation counts by its last question."""
    if model is None:
        return {"values": None, "reason": "no --model given"}
    if not any(model.path.glob("*.safetensors")):
        return {"values": None, "reason": f"--model {model.path} has no weights (*.safetensors)"}
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model.path)
    questions = list(dict.fromkeys(pair.prompt[-1]["content"] for pair in samples(pairs, len(pairs), seed)))
    prompts = [text for text in questions[: 2 * PROMPTS] if 1 < len(chat_ids(tokenizer, text)) <= LONGEST][:PROMPTS]
    if not prompts:
        return {"values": None, "reason": f"no prompt has between 2 and {LONGEST} tokens"}
    with Progress() as progress:
        tick = partial(progress.tick, "prompt perplexity")
        nlls = prompt_nll(model.path, prompts, batch_size=4, on_progress=tick)
    return {
        "values": spread([math.exp(nll) for nll in nlls]),
        "prompts": len(prompts),
        "of": len(questions),
        "reason": None,
    }
