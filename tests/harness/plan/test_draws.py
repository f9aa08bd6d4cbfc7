"""Which pairs a run trains on: draws per seed, flipped labels, and betas that know which labels were flipped."""

import json
from typing import Any

import numpy as np
import pytest

from evals.preferences.flips import permuted_betas, truth_betas
from harness.prepare import freeze
from tests.harness.conftest import write_jsonl
from trainers.formats import load_pairs

ORACLES = """
  - {name: strong, rule: dataset_beta, pref_beta: 0.1, oracle: {clean_over_flipped: 30}}
  - {name: weak, rule: dataset_beta, pref_beta: 0.1, oracle: {clean_over_flipped: 2}}
  - {name: shuffled, rule: dataset_beta, pref_beta: 0.1, oracle: {clean_over_flipped: 30, permuted: true}}
  - {name: noisy, rule: fixed, pref_beta: 0.1}
"""
SENSITIVITY = (
    "sensitivity: {positive: strong, weak: weak, negative: shuffled, against: noisy, margin: 0.05, flip: 0.3}\n"
)


@pytest.fixture
def many(world: Any) -> Any:
    """The small world with 40 pairs."""
    rows = [
        {"id": f"p{i}", "prompt": f"Question {i}?", "chosen": f"Yes {i}.", "rejected": f"No {i}."} for i in range(40)
    ]
    write_jsonl(world.pairs, rows)
    return world


def planted(world: Any) -> Any:
    world.replace("\nseeds:", f"{ORACLES}seeds:")
    world.write(world.text + SENSITIVITY)
    return world.plan()


def by(plan: Any) -> dict[tuple[str, int], list[Any]]:
    return {(spec.method, spec.seed): plan.sets[spec.data_hash] for spec in plan.specs}


def test_runs_of_matrices_without_the_new_keys_keep_their_ids(world: Any) -> None:
    """Pinned: another id means that finished runs are trained again (or that `trainers.tiny` makes another model)."""
    world.replace(
        "pref_beta_scale: 0.5\n", "pref_beta_scale: 0.5\n  - {name: mean, rule: matched_mean, parent: foodpo}\n"
    )
    world.replace("train: pairs.jsonl", "train: pairs.jsonl\n  max_train_pairs: 3")
    found = [spec.run_id for spec in world.plan().specs[:3]]
    assert found == ["fixed-40865a051c0d", "foodpo-d60c33055a90", "mean-56f63578a7b4"]


def test_each_seed_draws_its_own_pairs_and_methods_stay_paired(many: Any) -> None:
    """Every seed trained on the same subset, so no interval said anything of other pairs."""
    many.replace(
        "pref_beta_scale: 0.5\n", "pref_beta_scale: 0.5\n  - {name: mean, rule: matched_mean, parent: foodpo}\n"
    )
    many.replace("train: pairs.jsonl", "train: pairs.jsonl\n  max_train_pairs: 10\n  resample: per_seed\n  flip: 0.3")
    plan = many.plan()
    pairs = by(plan)
    for seed in (0, 1):
        one = pairs["fixed", seed]
        assert len(one) == 10 and sum(p.flipped for p in one) == 3
        assert one is pairs["foodpo", seed] is pairs["mean", seed]
        assert all(p.chosen[0]["content"].startswith("No" if p.flipped else "Yes") for p in one)
    first, second = ({p.id for p in pairs["fixed", seed]} for seed in (0, 1))
    assert first != second
    both = [{p.id: p.flipped for p in pairs["fixed", seed]} for seed in (0, 1)]
    assert len(plan.training_prompts) == len(first | second) and both[0] != both[1]
    many.output.mkdir()
    freeze(plan)
    for spec in plan.specs:
        record = plan.run_record(spec)
        assert record.data is not None and (record.data.n_pairs, record.data.pool) == (10, 40)
        path = plan.train_job(spec)["data"]["path"]
        assert [p.content() for p in load_pairs(path)] == [p.content() for p in plan.sets[spec.data_hash]]
    ids = [spec.run_id for spec in plan.specs]
    many.replace("seeds: [0, 1]", "seeds: [0, 1, 2]")
    assert [spec.run_id for spec in many.plan().specs][: len(ids)] == ids, "more seeds change no run"


