"""build-preferences: sample K answers a prompt from a policy, score them with a reward, pair them; or flip pairs."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.engine.base import EngineConfig
from evals.engine.chat import chat_ids
from evals.engine.start import start_engine
from evals.preferences.build import build, build_from_chosen, validate
from evals.preferences.data_card import write_card
from evals.preferences.flips import Noise, flip
from evals.preferences.prompt_bank import generate_prompts
from evals.preferences.sampling import make_sampler, prompt_nll
from evals.preferences.splits import SHARES, by_column, by_value
from evals.rewards.registry import build as build_reward
from harness.commands.data.preference_arguments import HELDOUT_PROMPTS, TRAIN_PROMPTS, check_together, command_line
from harness.config import ModelConfig
from harness.plan.references import data_source, resolve_model
from harness.progress import Progress, stderr_line
from trainers.common import Json, UserError
from trainers.common.jsonl import write_jsonl
from trainers.formats.single import read_answers, read_prompts
from trainers.formats.source import open_stream

_LONGEST = 1024


def _model_dir(options: argparse.Namespace) -> Path:
    return resolve_model(ModelConfig(name_or_path=options.model), "--model", stderr_line).path


def _engine(options: argparse.Namespace, model_dir: Path) -> Any:
    stderr_line("starting the engine")
    return start_engine(model_dir, EngineConfig(backend=options.backend, max_model_len=_LONGEST))


def run(options: argparse.Namespace) -> int:
    """Write the pairs, their record and a data card."""
    check_together(options)
    if options.chosen_only:
        return _from_chosen(options)
    return _from_pairs(options) if options.pairs else _from_prompts(options)


def _noise(options: argparse.Namespace) -> Noise | None:
    if options.flip is None:
        return None
    return Noise(options.flip, options.seed, options.pref_beta, options.flip_beta_ratio, options.flip_by)


def _from_chosen(options: argparse.Namespace) -> int:
    found, sampler = read_answers(options.chosen_only), None
    if options.strategy == "sampled_answer":
        talk = next((row["id"] for row in found.rows if len(row["turns"]) > 1), None)
        if talk is not None:
            raise UserError(
                f"--strategy sampled_answer answers single questions, and row {talk!r} of {options.chosen_only} is a "
                "conversation; take corrupted, other_prompt or truncated"
            )
        sampler = make_sampler(_engine(options, _model_dir(options)), **_sampling(options))
    made = build_from_chosen(found.rows, options.strategy, options.out, seed=options.seed, sampler=sampler, k=options.k)
    skipped = made.skipped | ({"undesirable": found.undesirable} if found.undesirable else {})
    print(f"{len(made.pairs)} pairs in {options.out}; skipped: {json.dumps(skipped)}")
    return 0


def _sampling(options: argparse.Namespace) -> Json:
    return {key: getattr(options, key) for key in ("temperature", "top_p", "max_new_tokens")}


def _from_pairs(options: argparse.Namespace) -> int:
    noise = _noise(options)
    assert noise is not None
    found = list(open_stream(data_source(options.pairs, Path(), "build-preferences", "--pairs"), lazily=False).rows)
    for row in found:
        if not isinstance(row.value, dict) or not {"prompt", "chosen", "rejected"} <= row.value.keys():
            raise UserError(f"{row.where}: a pair to flip has prompt, chosen and rejected")
    rows, record = flip([row.value for row in found], noise)
    write_jsonl(options.out, rows)
    print(f"{len(rows)} pairs in {options.out}; noise: {json.dumps(record)}")
    return 0


def _prompt_sets(options: argparse.Namespace) -> dict[str, list[Json]]:
    if options.prompts_from is None:
        return {
            "train": generate_prompts("train", options.prompts or TRAIN_PROMPTS, options.seed),
            "heldout": generate_prompts("heldout", options.heldout or HELDOUT_PROMPTS, options.seed),
        }
    found = read_prompts(data_source(options.prompts_from, Path(), "build-preferences", "--prompts-from"))
    if found.repeated:
        stderr_line(f"{options.prompts_from}: {found.repeated} repeated prompts left out")
    if options.split_by is not None:
        sets = by_value(found.rows, options.split_by, options.split_shares or SHARES, options.seed)
    else:
        sets = by_column(found.rows)
    most = {name: options.prompts if name == "train" or len(sets) == 1 else options.heldout for name in sets}
    return {name: [dict(row) for row in rows[: most[name]]] for name, rows in sets.items()}


def _check_lengths(
    model_dir: Path, sets: Mapping[str, Sequence[Mapping[str, Any]]], options: argparse.Namespace
) -> None:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(model_dir)
    for row in (row for rows in sets.values() for row in rows):
        length = len(chat_ids(tokenizer, row["prompt"]))
        if length + options.max_new_tokens > _LONGEST:
            raise UserError(
                f"prompt {row['id']!r} has {length} tokens; with --max-new-tokens {options.max_new_tokens} that is more "
                f"than {_LONGEST}; lower that, or remove the prompt"
            )


def _grouped(row: Mapping[str, Any]) -> dict[str, Any]:
    """Prompts on one topic are a cluster for the benchmark's standard errors."""
    found: dict[str, Any] = {}
    for key, value in row.items():
        found |= {key: value, "group": value} if key == "topic" else {key: value}
    return found


def _from_prompts(options: argparse.Namespace) -> int:
    reward, noise = build_reward(options.reward, dict(options.reward_param)), _noise(options)
    sets = _prompt_sets(options)
    for prompts in sets.values():  # before anything slow
        validate(prompts, options.k, reward)
    model_dir = _model_dir(options)
    if options.prompts_from is not None:
        _check_lengths(model_dir, sets, options)
    sampling, command = _sampling(options), command_line(options, sets)
    with Progress() as progress:
        for split, prompts in sets.items():
            progress.say(f"{split}: perplexity of {len(prompts)} prompts")
            nll = prompt_nll(model_dir, [row["prompt"] for row in prompts])
            for row, value in zip(prompts, nll, strict=True):
                row["log_prompt_perplexity"] = round(value, 6)
        engine = _engine(options, model_dir)
        sampler = make_sampler(engine, **sampling)
        for split, prompts in sets.items():
            if split != "train":  # a benchmark of them
                own = options.prompts_from is not None
                file = options.out / f"{split if own else 'benchmark'}_prompts.jsonl"
                write_jsonl(file, map(_grouped, prompts) if own else prompts)
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
                min_gap=options.min_gap,
                pairing=options.pairing,
                reward=reward,
                noise=noise if split == "train" else None,  # held-out pairs stay clean
                disjoint_from=[path for path in others if path.is_file()],
                on_progress=lambda done, total, name=split: progress.tick(f"sampling {name}", done, total),  # type: ignore[misc]
            )
            progress.end(f"{split}: {record['n_pairs']} pairs")
    write_card(options.out)
    engine.close()
    print(options.out / "README.md")
    return 0
