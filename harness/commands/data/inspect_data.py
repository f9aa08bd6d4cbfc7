"""inspect-data: what a preference data set holds, before anything is trained on it."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands.options import print_json, whole
from trainers.common.errors import UserError

if TYPE_CHECKING:
    from harness.commands.data.learnability_run import Named
    from harness.plan.references import ResolvedModel
    from trainers.formats.pairs import PreferencePair

#: Whose learnability is measured where no --model is given.
DEFAULT_MODEL = "embedded:smollm2-135m-instruct"
#: Prompts whose perplexity is measured, and the most tokens of one: a figure to look at, not a training run.
PROMPTS, LONGEST = 64, 1024

_EPILOG = """a SOURCE is
  pairs.jsonl               a file: jsonl, json, csv, tsv (also .gz), parquet
  folder#split              a folder of data files laid out as on the hub
  dataset_info.json#name    an entry of LLaMA-Factory
  hub:owner/name@rev#split  a data set of the hub; /FOLDER, :SUBSET before @
  embedded:set/split        data that ships with the project
With several, prompts found in more than one are counted.

examples:
  python -m harness inspect-data pairs.jsonl
  python -m harness inspect-data train.jsonl test.jsonl --samples 0
  python -m harness inspect-data hub:Anthropic/hh-rlhf#test --first 1000
  python -m harness inspect-data data/dataset_info.json#dpo_zh_demo --json
  python -m harness inspect-data embedded:constraint-pairs/train \\
    --model embedded:smollm2-135m-instruct
  python -m harness inspect-data pairs.jsonl --learnability --samples 0

--learnability trains 16 DPO steps of 4 pairs (LoRA r16, beta 0.1) and gives the
reward accuracy on held-out pairs, with its interval. The figure is kept by data
and model: run-matrix warns where its upper bound is below .55."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument("sources", metavar="SOURCE", nargs="+", help="see below")
    parser.add_argument(
        "--model", metavar="MODEL", help="directory, hub id or embedded:...: lengths in tokens, prompt perplexity"
    )
    parser.add_argument("--learnability", action="store_true", help=f"see below (default model: {DEFAULT_MODEL})")
    parser.add_argument(
        "--heldout", metavar="SOURCE", help="pairs for --learnability to evaluate on (default: split off each SOURCE)"
    )
    parser.add_argument("--first", type=whole(1), metavar="N", help="read N rows of each source and no further")
    parser.add_argument("--samples", type=whole(0), default=3, metavar="N", help="pairs shown (default: %(default)s)")
    parser.add_argument("--seed", type=whole(0), default=0, help="of the samples (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON object for scripts")


def run(options: argparse.Namespace) -> int:
    """Print the figures; only learnability is kept, in the user's cache directory.

    Returns:
        0; 1 if a learnability run failed.

    Raises:
        UserError: a source cannot be read, or has no usable row at all.
    """
    from harness.plan.references import ResolvedModel, data_source
    from trainers.common.turns import DataError
    from trainers.formats.inspect import inspect_source, overlaps, samples
    from trainers.formats.load import draw

    heldout = _heldout(options)
    if options.learnability and options.model is None:
        options.model = DEFAULT_MODEL
    model = _model_dir(options.model) if options.model is not None else None
    tokens = _tokenizer(model) if model is not None else None
    reports = []
    named: dict[str, list[PreferencePair]] = {}
    trained: list[list[PreferencePair]] = []  # what run-matrix would train on
    for text in options.sources:
        place = data_source(text, Path(), "inspect-data", "SOURCE")
        try:
            found = inspect_source(place, tokens=tokens, first=options.first)
        except DataError as error:
            raise UserError(str(error)) from None
        shown = samples(found.checked.pairs, options.samples, options.seed)
        figures = {
            **found.figures,
            "source": text,
            "prompt_perplexity": _perplexity(model, found.checked.pairs, options.seed),
            "samples": [_sample(pair) for pair in shown],
            "learnability": None,
        }
        reports.append(figures)
        named[text] = found.checked.pairs
        trained.append(draw(found.checked.pairs, found.limit, 0))
    code = 0
    if options.learnability and model is not None and tokens is not None:
        code = _learnability(ResolvedModel(options.model, model), tokens, trained, heldout, reports)
    result = {"sources": reports, "overlaps": overlaps(named)}
    if options.json:
        print_json(result, ensure_ascii=False, default=asdict)
    else:
        from harness.commands.data.data_page import print_page

        print_page(result)
    if not all(report["pairs"] for report in reports):
        raise UserError("no usable pair in " + ", ".join(r["source"] for r in reports if not r["pairs"]))
    return code