def test_seeds_may_share_draws(many: Any) -> None:
    many.replace("train: pairs.jsonl", "train: pairs.jsonl\n  max_train_pairs: 10\n  resample: per_seed\n  subsets: 2")
    many.replace("seeds: [0, 1]", "seeds: [0, 1, 2]")
    pairs = by(many.plan())
    assert pairs["fixed", 0] is pairs["fixed", 2] is not pairs["fixed", 1]


def test_flips_go_by_the_perplexity_of_the_prompt_and_each_seed_has_its_own(many: Any) -> None:
    rows = [
        json.loads(line) | {"log_prompt_perplexity": i / 8}
        for i, line in enumerate(many.pairs.read_text().splitlines())
    ]
    write_jsonl(many.pairs, rows[:36])
    many.replace("train: pairs.jsonl", "train: pairs.jsonl\n  resample: per_seed\n  flip: [0.5, 0.25, 0.0]")
    pairs = by(many.plan())
    for seed in (0, 1):
        flips = {p.id: p.flipped for p in pairs["fixed", seed]}
        assert [sum(flips[f"p{i}"] for i in third) for third in (range(12), range(12, 24), range(24, 36))] == [6, 3, 0]
    assert {p.id: p.flipped for p in pairs["fixed", 0]} != flips and pairs["foodpo", 0] is pairs["fixed", 0]
    write_jsonl(many.pairs, [{k: v for k, v in row.items() if k != "log_prompt_perplexity"} for row in rows])
    assert "data.flip: pair 'p0' has no number under 'log_prompt_perplexity'" in many.error()
    many.replace("0.25, ", "")
    assert "data.flip" in many.error() and "3" in many.error()


