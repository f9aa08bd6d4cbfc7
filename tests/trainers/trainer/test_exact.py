"""Faults an audit found, each as the run that showed it, and the check of the first batch that every training makes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from tests.trainers.helpers import logged, make_job, make_pairs, rows_of, stock_run, trained
from trainers.rules import catalogue
from trainers.rules.base import RuleBatch
from trainers.run.objectives import ObjectiveError
from trainers.run.train import train

SHAPE = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 259}
OTHERS: dict[str, dict[str, Any]] = {
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2, "vocab_size": 259, "max_seq_len": 256},
    "rwkv": {**SHAPE, "attention_hidden_size": 32, "context_length": 256},
    "bloom": {"hidden_size": 32, "n_head": 4, "n_layer": 2, "vocab_size": 259},
    "falcon": {**SHAPE, "alibi": True, "new_decoder_architecture": False},
    "mixtral": {
        **SHAPE,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
        "num_local_experts": 4,
        "router_aux_loss_coef": 0.5,
        "output_router_logits": True,
        "sliding_window": None,
    },
}


def build(tiny_model: Path, out: Path, kind: str) -> Path:
    """A tiny random model of another architecture with the tiny model's tokenizer."""
    config = AutoConfig.for_model(kind, **OTHERS[kind], bos_token_id=0, eos_token_id=1, pad_token_id=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.data.mul_(4.0)
    model.save_pretrained(out)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(out)
    return out


@pytest.mark.parametrize("kind", ["mpt", "rwkv", "bloom", "falcon"])
def test_models_that_cannot_share_a_prompt_train_on_separate_rows(tiny_model: Path, tmp_path: Path, kind: str) -> None:
    model, runs = build(tiny_model, tmp_path / "model", kind), []
    for sharing in (True, False):
        attention = "sdpa" if kind == "falcon" else "eager"
        job = make_job(model, tmp_path / str(sharing), "foodpo", prefix_sharing=sharing, training={"max_steps": 2})
        job = replace(job, attn_implementation=attention)
        result = train(job, make_pairs(8), lambda _: None)
        assert not result["prefix_sharing"]
        assert (
            "separate rows" in result["prefix_sharing_reason"] or "does not take" in result["prefix_sharing_reason"]
        ) is sharing
        runs.append((rows_of(job), [(record["loss"], record["grad_norm"]) for record in logged(job)]))
    assert runs[0][1] == runs[1][1]
    assert runs[0][0].drop(columns="run_id").equals(runs[1][0].drop(columns="run_id"))
    assert runs[0][0].delta[runs[0][0].step == 1].abs().max() < 1e-4


@pytest.mark.parametrize("rule", ["fixed", "weight_only", "saturation_only", "beta_dpo", "alpha_dpo", "rpo"])
def test_the_routers_loss_of_mixtures_of_experts_is_in_every_rules_loss(
    mixture: tuple[Path, Path], tmp_path: Path, rule: str
) -> None:
    model, parent = mixture
    job = trained(model, tmp_path, rule, params={}, parent_dir=parent, training={"max_steps": 2}, pairs=make_pairs(8))
    rows = rows_of(job)
    for record in logged(job):
        pairs = rows[(rows.step == record["step"]) & rows["mask"]].loss.mean()
        assert record["aux_loss"] > 0.1
        assert record["loss"] == pytest.approx(pairs + 0.5 * record["aux_loss"], rel=1e-5)


@pytest.fixture(scope="module")
def mixture(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A mixture of experts, and a run of foodpo on it."""
    out = tmp_path_factory.mktemp("mixture")
    job = trained(
        build(tiny_model, out / "model", "mixtral"),
        out / "run",
        "foodpo",
        training={"max_steps": 2},
        pairs=make_pairs(8),
    )
    return out / "model", job.run_dir


def test_stored_scores_that_are_not_the_references_are_computed_again(tiny_model: Path, tmp_path: Path) -> None:
    jobs = [make_job(tiny_model, tmp_path / name, reference_root=tmp_path / "store") for name in ("a", "b")]
    assert train(jobs[0], make_pairs(), lambda _: None)["reference_store_reason"] is None
    (path,) = (tmp_path / "store").glob("*/scores.parquet")
    table = pq.read_table(path)
    place = table.schema.get_field_index("chosen_logp")
    pq.write_table(table.set_column(place, "chosen_logp", pa.array(table["chosen_logp"].to_numpy() - 0.4)), path)
    assert "computed again" in train(jobs[1], make_pairs(), lambda _: None)["reference_store_reason"]
    left, right = (rows_of(job).drop(columns="run_id") for job in jobs)
    assert left.ref_chosen_logp.to_numpy() == pytest.approx(right.ref_chosen_logp.to_numpy(), abs=1e-4)


@pytest.mark.parametrize("rule", ["alpha_dpo", "beta_dpo"])
def test_the_first_step_is_no_noise(tiny_model: Path, tmp_path: Path, rule: str) -> None:
    """Scores from the store differ from the policy's by 1e-5; divided by their spread that made a loss of 3.8 in place of 1.6."""
    first: dict[bool, list[Any]] = {True: [], False: []}
    for cached, runs in first.items():
        for seed in (1, 2, 3):
            training = {"max_steps": 1, "precompute_ref_log_probs": cached}
            job = trained(tiny_model, tmp_path / f"{cached}{seed}", rule, params={}, training=training, seed=seed)
            runs += [logged(job)[0]["loss"], *rows_of(job)["mask"]]
    assert first[True] == pytest.approx(first[False], rel=1e-4)


@pytest.mark.parametrize("rule", ["beta_head", "learnable"])
def test_a_head_waits_for_a_signal(tiny_model: Path, tmp_path: Path, rule: str) -> None:
    """With a policy that does not move there is none; Adam stepped by the sign of the noise."""
    training = {"max_steps": 3, "learning_rate": 0.0}
    job = trained(tiny_model, tmp_path, rule, training=training)
    rows = rows_of(job)
    expected = 0.1 if rule == "beta_head" else 0.1 * rows.log_prompt_perplexity / _mean_nll(tiny_model, tmp_path)
    assert rows.dynamic_beta.to_numpy() == pytest.approx(expected, rel=1e-5)
    assert [record["head_grad_norm"] for record in logged(job)] == [0.0] * 3


def _mean_nll(tiny_model: Path, out: Path) -> float:
    return float(
        train(make_job(tiny_model, out / "other"), make_pairs(), lambda _: None)["mean_reference_log_perplexity"]
    )


def test_the_penalty_is_logged_beside_the_loss(tiny_model: Path, tmp_path: Path) -> None:
    job = trained(tiny_model, tmp_path, "learnable", params={"anchor": 2.0}, training={"max_steps": 4})
    rows = rows_of(job)
    for record in logged(job):
        step = rows[rows.step == record["step"]]
        assert record["loss"] == pytest.approx(step.loss.mean(), rel=1e-5)
        penalty = 2.0 * ((step.dynamic_beta / 0.1).apply(torch.tensor).map(torch.log) ** 2).mean()
        assert record["anchor_penalty"] == pytest.approx(float(penalty), rel=1e-3) and penalty > 1e-5


def test_rules_of_the_whole_batch_are_not_cut_for_want_of_memory(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "hungry.py"
    path.write_text(
        "import torch\nfrom trainers.rules.batches import BetaDPO\n"
        "class Hungry(BetaDPO):\n"
        "    def __init__(self, hidden_size, pref_beta=0.1):\n"
        "        super().__init__(hidden_size, pref_beta=pref_beta, a=0.6, keep=0.8, momentum=0.9, beta_min=0.1, start='zero')\n"
        "    def output(self, batch):\n        raise torch.OutOfMemoryError('CUDA out of memory')\n"
    )
    with pytest.raises(MemoryError, match=r"Hungry' depends on the micro-batch"):
        train(make_job(tiny_model, tmp_path / "run", f"{path}:Hungry", run_id="x"), make_pairs(), lambda _: None)


@pytest.mark.parametrize("start", ["pissa", "olora", "pissa_niter_4", False])
def test_adapters_that_start_elsewhere_are_refused(tiny_model: Path, tmp_path: Path, start: Any) -> None:
    lora = {"r": 2, "target_modules": "all-linear", "init_lora_weights": start}
    with pytest.raises(ObjectiveError, match="use true or gaussian"):
        train(make_job(tiny_model, tmp_path, lora=lora), make_pairs(), lambda _: None)


def test_a_loss_of_cdpo_is_the_rule_of_that_name_and_lists_of_losses_are_trls(tiny_model: Path, tmp_path: Path) -> None:
    runs = []
    for name, params, training in (
        ("fixed", {"pref_loss": "cdpo"}, {"label_smoothing": 0.3}),
        ("cdpo", {"label_smoothing": 0.3}, {}),
        ("fixed", {}, {}),
    ):
        job = trained(tiny_model, tmp_path / f"{name}{len(runs)}", name, params=params, training=training)
        runs.append([record["loss"] for record in logged(job)])
    assert runs[0] == pytest.approx(runs[1], rel=1e-5)
    assert abs(runs[0][-1] - runs[2][-1]) > 1e-3
    several = {"pref_loss": ["sigmoid", "bco_pair", "sft"], "pref_beta": 0.1}
    job = make_job(tiny_model, tmp_path / "mpo", params=several, prefix_sharing=False)
    job = replace(job, training={**job.training, "loss_weights": [0.8, 0.2, 1.0]})
    stock, _ = stock_run(job, "dpo", make_pairs(), tmp_path / "stock", precompute_ref_log_probs=True)
    train(job, make_pairs(), lambda _: None)
    rows = rows_of(job)
    for ours, theirs in zip(logged(job), stock, strict=True):
        assert ours["loss"] == theirs["loss"] and ours["grad_norm"] == theirs["grad_norm"]
        assert rows[rows.step == ours["step"]].loss.mean() == pytest.approx(theirs["loss"], rel=1e-5)


def test_counts_of_the_last_batch_and_flags_of_rules_that_fell_back(tiny_model: Path, tmp_path: Path) -> None:
    job = trained(tiny_model, tmp_path, training={"max_steps": 6}, pairs=make_pairs(10))
    assert [record["examples_seen"] for record in logged(job)] == [4, 8, 10, 14, 18, 20]
    batch = RuleBatch(torch.tensor([0.0, 2.0]), torch.tensor([False, True]), None, torch.arange(2))
    batch = replace(
        batch, response_log_ppl=torch.ones(2), prompt_tokens=torch.tensor([0, 3]), response_tokens=torch.ones(2)
    )
    for rule, params, expected in (
        ("fixed", {}, None),
        ("foodpo", {}, [True, False]),
        ("foodpo", {"ppl_of": "response"}, [False, False]),
    ):
        built = catalogue.build(rule, params, 8)
        built(batch)
        assert (built.fell_back if built.fell_back is None else built.fell_back.tolist()) == expected
