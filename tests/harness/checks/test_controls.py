"""Controls in a matrix: what they inherit, when they run, and which mistakes are refused."""

from typing import Any

import pytest

CONTROLS = """pref_beta_scale: 0.5
  - name: mean
    rule: matched_mean
    parent: foodpo
  - name: shuffled
    rule: permuted
    parent: foodpo
  - name: turned
    rule: inverse
    parent: foodpo
"""


def test_a_control_has_a_run_for_each_of_its_parents(world: Any) -> None:
    world.replace("pref_beta_scale: 0.5\n", CONTROLS)
    world.replace("- name: foodpo", "- name: foodpo\n    pref_beta: 0.2\n    training: {learning_rate: 1e-5}")
    specs = world.plan().specs
    runs = {(spec.method, spec.seed): spec for spec in specs}
    for seed in (0, 1):
        parent = runs["foodpo", seed]
        for name in ("mean", "shuffled", "turned"):
            control = runs[name, seed]
            assert control.parent == parent.run_id and control.parent_run.method == "foodpo"
            assert control.training == parent.training
            assert control.params["pref_beta"] == 0.2
            assert specs.index(control) > specs.index(parent)
        assert runs["turned", seed].params["pref_beta_scale"] == 0.5
        assert world.plan().train_job(runs["mean", seed])["train_job"]["parent_dir"].endswith(parent.run_id)
    assert runs["mean", 0].fingerprint != runs["mean", 1].fingerprint


def test_a_control_may_stand_before_its_parent_and_follows_its_grid(world: Any) -> None:
    text = world.text.replace(
        "  - name: fixed\n", "  - name: mean\n    rule: matched_mean\n    parent: foodpo\n  - name: fixed\n"
    )
    world.write(text.replace("pref_beta_scale: 0.5", "grid: {pref_beta_scale: [0.3, 0.6]}"))
    specs = world.plan().specs
    assert [spec.method for spec in specs if spec.seed == 0] == ["fixed", "foodpo", "foodpo", "mean", "mean"]
    controls = [spec for spec in specs if spec.method == "mean" and spec.seed == 0]
    assert [spec.hyper for spec in controls] == [{"pref_beta_scale": 0.3}, {"pref_beta_scale": 0.6}]


def test_changing_the_parent_changes_its_controls(world: Any) -> None:
    world.replace("pref_beta_scale: 0.5\n", CONTROLS)
    before = {spec.method: spec.run_id for spec in world.plan().specs}
    world.replace("pref_beta_scale: 0.5", "pref_beta_scale: 0.7")
    after = {spec.method: spec.run_id for spec in world.plan().specs}
    assert {name for name in before if before[name] != after[name]} == {"foodpo", "mean", "shuffled", "turned"}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("pref_beta_scale: 0.5", "rule: matched_mean", ["rule 'matched_mean' is a control; add parent: one of fixed"]),
        ("pref_beta_scale: 0.5", "rule: matched_mean\n    parent: foo", ["methods[1].parent is 'foo'", "fixed"]),
        (
            "pref_beta_scale: 0.5",
            "parent: fixed",
            ["methods[1].parent is 'fixed'", "is not a control", "remove parent"],
        ),
        (
            "pref_beta_scale: 0.5",
            "rule: inverse\n    parent: fixed",
            ["inverts foodpo", "'fixed' has rule 'fixed'"],
        ),
        (
            "pref_beta_scale: 0.5",
            "rule: permuted\n    parent: fixed\n    grid: {pref_beta: [0.1]}",
            ["methods[1].grid", "a control takes its parent's", "remove grid"],
        ),
        (
            "pref_beta_scale: 0.5",
            "rule: permuted\n    parent: fixed\n    seeds: [0, 7]",
            ["'fixed' has no run of seed 7"],
        ),
        ("pref_beta_scale: 0.5", "rule: dataset_beta", ["pairs.jsonl:1: no 'beta'", "dataset_beta", "in every row"]),
        ("pref_beta: 0.1", "pref_loss: exo_pair", ["exo_pair needs training.label_smoothing above 0"]),
        ("pref_beta: 0.1", "pref_loss: aot", ["pref_loss", "'aot'", "a beta would not stay with its pair"]),
        (
            "max_length: 256",
            "max_length: 256\n  label_smoothing: 0.5\nx_pref: 0",
            ["unknown key x_pref"],
        ),
        (
            "pref_beta: 0.1",
            "pref_loss: nca_pair\n    training: {f_divergence_type: js_divergence}",
            ["pref_loss nca_pair has no f_divergence_type 'js_divergence'", "use reverse_kl"],
        ),
        (
            "pref_beta: 0.1",
            "rule: beta_dpo\n    training: {per_device_train_batch_size: 1}",
            ["beta_dpo needs the spread of a batch", "2 or more"],
        ),
        (
            "pref_beta: 0.1",
            "rule: epsilon_dpo\n    training: {precompute_ref_log_probs: true}",
            ["epsilon_dpo needs the reference's logits", "remove precompute_ref_log_probs"],
        ),
        (
            "pref_beta: 0.1",
            "training: {sync_ref_model: true, precompute_ref_log_probs: true}",
            ["a moving reference cannot be precomputed"],
        ),
        (
            "pref_beta: 0.1",
            "rule: alpha_dpo\n    training: {use_weighting: true}",
            ["alpha_dpo with pref_loss sigmoid forms its own loss", "set use_weighting to false"],
        ),
        (
            "pref_beta_scale: 0.5",
            "ppl_tokens: user\n    training: {truncation_mode: keep_end}",
            ["foodpo reads the prompt", "set it to keep_start"],
        ),
        ("pref_beta: 0.1", "training: {loss_weights: [0.5]}", ["loss_weights has no meaning"]),
        (
            "pref_beta: 0.1",
            "training: {label_smoothing: 0.3}",
            ["label_smoothing 0.3 has no effect on pref_loss sigmoid", "exo_pair or cdpo or robust"],
        ),
        (
            "pref_beta: 0.1",
            "pref_loss: [sigmoid, sft]\n    training: {loss_weights: [1]}",
            ["1 values and pref_loss 2"],
        ),
        ("pref_beta: 0.1", "pref_loss: [sigmoid, aot]", ["or a list of several, sft among them"]),
        ("pref_beta: 0.1", "pref_loss: sft", ["pref_loss of rule 'fixed' is 'sft'"]),
        ("pref_beta_scale: 0.5", "pref_beta_scale: 0.3\n    rescale: mean", ["has no effect with rescale: mean"]),
        ("pref_beta_scale: 0.5", "rule: madpo", ["pairs.jsonl:1: no 'reward_margin'", "rule madpo", "in every row"]),
        (
            "pref_beta_scale: 0.5",
            "rule: h_dpo\n    training: {f_divergence_type: js_divergence}",
            ["rule h_dpo has no f_div"],
        ),
        (
            "seeds:",
            "lora: {init_lora_weights: olora}\nseeds:",
            ["lora.init_lora_weights is 'olora'", "use true or gaussian"],
        ),
    ],
)
def test_impossible_combinations(world: Any, old: str, new: str, words: list[str]) -> None:
    world.replace(old, new)
    world.refuses(*words)


def test_a_moving_reference_needs_all_weights(world: Any) -> None:
    world.replace("pref_beta: 0.1", "training: {sync_ref_model: true}")
    world.plan()
    world.replace("seeds:", "lora: {r: 4}\nseeds:")
    assert "set lora to null" in world.error()