def test_blocks_of_pairs_with_like_score_gaps(many: Any) -> None:
    rows = [
        json.loads(line) | {"score_chosen": i * 0.02, "score_rejected": -i * 0.02 if i % 2 else i * 0.06}
        for i, line in enumerate(many.pairs.read_text().splitlines())
    ]
    write_jsonl(many.pairs, rows)
    many.replace(
        "train: pairs.jsonl", "train: pairs.jsonl\n  max_train_pairs: 18\n  resample: per_seed\n  gap_blocks: 4"
    )
    assert "data.gap_blocks is 4, but training.train_sampling_strategy is 'random'" in many.error()
    many.replace("training:\n", "training:\n  train_sampling_strategy: sequential\n")
    pairs = by(many.plan())
    for seed in (0, 1):
        ranks = sorted(range(18), key=lambda i: int(pairs["fixed", seed][i].id[1:]))
        blocks = [{place // 4 for place in ranks[first : first + 4]} for first in range(0, 18, 4)]
        assert all(len(block) == 1 for block in blocks[:-1]) and blocks[-1] == {4} and blocks != sorted(blocks, key=min)
    write_jsonl(many.pairs, [{k: v for k, v in row.items() if k != "score_rejected"} for row in rows])
    assert "pair 'p" in many.error() and "'score_rejected'" in many.error()


def test_controls_alone_train_on_flipped_pairs_with_betas_that_know(many: Any) -> None:
    plan = planted(many)
    pairs = by(plan)
    assert [p.flipped for p in pairs["fixed", 0]] == [None] * 40 and pairs["foodpo", 0] is pairs["fixed", 0]
    flips = [p.flipped for p in pairs["noisy", 0]]
    assert sum(flips) == 12
    for name, ratio in (("strong", 30), ("weak", 2)):
        assert [p.flipped for p in pairs[name, 0]] == flips
        betas = [p.beta for p in pairs[name, 0]]
        assert np.mean(betas) == pytest.approx(0.1) and max(betas) / min(betas) == pytest.approx(ratio)
        assert {b for b, f in zip(betas, flips, strict=True) if f} == {min(betas)}
    shuffled = [p.beta for p in pairs["shuffled", 0]]
    assert sorted(shuffled) == sorted(p.beta for p in pairs["strong", 0])
    assert abs(np.corrcoef(shuffled, flips)[0, 1]) < 0.1
    roles = {spec.method: plan.run_record(spec).planted for spec in plan.specs}
    assert roles["fixed"] is None and roles["noisy"].role == "against"
    assert (roles["strong"].role, roles["strong"].against) == ("positive", "noisy")


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_permuted_betas_have_no_link_to_the_truth(share: float) -> None:
    ids = [f"p{i}" for i in range(500)]
    flips = [i < share * 500 for i in range(500)]
    betas = truth_betas(flips, 30, 0.1)
    assert np.mean(betas) == pytest.approx(0.1)
    for seed in range(20):
        found = permuted_betas(ids, flips, betas, seed)
        assert sorted(found) == sorted(betas) and abs(np.corrcoef(found, flips)[0, 1]) < 0.03
        assert abs(np.corrcoef(found, range(500))[0, 1]) < 0.25, "nor to the order of the file, beyond chance"


def test_a_file_that_knows_its_flips_needs_none(many: Any) -> None:
    rows = [json.loads(line) | {"flipped": i % 4 == 0} for i, line in enumerate(many.pairs.read_text().splitlines())]
    write_jsonl(many.pairs, rows)
    many.replace("\nseeds:", f"{ORACLES[: ORACLES.index('  - {name: noisy')]}seeds:")
    many.write(many.text + SENSITIVITY.replace(", flip: 0.3", "").replace("against: noisy", "against: fixed"))
    pairs = by(many.plan())
    assert sum(p.flipped for p in pairs["strong", 0]) == 10
    many.replace("train: pairs.jsonl", "train: pairs.jsonl\n  flip: 0.3")
    assert "the pairs say already which are flipped; remove flip" in many.error()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("train: pairs.jsonl", "train: pairs.jsonl\n  resample: per_seed", "data.resample is 'per_seed', but every seed"),
        ("train: pairs.jsonl", "train: pairs.jsonl\n  subsets: 2", "data.subsets is 2, but data.resample is not set"),
        ("train: pairs.jsonl", "train: pairs.jsonl\n  resample: daily", "data.resample is 'daily'"),
        (
            "train: pairs.jsonl",
            "train: pairs.jsonl\n  resample: per_seed\n  max_train_pairs: 40",
            "data.max_train_pairs is 40 and there are 40 pairs, so every seed would draw the same",
        ),
        ("train: pairs.jsonl", "train: pairs.jsonl\n  flip: 0.3", "sensitivity.flip is set, but data.flip"),
        (", flip: 0.3", ", flip: 0.001", "a method with oracle needs pairs of which some are known to be flipped"),
        ("positive: strong", "positive: strng", "sensitivity.positive is 'strng'; did you mean 'strong'?"),
        ("weak: weak", "weak: strong", "name different methods"),
        ("against: noisy", "against: fixed", "sensitivity.against is 'fixed', which the report or a claim is about"),
        ("rule: fixed, pref_beta: 0.1", "rule: fixed, pref_beta: 0.2", "compare at one mean"),
        ("margin: 0.05, ", "", "sensitivity.margin is missing"),
        ("margin: 0.05", "margin: 0.05, window: [2, 1]", "sensitivity.window is [2.0, 1.0]; give two rising numbers"),
        ("margin: 0.05", "margin: 0.05, window: [1, 2]", "sensitivity.window is [1.0, 2.0], but KL is not measured"),
        ("rule: fixed, pref", "oracle: {clean_over_flipped: 3}, rule: fixed, pref", "set rule: dataset_beta"),
        (
            "report:",
            "claims: [{name: a, method: foodpo, against: fixed, metric: constraints/gold_reward, at: matched_kl}]\nreport:",
            "KL is not measured along every run",
        ),
    ],
)  # fmt: skip
def test_mistakes(many: Any, old: str, new: str, words: str) -> None:
    many.replace("\nseeds:", f"{ORACLES}seeds:")
    many.write(many.text + SENSITIVITY)
    many.replace(old, new)
    assert words in many.error()
    assert not many.output.exists()
