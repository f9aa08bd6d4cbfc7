"""Build preference pairs: sample K answers a prompt, score them with a reward, pair them, describe the result.

Sampling is the expensive part, so every answer is appended to ``<out>.samples.jsonl`` as soon as its chunk is done; a
killed build, started again with the same settings, samples only what is missing and ends in the same files.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evals.preferences.data_card import summarise, write_card
from evals.preferences.flips import Noise, flip
from evals.preferences.pairs import Completion, PromptSamples, Scored, identify, make_pairs
from evals.preferences.rejected import RejectedPairs, add_rejected
from evals.progress import batches
from evals.rewards.base import Reward, scores
from evals.rewards.constraints import Constraints
from trainers.common import Json, UserError, dump, read_jsonl, refuse, write_jsonl, write_text
from trainers.common.scores_schema import append_rows, whole_lines

Sampler = Callable[[list[str], int, int], Sequence[Sequence[Completion]]]
"""(prompts, k, seed) -> k completions for each prompt; the same call must give the same answer."""


class BuildError(UserError):
    """A build that cannot start or go on; the message names the file and the fix."""


def build(
    prompts: Sequence[Mapping[str, Any]],
    sampler: Sampler,
    out_path: str | os.PathLike[str],
    *,
    k: int,
    seed: int,
    policy: str,
    sampling: Mapping[str, Any],
    command: str,
    chunk: int = 64,
    pairs_per_prompt: int = 1,
    min_gap: float = 0.0,
    pairing: str = "best-worst",
    reward: Reward | None = None,
    noise: Noise | None = None,
    disjoint_from: Sequence[str | os.PathLike[str]] = (),
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Json:
    """Sample, score and pair; writes ``out_path`` (pairs JSONL), ``<stem>.build.json`` and ``README.md`` beside it.

    Args:
        prompts: rows with id, prompt and what the reward reads; the keys of ``evals.preferences.pairs.CARRIED`` are
        carried along.
        sampler: gives ``k`` completions for each of a list of prompts.
        out_path: the pairs file, named after its split ("train.jsonl").
        k: completions a prompt, at least 2.
        seed: for sampling and for tie-breaking.
        policy: name of the sampled policy, for the data card.
        sampling: temperature and the like, for the data card; a resumed build must have the same ones.
        command: the exact command that builds this file, for the data card.
        chunk: prompts a call of the sampler; what a kill can cost.
        pairs_per_prompt, min_gap, pairing: as in ``evals.preferences.pairs.make_pairs``.
        reward: scores the answers; None for the share of a prompt's constraints.
        noise: flips some of the pairs; see ``evals.preferences.flips``.
        disjoint_from: JSONL files whose prompts must not occur here.
        on_progress: called with (prompts done, prompts in all) after each chunk.

    Returns:
        The content of ``<stem>.build.json``: settings, counts and yields.

    Raises:
        BuildError: ill-formed prompts, k or chunk out of range, a shared prompt, a samples file of other settings.
        RewardError: answers that cannot be scored.
    """
    out = Path(out_path)
    reward = reward or Constraints()
    validate(prompts, k, reward)
    if chunk < 1:
        raise BuildError(f"chunk must be >= 1, got {chunk}")
    for path in disjoint_from:
        there = {row.get("prompt") for _, row in read_jsonl(path)}
        shared = [row["id"] for row in prompts if row["prompt"] in there]
        if shared:
            raise BuildError(
                f"{path}: shares {len(shared)} prompts with this build, the first is {shared[0]!r}; drop them"
            )
    settings = {"k": k, "seed": seed, "policy": policy, "sampling": dict(sampling)}
    sampled = _sample(prompts, sampler, samples_path(out), settings, chunk, on_progress)
    scored = _score(reward, prompts, sampled)
    pairs = make_pairs(
        scored, seed=seed, pairs_per_prompt=pairs_per_prompt, min_gap=min_gap, rule=reward.identity, pairing=pairing
    )
    extra: Json = {} if pairing == "best-worst" else {"pairing": pairing}
    if noise is not None:
        pairs, extra["noise"] = flip(pairs, noise)
    record = {
        "schema_version": 1,
        "file": out.name,
        "command": command,
        **settings,
        "pairs_per_prompt": pairs_per_prompt,
        "min_gap": min_gap,
        **extra,
        **summarise(scored, pairs, reward.identity),
    }
    write_jsonl(out, pairs)
    write_text(out.with_suffix(".build.json"), json.dumps(record, ensure_ascii=False, indent=1) + "\n")
    write_card(out.parent)
    return record


def build_from_chosen(
    rows: Sequence[Mapping[str, Any]],
    strategy: str,
    out_path: str | os.PathLike[str],
    *,
    seed: int,
    sampler: Sampler | None = None,
    k: int = 1,
) -> RejectedPairs:
    """Pairs for rows that have only a chosen answer; writes ``out_path`` atomically and returns what was made.

    Args:
        rows: each with id, prompt, chosen.
        strategy: a name in ``evals.preferences.rejected.STRATEGIES``.
        seed: decides everything random.
        sampler: for ``sampled_answer``: gives ``k`` candidate answers a prompt.

    Raises:
        PairError: see ``evals.preferences.rejected.add_rejected``.
    """
    answers = None if sampler is None else lambda texts: sampler(texts, k, seed)
    made = add_rejected(rows, strategy, seed=seed, answers=answers)
    write_jsonl(out_path, made.pairs)
    return made


def samples_path(out_path: str | os.PathLike[str]) -> Path:
    """Where the samples of a pairs file are kept: ``train.jsonl`` -> ``train.jsonl.samples.jsonl``."""
    out = Path(out_path)
    return out.with_name(out.name + ".samples.jsonl")


def validate(prompts: Sequence[Mapping[str, Any]], k: int, reward: Reward) -> None:
    """Refuse k below 2, no prompts, an id or a prompt that occurs twice, and rows that the reward cannot score."""
    refuse(
        BuildError,
        (k < 2, f"k must be >= 2 to make a pair, got {k}"),
        (not prompts, "there are no prompts to sample from"),
    )
    seen: set[tuple[str, str]] = set()
    for row in prompts:
        identity, prompt = identify(row)
        for key in (("id", identity), ("prompt", prompt)):
            if key in seen:
                raise BuildError(f"prompt row {identity!r}: its {key[0]} occurs twice; make prompts distinct")
            seen.add(key)
        try:
            reward.check(row)
        except UserError as error:
            raise BuildError(f"prompt row {identity!r}: {error}") from error


def _score(
    reward: Reward, prompts: Sequence[Mapping[str, Any]], sampled: Mapping[str, Sequence[Completion]]
) -> list[PromptSamples]:
    """Every prompt with its answers that have a score."""
    asked = [(row, completion) for row in prompts for completion in sampled[row["id"]]]
    values = iter(scores(reward, [row for row, _ in asked], [completion.text for _, completion in asked]))
    return [
        PromptSamples(row, [Scored(c, value) for c in sampled[row["id"]] if (value := next(values)) is not None])
        for row in prompts
    ]


def _sample(
    prompts: Sequence[Mapping[str, Any]],
    sampler: Sampler,
    path: Path,
    settings: Mapping[str, Any],
    chunk: int,
    on_progress: Callable[[int, int], None],
) -> dict[str, list[Completion]]:
    done = _resume(prompts, path, settings)
    for rows in batches(prompts, chunk):
        if all(row["id"] in done for row in rows):
            continue
        # The whole chunk is sampled again, not only what is missing of it: a sampler may depend on its batch, and a
        # resumed build must end in the same answers as one that was never killed.
        found = sampler([row["prompt"] for row in rows], settings["k"], settings["seed"])
        if len(found) != len(rows) or any(len(completions) != settings["k"] for completions in found):
            raise BuildError(f"the sampler must return {settings['k']} completions for each of {len(rows)} prompts")
        fresh = {row["id"]: (row, list(c)) for row, c in zip(rows, found, strict=True) if row["id"] not in done}
        lines = [{"id": i, "prompt": row["prompt"], "samples": [*map(asdict, c)]} for i, (row, c) in fresh.items()]
        append_rows(path, lines)
        done |= {name: completions for name, (_, completions) in fresh.items()}
        on_progress(len(done), len(prompts))
    return done


def _resume(
    prompts: Sequence[Mapping[str, Any]], path: Path, settings: Mapping[str, Any]
) -> dict[str, list[Completion]]:
    """What the samples file already holds; a torn last line is cut off, a missing file is begun with the settings."""
    rows = read_jsonl(path) if whole_lines(path) else []
    if not rows:
        append_rows(path, [{"settings": dict(settings)}])
        return {}
    before, now = rows[0][1].get("settings"), json.loads(dump(settings))
    if before != now:
        names = [key for key in now if not isinstance(before, dict) or before.get(key) != now[key]]
        raise BuildError(
            f"{path}:1: sampled with other settings ({', '.join(names)} differ); delete the file or choose another out"
        )
    texts = {row["id"]: row["prompt"] for row in prompts}
    done: dict[str, list[Completion]] = {}
    for number, row in rows:
        if row.get("id") in texts:
            if row["prompt"] != texts[row["id"]]:
                raise BuildError(f"{path}:{number}: prompt {row['id']!r} has another text now; delete the file")
            done[row["id"]] = [Completion(**sample) for sample in row["samples"]]
    return done
