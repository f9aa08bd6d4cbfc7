"""Every registered rule, three real steps: loss, gradient norm and pull of each pair against formulas written here in float64."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.trainers.helpers import logged, make_job, make_pairs, rows_of
from trainers.formats.pairs import PreferencePair
from trainers.rules import catalogue
from trainers.run.train import train

COLUMNS = ("reward_margin", "weight", "reward_gap", "score_chosen", "score_rejected", "ls_factor")
RNG = np.random.default_rng(4)
PAIRS = [
    replace(pair, beta=0.05 + 0.02 * i, columns={name: float(RNG.uniform(0.2, 9)) for name in COLUMNS})
    for i, pair in enumerate(make_pairs(16))
]


@dataclass
class Step:
    """What a formula may look at, all (B,) in float64: policy log-probs `w`, `l` with their gradient, log-ratios `a`, `b`, token
    counts, the prompt's log-perplexity, the reference's mean entropies, the rows that were recorded, and the rule's parameters.
    """

    w: Tensor
    l: Tensor  # noqa: E741
    a: Tensor
    b: Tensor
    nw: Tensor
    nl: Tensor
    ppl: Tensor
    entropy: Tensor
    rows: pd.DataFrame
    p: dict[str, Any]
    progress: float
    all_ppl: Tensor
    parent: pd.DataFrame
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def d(self) -> Tensor:
        return self.a - self.b

    def column(self, name: str) -> Tensor:
        by_id = {pair.id: pair.columns for pair in PAIRS}
        return torch.tensor([by_id[i][self.p[name]] for i in self.rows.example_id], dtype=torch.float64)

    def recorded(self, name: str) -> Tensor:
        return torch.tensor(self.rows[name].to_numpy(float))

    def moving(self, name: str, value: Tensor) -> Tensor:
        self.state[name] = self.p["momentum"] * self.state.get(name, 0.0) + (1 - self.p["momentum"]) * value
        return self.state[name]

    def theirs(self) -> Tensor:
        merged = self.rows[["step", "example_id"]].merge(self.parent, on=["step", "example_id"])
        return torch.tensor(merged.dynamic_beta.to_numpy(float))


def dpo(s: Step, beta: Any = None, score: Tensor | None = None, margin: Any = 0.0) -> Tensor:
    return -F.logsigmoid((s.p["pref_beta"] if beta is None else beta) * (s.d if score is None else score) - margin)


def madpo(s: Step) -> Tensor:
    h, p = s.column("column"), s.p
    c = p["c_min"] + (p["c_max"] - p["c_min"]) / (
        1 + (p["c_max"] - 1) / (1 - p["c_min"]) * torch.exp(p["rate"] * (h.abs() - p["tau"]))
    )
    return torch.where(h > -p["tau"], torch.sigmoid(c * h) / torch.sigmoid(h), 1.0) * dpo(s)


def uni_dpo(s: Step) -> Tensor:
    good = (s.column("chosen_column") >= s.p["tau_good"]) & (s.a < 0)
    quality = torch.sigmoid(s.p["eta"] * (s.column("chosen_column") - s.column("rejected_column")))
    learned = 1 - torch.sigmoid(s.p["pref_beta"] * (s.w / s.nw - s.l / s.nl) - s.p["tau_ref"])
    loss = quality * learned ** s.p["gamma"] * dpo(s, score=s.a / s.nw - s.b / s.nl)
    return loss - s.p["nll"] * good * s.w / s.nw


def alpha_dpo(s: Step) -> Tensor:
    gap = (s.a / s.nw - s.b / s.nl).detach()
    z = (gap - s.moving("mu", gap.mean())) / s.moving("sigma", gap.std())
    return dpo(s, score=s.w / s.nw - s.l / s.nl - (s.p["gamma_beta_ratio"] + s.p["alpha"] * z))


def beta_dpo(s: Step) -> Tensor:
    kept, d = s.recorded("mask").bool(), s.d.detach()
    assert int(kept.sum()) == int(s.p["keep"] * len(d))
    beta = s.p["pref_beta"] * (1 + s.p["a"] * (d[kept].mean() - s.moving("mu", d.mean())))
    return dpo(s, beta.clamp_min(s.p["beta_min"]))[kept]


def risk_beta(s: Step) -> Tensor:
    beta, d, share = s.state.get("beta", s.p["pref_beta"]), s.d.detach().numpy(), s.p["delta"]
    quantile = float(np.quantile(d, 1 - share))
    s.state["tau"] = s.p["momentum"] * s.state.get("tau", quantile) + (1 - s.p["momentum"]) * quantile
    u = ((d >= s.state["tau"]).mean() - share) / math.sqrt(share * (1 - share) / len(d))
    s.state["beta"] = min(
        max(beta * math.exp(s.p["alpha"] * math.tanh(s.p["gamma"] * u)), s.p["beta_min"]), s.p["beta_max"]
    )
    return dpo(s, beta)


def dr_dpo(s: Step) -> Tensor:
    return -s.p["beta_prime"] * torch.log(torch.exp(-dpo(s) / s.p["beta_prime"]).mean()).expand_as(s.d)


def inverse(s: Step) -> Tensor:
    k = s.p["pref_beta_scale"] * s.p["pref_beta"] * s.all_ppl.mean() / (1 / s.all_ppl).mean()
    return dpo(s, k / s.ppl)


FORMULAS: dict[str, Callable[[Step], Tensor]] = {
    "fixed": dpo,
    "foodpo": lambda s: dpo(s, s.p["pref_beta"] * s.ppl**3 / (s.all_ppl**3).mean()),
    "beta_head": lambda s: dpo(s, s.recorded("dynamic_beta")),
    "learnable": lambda s: dpo(s, s.recorded("dynamic_beta")),
    "dataset_beta": lambda s: dpo(s, torch.tensor([0.05 + 0.02 * int(i[1:]) for i in s.rows.example_id])),
    "beta_dpo": beta_dpo,
    "epsilon_dpo": lambda s: dpo(s, s.recorded("dynamic_beta")),
    "mallows": lambda s: dpo(s, -s.p["pref_beta"] * s.p["phi"] * torch.log(s.entropy / math.log(259))),
    "alpha_dpo": alpha_dpo,
    "madpo": madpo,
    "tur_dpo": lambda s: s.column("weight_column") * dpo(s, margin=-s.p["gamma"] * s.column("reward_column")),
    "focal_po": lambda s: torch.sigmoid(s.p["pref_beta"] * s.d.detach()) ** s.p["gamma"] * dpo(s),
    "dr_dpo": dr_dpo,
    "uni_dpo": uni_dpo,
    "r_dpo": lambda s: -F.logsigmoid(s.p["pref_beta"] * s.d + s.p["alpha"] * (s.nw - s.nl)),
    "odpo": lambda s: dpo(s, margin=s.p["alpha"] * s.column("column").log()),
    "dpo_shift": lambda s: dpo(s, score=s.a - (0.75 + (0.95 - 0.75) * s.progress) * s.b),
    "dpop": lambda s: dpo(s, score=s.d - s.p["strength"] * torch.relu(-s.a)),
    "minor_dpo": lambda s: dpo(s, score=s.a - torch.relu(s.b)),
    "bpo": lambda s: dpo(s, score=torch.minimum(s.a, -s.p["balance"] * s.b)),
    "chi_po": lambda s: dpo(s, score=s.a.exp() + s.a - s.b.exp() - s.b),
    "h_dpo": lambda s: dpo(s, score=s.p["alpha"] * (s.w - s.l) - ((s.w - s.a) - (s.l - s.b))),
    "cal_dpo": lambda s: dpo(s, 1.0) + 0.5 * ((s.a - 1 / (2 * 0.1)) ** 2 + (s.b + 1 / (2 * 0.1)) ** 2),
    "c2_dpo": lambda s: dpo(s) + s.p["constraint"] * (s.a + s.b) ** 2,
    "cdpo": lambda s: 0.9 * dpo(s) - 0.1 * F.logsigmoid(-0.1 * s.d),
    "robust": lambda s: (0.9 * dpo(s) + 0.1 * F.logsigmoid(-0.1 * s.d)) / 0.8,
    "rpo": lambda s: dpo(s) - s.p["nll"] * s.w / s.nw,
    "mm_dpo": lambda s: dpo(s, s.p["pref_beta"] * (1 + s.p["w"] * s.column("column"))),
    "risk_beta": risk_beta,
    "inverse": inverse,
    "matched_mean": lambda s: dpo(s, s.parent.dynamic_beta.mean()),
    "permuted": lambda s: dpo(s, s.recorded("dynamic_beta")),
    "beta_replay": lambda s: dpo(s, s.parent[s.parent.step == s.rows.step.iloc[0]].dynamic_beta.mean()),
    "weight_only": lambda s: dpo(s, s.parent.dynamic_beta.mean()) * s.theirs() / s.parent.dynamic_beta.mean(),
    "saturation_only": lambda s: dpo(s, s.theirs()) * s.parent.dynamic_beta.mean() / s.theirs(),
}
PARAMS: dict[str, dict[str, Any]] = {
    "foodpo": {"power": 3.0, "rescale": "mean"},
    "dpo_shift": {"shift_end": 0.95},
    "focal_po": {"gamma": 2.0},
    "uni_dpo": {"tau_good": 3.0, "nll": 0.5},
    "c2_dpo": {"constraint": 0.1},
    "risk_beta": {"alpha": 0.5},
}


def model64(path: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float64).eval()


@pytest.fixture(scope="module")
def reference(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Near the start, so that margins are neither 0 nor huge at the first step already."""
    out = tmp_path_factory.mktemp("reference") / "model"
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(out)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(out)
    return out