def _heldout(options: argparse.Namespace) -> Named | None:
    if options.heldout is None:
        return None
    if not options.learnability:
        raise UserError(f"--heldout {options.heldout}: only --learnability evaluates; add it, or remove --heldout")
    from harness.commands.data.learnability_run import Named
    from harness.plan.references import data_source
    from trainers.common.turns import DataError
    from trainers.formats import load_source

    try:
        place = data_source(options.heldout, Path(), "inspect-data", "--heldout")
        return Named(options.heldout, load_source(place, without_preference="drop").pairs)
    except DataError as error:
        raise UserError(str(error)) from None


def _learnability(
    model: ResolvedModel,
    tokens: Callable[[str], int],
    data: list[list[PreferencePair]],
    heldout: Named | None,
    reports: list[dict[str, Any]],
) -> int:
    from harness.commands.data.learnability_run import Named, measure
    from harness.progress import Progress
    from harness.workers.signals import StopSignals

    if not any(model.path.glob("*.safetensors")):
        raise UserError(f"--model {model.name}: no weights (*.safetensors) there, which --learnability trains")
    measured = [report for report in reports if report["pairs"]]
    with StopSignals() as stops, Progress() as progress:
        for report, pairs in zip(measured, filter(None, data), strict=True):
            report["learnability"] = measure(Named(report["source"], pairs), heldout, model, tokens, progress, stops)
    return 0 if all(report["learnability"] for report in measured) else 1


def _sample(pair: PreferencePair) -> dict[str, Any]:
    return {
        "id": pair.id,
        "group": pair.group,
        "where": f"{pair.source}:{pair.line}",
        "prompt": pair.prompt,
        "chosen": pair.chosen,
        "rejected": pair.rejected,
    }


def _model_dir(name: str) -> Path:
    """The checkpoint's directory, which may hold a tokenizer alone; what else a matrix file takes is fetched."""
    if Path(name).is_dir():
        return Path(name)
    from harness.config.matrix_file import ModelConfig
    from harness.plan.references import resolve_model

    try:
        model = ModelConfig.model_validate({"name_or_path": name})
        return resolve_model(model, f"--model {name}", lambda line: print(line, file=sys.stderr)).path
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


def _perplexity(model: Path | None, pairs: Sequence[PreferencePair], seed: int) -> dict[str, Any]:
    """Perplexity of up to 64 prompts, or null with the reason. A conversation counts by its last question."""
    if model is None:
        return {"values": None, "reason": "no --model given"}
    if not any(model.glob("*.safetensors")):
        return {"values": None, "reason": f"--model {model} has no weights (*.safetensors)"}
    from transformers import AutoTokenizer

    from evals.engine.chat import chat_ids
    from evals.preferences.sampling import prompt_nll
    from harness.progress import Progress
    from trainers.formats.inspect import samples, spread

    tokenizer = AutoTokenizer.from_pretrained(model)
    questions = list(dict.fromkeys(pair.prompt[-1]["content"] for pair in samples(pairs, len(pairs), seed)))
    prompts = [text for text in questions[: 2 * PROMPTS] if 1 < len(chat_ids(tokenizer, text)) <= LONGEST][:PROMPTS]
    if not prompts:
        return {"values": None, "reason": f"no prompt has between 2 and {LONGEST} tokens"}
    with Progress() as progress:
        nlls = prompt_nll(
            model,
            prompts,
            batch_size=4,
            on_progress=lambda done, total: progress.tick("prompt perplexity", done, total),
        )
        progress.clear()
    values = [math.exp(nll) for nll in nlls]
    return {"values": spread(values), "prompts": len(prompts), "of": len(questions), "reason": None}
