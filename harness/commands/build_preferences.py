"""build-preferences: sample K answers a prompt from a policy, score them, pair the best with the worst."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from harness.progress import Progress, stderr_line

#: What the shipped data was built with.
TRAIN_PROMPTS, HELDOUT_PROMPTS = 896, 288

_EXAMPLES = """examples:
  the data that ships with the project:
    python -m harness build-preferences --out trainers/data/constraint_pairs
  rows with only a chosen answer, rejected ones made by a strategy:
    python -m harness build-preferences --chosen-only answers.jsonl \\
        --strategy corrupted --out pairs.jsonl
A row there has prompt and chosen (or completion), instruction and output, or
messages that end with the answer."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from evals.rejected import strategies

    parser.epilog = _EXAMPLES
    parser.add_argument(
        "--out", type=Path, required=True, help="folder (or with --chosen-only the pairs file) to write"
    )
    parser.add_argument(
        "--model", default="embedded:smollm2-135m-instruct", help="policy to sample (default: %(default)s)"
    )
    parser.add_argument("--prompts", type=int, default=TRAIN_PROMPTS, help="training prompts (default: %(default)s)")
    parser.add_argument("--heldout", type=int, default=HELDOUT_PROMPTS, help="held-out prompts (default: %(default)s)")
    parser.add_argument("--k", type=int, default=4, help="answers sampled a prompt (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-new-tokens", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--temperature", type=float, default=1.0, help="default: %(default)s")
    parser.add_argument("--top-p", type=float, default=1.0, help="default: %(default)s")
    parser.add_argument("--backend", choices=("auto", "vllm", "transformers"), default="auto")
    parser.add_argument("--chosen-only", type=Path, help="file of prompts with one answer each: make the rejected")
    known = ", ".join(strategies())
    parser.add_argument("--strategy", metavar="NAME", choices=strategies(), help=f"with --chosen-only, how: {known}")


def _model_dir(options: argparse.Namespace) -> Path:
    from harness.config import ModelConfig
    from harness.refs import resolve_model

    return resolve_model(ModelConfig(name_or_path=options.model), "--model", stderr_line).path


def _engine(options: argparse.Namespace, model_dir: Path) -> Any:
    from evals.engine import EngineConfig, start_engine

    stderr_line("starting the engine")
    return start_engine(model_dir, EngineConfig(backend=options.backend, max_model_len=1024))


def run(options: argparse.Namespace) -> int:
    from evals.build_preferences import BuildError
    from evals.pairs import PairError
    from harness.errors import UserError

    if bool(options.chosen_only) != bool(options.strategy):
        raise UserError("--chosen-only and --strategy belong together; give both")
    try:
        return _from_chosen(options) if options.chosen_only else _from_prompts(options)
    except (BuildError, PairError) as error:
        raise UserError(str(error)) from None


def _from_chosen(options: argparse.Namespace) -> int:
    from evals.build_preferences import build_from_chosen
    from evals.sampling import make_sampler
    from harness.errors import UserError
    from trainers.data import DataError
    from trainers.formats.single import read_answers

    try:
        found = read_answers(options.chosen_only)
    except DataError as error:
        raise UserError(str(error)) from None
    rows, sampler = found.rows, None
    if options.strategy == "sampled_answer":
        talk = next((row["id"] for row in rows if len(row["turns"]) > 1), None)
        if talk is not None:
            raise UserError(
                f"--strategy sampled_answer answers single questions, and row {talk!r} of {options.chosen_only} is a "
                "conversation; take corrupted, other_prompt or truncated"
            )
        engine = _engine(options, _model_dir(options))
        sampler = make_sampler(engine, options.max_new_tokens, options.temperature, options.top_p)
    made = build_from_chosen(rows, options.strategy, options.out, seed=options.seed, sampler=sampler, k=options.k)
    skipped = made.skipped | ({"undesirable": found.undesirable} if found.undesirable else {})
    print(f"{len(made.pairs)} pairs in {options.out}; skipped: {json.dumps(skipped)}")
    return 0


def _from_prompts(options: argparse.Namespace) -> int:
    from evals.build_preferences import build
    from evals.data_card import write_card
    from evals.jsonl import write_jsonl
    from evals.prompt_bank import generate_prompts
    from evals.sampling import make_sampler, prompt_nll

    sets = {
        "train": generate_prompts("train", options.prompts, options.seed),
        "heldout": generate_prompts("heldout", options.heldout, options.seed),
    }
    model_dir = _model_dir(options)
    sampling = {"temperature": options.temperature, "top_p": options.top_p, "max_new_tokens": options.max_new_tokens}
    command = (
        f"python -m harness build-preferences --model {options.model} --prompts {options.prompts} "
        f"--heldout {options.heldout} --k {options.k} --seed {options.seed} "
        f"--max-new-tokens {options.max_new_tokens} --temperature {options.temperature} "
        f"--top-p {options.top_p} --out {options.out}"
    )
    with Progress() as progress:
        for split, prompts in sets.items():
            progress.say(f"{split}: perplexity of {len(prompts)} prompts")
            nll = prompt_nll(model_dir, [row["prompt"] for row in prompts])
            sets[split] = [
                {**row, "log_prompt_perplexity": round(value, 6)} for row, value in zip(prompts, nll, strict=True)
            ]
        engine = _engine(options, model_dir)
        sampler = make_sampler(engine, options.max_new_tokens, options.temperature, options.top_p)
        write_jsonl(options.out / "benchmark_prompts.jsonl", sets["heldout"])
        for split, prompts in sets.items():
            others = [options.out / f"{name}.jsonl" for name in sets if name != split]
            record = build(
                prompts,
                sampler,
                options.out / f"{split}.jsonl",
                k=options.k,
                seed=options.seed,
                policy=options.model,
                sampling=sampling,
                command=command,
                disjoint_from=[path for path in others if path.is_file()],
                on_progress=lambda done, total, name=split: progress.tick(f"sampling {name}", done, total),  # type: ignore[misc]
            )
            progress.clear()
            progress.say(f"{split}: {record['counts']['pairs'] if 'counts' in record else ''} pairs")
    write_card(options.out)
    engine.close()
    print(options.out / "README.md")
    return 0