def scored(model: Any, tokenizer: Any, pairs: list[PreferencePair]) -> dict[str, Tensor]:
    """Sums of log-probs, token counts, prompt NLL and mean entropies, one sequence at a time."""
    found: dict[str, list[Tensor]] = {name: [] for name in ("w", "l", "nw", "nl", "ppl", "entropy")}
    for pair in pairs:
        start = len(tokenizer.apply_chat_template(pair.prompt, add_generation_prompt=True)["input_ids"])
        entropies = []
        for name, answer in (("w", pair.chosen), ("l", pair.rejected)):
            ids = torch.tensor([tokenizer.apply_chat_template(pair.prompt + answer)["input_ids"]])
            table = torch.log_softmax(model(ids).logits[0, :-1].double(), -1)
            logp = table.gather(-1, ids[0, 1:, None]).squeeze(-1)
            found[name].append(logp[start - 1 :].sum())
            found[f"n{name}"].append(torch.tensor(float(ids.size(1) - start)))
            entropies.append(-(table.exp() * table).sum(-1)[start - 1 :].mean())
        found["ppl"].append(-logp[: start - 1].mean())
        found["entropy"].append((entropies[0] + entropies[1]) / 2)
    return {name: torch.stack(values).double() for name, values in found.items()}


@pytest.fixture(scope="module")
def parent(tiny_model: Path, reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    job = make_job(tiny_model, tmp_path_factory.mktemp("parent"), "foodpo", training={"max_steps": 3})
    train(replace(job, reference_path=reference, reference_hash="other"), PAIRS, lambda _: None)
    return job.run_dir


@pytest.mark.parametrize(
    ("rule", "sharing"), [*((rule, True) for rule in sorted(catalogue.BUILTIN)), ("mallows", False)]
)
def test_loss_and_gradient(
    tiny_model: Path, reference: Path, parent: Path, tmp_path: Path, rule: str, sharing: bool
) -> None:
    params = PARAMS.get(rule, {})
    job = make_job(
        tiny_model,
        tmp_path,
        rule,
        params=params,
        parent_dir=parent,
        reference_path=reference,
        reference_hash="other",
        prefix_sharing=sharing,
        training={"max_steps": 3, "save_steps": 1, "save_total_limit": 9},
    )
    result = train(job, PAIRS, lambda _: None)
    assert result["prefix_sharing"] is sharing and result["reference_store_reason"] is None
    by_id, tokenizer = {pair.id: pair for pair in PAIRS}, AutoTokenizer.from_pretrained(tiny_model)
    frozen, state = model64(reference), dict[str, Any]()
    with torch.no_grad():
        everywhere = scored(frozen, tokenizer, PAIRS)["ppl"]
    parents = pd.read_parquet(parent / "example_metrics.parquet", columns=["step", "example_id", "dynamic_beta"])
    for number, record in enumerate(logged(job)):
        rows = rows_of(job)[rows_of(job).step == number + 1]
        pairs = [by_id[name] for name in rows.example_id]
        policy = model64(tmp_path / "checkpoints" / f"checkpoint-{number}" if number else tiny_model)
        ours = scored(policy, tokenizer, pairs)
        with torch.no_grad():
            other = scored(frozen, tokenizer, pairs)
        step = Step(
            **{**ours, "ppl": ours["ppl"].detach(), "entropy": other["entropy"]},
            a=ours["w"] - other["w"],
            b=ours["l"] - other["l"],
            rows=rows,
            p=catalogue.validate(rule, params),
            progress=number / 3,
            all_ppl=everywhere,
            parent=parents,
            state=state,
        )
        losses = FORMULAS[rule](step)
        pulls = -torch.autograd.grad(losses.sum(), ours["w"], retain_graph=True)[0]
        gradient = torch.autograd.grad(losses.mean(), [p for p in policy.parameters() if p.requires_grad])
        norm = torch.stack([part.norm() for part in gradient]).norm().item()
        assert record["loss"] == pytest.approx(losses.mean().item(), rel=2e-4, abs=2e-5), (rule, number)
        assert record["grad_norm"] == pytest.approx(norm, rel=2e-3), (rule, number)
        kept = rows["mask"].to_numpy(bool)
        assert rows.gradient_weight.to_numpy() == pytest.approx(pulls.numpy() * kept, rel=5e-3, abs=1e-5)
        assert rows.loss[kept].mean() == pytest.approx(record["loss"], rel=1e-4, abs=1e-6)
