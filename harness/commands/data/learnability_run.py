"""The short standard DPO run behind `harness.commands.data.learnability`: a matrix of one run, trained and evaluated
like any other."""

import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from harness.commands.data.learnability import Learnability, Named, Settings, keep, pairs_hash, recall
from harness.config import refuse
from harness.forecast.estimate import estimate, survey
from harness.plan.plan import Plan
from harness.plan.references import ResolvedModel, model_hash
from harness.prepare import freeze, make_plan
from harness.progress import Progress, duration
from harness.stages.evaluate import evaluate_policies
from harness.stages.train import train_runs
from harness.state import RunStore, output_lock
from harness.state.machine import gpus
from harness.workers.stopping import StopSignals
from reports.statistics.winrate import win_rate
from trainers.common import Json, UserError, cache_dir, fingerprint, now, scores_schema, write_bytes, write_json
from trainers.formats import split_by_prompt, to_jsonl
from trainers.formats.inspect import samples
from trainers.formats.load import content_id
from trainers.formats.pairs import PreferencePair
from trainers.formats.split import prompt_groups

_BENCHMARK = "heldout"


def measure(
    data: Named,
    heldout: Named | None,
    model: ResolvedModel,
    tokens: Callable[[str], int],
    progress: Progress,
    stops: StopSignals,
) -> Learnability | None:
    """Learnability of `data`, from the cache where exactly this was measured; takes minutes otherwise.

    Args:
        heldout: pairs to evaluate on; None splits them off `data`, by prompt group.
        tokens: counts the tokens of a text.

    Returns:
        None where training or evaluation failed; `progress` was told why.

    Raises:
        UserError: too few pairs.
        harness.workers.stopping.Stopped: on request; the next call resumes the run.
    """
    settings = Settings()
    weights, heldout_hash = model_hash(model.path), pairs_hash(heldout.pairs) if heldout else None
    train, held = _sides(data, heldout, tokens, settings)
    folder = cache_dir() / "learnability"
    with output_lock(folder, wait=True, log=progress.say):
        known = recall(data.pairs, weights)
        if known is not None and known.heldout_hash == heldout_hash:
            return known
        work = folder / f"work-{fingerprint([pairs_hash(train), pairs_hash(held), weights])[:16]}"
        for left_behind in set(folder.glob("work-*")) - {work}:
            shutil.rmtree(left_behind)
        work.mkdir(exist_ok=True)
        plan = _plan(work, train, held, model.path, settings, progress)
        cost = estimate(plan, survey(plan, plan.specs))
        progress.say(
            f"learnability of {data.source}: {settings.steps} DPO steps on {len(train)} pairs, then {len(held)} held-out "
            f"pairs; about {duration(sum(cost.train_seconds.values()) + cost.eval_seconds)}, from {cost.basis}"
        )
        items = _run(plan, progress, stops)
        if items is None:
            progress.say(f"failed: learnability of {data.source} is unknown; logs are in {plan.output / 'work'}")
            return None
        shutil.rmtree(work)
    rate = win_rate([item["values"]["accuracy"] for item in items], [item["group"] for item in items])
    found = Learnability(
        accuracy=float(rate.value or 0.0),
        ci_low=float(rate.low or 0.0),
        ci_high=float(rate.high or 0.0),
        method=rate.method,
        n_pairs=len(items),
        n_train=len(train),
        steps=settings.steps,
        data=data.source,
        data_hash=pairs_hash(data.pairs),
        heldout=heldout.source if heldout else None,
        heldout_hash=heldout_hash,
        model=model.name,
        model_hash=weights,
        settings=settings,
        measured=now(),
    )
    keep(found)
    return found


def _sides(
    data: Named, heldout: Named | None, tokens: Callable[[str], int], settings: Settings
) -> tuple[list[PreferencePair], list[PreferencePair]]:
    """Pairs to train on and held-out pairs: no prompt on both sides, and none of a held-out group where groups are split."""
    wanted = settings.steps * settings.pairs_per_step
    if heldout is not None:
        held = list(heldout.pairs)
        seen = {content_id(pair.prompt) for pair in held}
        rest = [pair for pair in data.pairs if content_id(pair.prompt) not in seen]
    else:
        # what the run need not train on is evaluated: more pairs make a narrower interval
        share = min(0.9, max(0.5, 1 - wanted / max(len(data.pairs), 1)))
        try:
            rest, held = split_by_prompt(data.pairs, share, settings.seed)
        except ValueError:
            raise UserError(f"{data.source}: learnability needs pairs of at least two prompt groups") from None
    held = [replace(pair, group=str(number)) for pair, number in zip(held, prompt_groups(held), strict=True)]

    def short(pairs: Sequence[PreferencePair]) -> Iterator[PreferencePair]:
        for pair in samples(pairs, len(pairs), settings.seed):
            sides = (sum(tokens(turn["content"]) for turn in side) for side in (pair.chosen, pair.rejected))
            if sum(tokens(turn["content"]) for turn in pair.prompt) + max(sides) <= settings.max_tokens:
                yield pair

    train = list(itertools.islice(short(rest), wanted))
    held = list(itertools.islice(short(held), settings.max_heldout_pairs))
    missing, short_ones = "training" if not train else "held-out", f"pair of at most {settings.max_tokens} tokens"
    why = f"no {missing} {short_ones} whose prompt is not on the other side"
    refuse((not train or not held, f"{data.source}: {why}; learnability cannot be measured"))
    return train, held


def _plan(
    work: Path,
    train: list[PreferencePair],
    held: list[PreferencePair],
    model: Path,
    settings: Settings,
    progress: Progress,
) -> Plan:
    write_bytes(work / "train.jsonl", to_jsonl(train).encode())
    write_bytes(work / "heldout.jsonl", to_jsonl(held).encode())
    room = 2 * settings.max_tokens  # the chat template included
    matrix: Json = {
        "name": "learnability",
        "model": {"name_or_path": str(model.absolute()), "dtype": "bfloat16" if gpus() else "float32"},
        "data": {"train": "train.jsonl", "heldout": "heldout.jsonl"},
        "training": {
            "max_steps": settings.steps,
            "per_device_train_batch_size": settings.pairs_per_step,
            "learning_rate": settings.learning_rate,
            "lr_scheduler_type": settings.lr_scheduler_type,
            "max_length": room,
            "gradient_checkpointing": False,
        },
        "lora": {"r": settings.lora_r, "lora_alpha": settings.lora_alpha, "target_modules": "all-linear"},
        "save": "merged",
        "methods": [{"name": "fixed", "pref_beta": settings.beta}],
        "seeds": [settings.seed],
        "evaluation": {
            # float32 and not bfloat16: rounding would hide small margins
            "engine": {"backend": "transformers", "dtype": "float32", "max_model_len": room},
            "benchmarks": [{"name": _BENCHMARK, "kind": "preference", "beta0": settings.beta, "limit": len(held)}],
        },
    }
    write_json(work / "matrix.yaml", matrix)  # JSON is YAML
    return make_plan(work / "matrix.yaml", work / "output", progress.say)


def _run(plan: Plan, progress: Progress, stops: StopSignals) -> list[Json] | None:
    """Train and evaluate; returns the scores of every held-out pair, or None where that failed."""
    (spec,) = plan.specs
    store = RunStore(plan.run_dir(spec))
    freeze(plan)
    store.create(plan.run_record(spec))
    if not store.is_done("train", spec.fingerprint):
        train_runs(plan, [spec], progress, stops)
        if not store.is_done("train", spec.fingerprint, verify=False):
            return None
    failed = evaluate_policies(plan, [spec], progress, retry_failed=True)
    scores = scores_schema.read_scores(plan.run_dir(spec), _BENCHMARK)
    return None if failed or scores is None else scores["items"]
