"""`save`: merged weights, the adapter, or both; every choice is measured alike and identifies nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.stages.publish import check_push, upload_folder, write_card
from harness.state.policies import MERGED, policy_entry, published_dir
from harness.state.store import RunStore

SEEDS = "seeds: [0, 1]"
MATRIX = """
name: kept
model: {name_or_path: MODEL}
data: {train: pairs.jsonl}
training:
  per_device_train_batch_size: 2
  max_steps: 2
  learning_rate: 1e-2
  max_length: 128
  bf16: false
  gradient_checkpointing: false
lora: {r: 4, target_modules: all-linear}
save: both
methods: [{name: beta_head}]
evaluation:
  engine: {backend: transformers, dtype: float32, max_model_len: 256}
  benchmarks:
    - {name: kl, kind: kl, prompts: prompts.jsonl, max_new_tokens: 8, samples: 2}
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("save: lora", ["save is 'lora'", "'merged', 'adapter' or 'both'"]),
        ("save: true", ["save is True", "'merged', 'adapter' or 'both'"]),
        ("save: adapter", ["save is 'adapter'", "trains all weights (no lora)", "add lora, or remove save"]),
    ],
)
def test_mistakes(world: Any, text: str, words: list[str]) -> None:
    line = world.replace(SEEDS, f"{SEEDS}\n{text}") + 1
    world.refuses(f"{world.config}:{line}:", *words)


def test_adapters_that_are_served_must_be_kept(world: Any) -> None:
    line = world.replace(SEEDS, f"{SEEDS}\nlora: {{r: 4}}\nsave: merged") + 2
    world.replace("evaluation:\n", "evaluation:\n  engine: {lora: adapters}\n")
    world.refuses(f"{world.config}:{line}: save is 'merged'", "set save to adapter or both")


def test_no_run_and_no_cell_changes(world: Any) -> None:
    world.replace(SEEDS, f"{SEEDS}\nlora: {{r: 4}}")
    before = world.plan()
    world.replace("lora: {r: 4}", "lora: {r: 4}\nsave: adapter")
    after = world.plan()
    assert [spec.fingerprint for spec in after.specs] == [spec.fingerprint for spec in before.specs]
    assert after.benchmarks == before.benchmarks
    jobs = [plan.train_job(plan.specs[0])["train_job"]["save"] for plan in (before, after)]
    assert jobs == ["both", "adapter"]


def _adapter_run(world: Any) -> tuple[Any, Path]:
    """A plan whose first run looks trained and has an adapter alone."""
    world.replace(SEEDS, f"{SEEDS}\nlora: {{r: 4}}\nsave: adapter")
    plan, (store, *_) = world.begun()
    (store.directory / "adapter").mkdir()
    config = {"base_model_name_or_path": "/somewhere/here", "peft_type": "LORA"}
    (store.directory / "adapter" / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    store.mark_stage("train", plan.specs[0].fingerprint, ["adapter/adapter_config.json"], 1.0, last=True)
    return plan, store.directory


def test_what_is_on_disk_is_served(world: Any) -> None:
    plan, run = _adapter_run(world)
    spec = plan.specs[0]
    entry = policy_entry(plan, spec)
    assert (entry.path, entry.adapter) == (run / MERGED, run / "adapter")
    assert entry.merge.model_dump() == {"base": plan.model.path, "dtype": "float32", "trust_remote_code": False}
    (run / "policy").mkdir()
    entry = policy_entry(plan, spec)
    assert (entry.path, entry.adapter, entry.merge) == (run / "policy", run / "adapter", None)
    (run / "adapter" / "adapter_config.json").unlink()
    (run / "adapter").rmdir()
    entry = policy_entry(plan, spec)
    assert (entry.path, entry.adapter, entry.merge) == (run / "policy", None, None)


def test_the_card_of_an_adapter(world: Any) -> None:
    plan, run = _adapter_run(world)
    assert published_dir(run) == run / "adapter"
    path = write_card(run, "small")
    assert path == run / "adapter" / "README.md"
    text = path.read_text(encoding="utf-8")
    assert text.startswith("---\nlibrary_name: peft\n") and "This is a LoRA adapter" in text
    assert RunStore(run).is_done("train", plan.specs[0].fingerprint), "the card is no part of what is checked"


def test_an_uploaded_adapter_names_its_model_and_no_path(world: Any) -> None:
    plan, run = _adapter_run(world)
    with upload_folder(plan, plan.specs[0]) as folder:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == "model" and config["peft_type"] == "LORA"
    kept = json.loads((run / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert kept["base_model_name_or_path"] == "/somewhere/here", "the run's own files stay as they are"


def test_an_adapter_over_merged_weights_is_not_uploaded(world: Any) -> None:
    from harness.config.matrix_file import parse
    from harness.config.source import load
    from trainers.common.errors import UserError

    text = f"{SEEDS}\nlora: {{r: 4}}\nsave: adapter\npush_to_hub: {{prefix: someone/study}}"
    line = world.replace(SEEDS, text) + 2
    world.replace("data:\n", "  adapter: some-adapter\ndata:\n")
    with pytest.raises(UserError, match=rf"m\.yaml:{line + 1}: save is 'adapter', and model.adapter is merged"):
        source = load(world.config)
        check_push(parse(source), source, ["a"])


@pytest.mark.slow
def test_an_adapter_alone_is_measured_like_merged_weights(
    world: Any, tiny_model: Path, cli: Callable[..., Any]
) -> None:
    """Numbers agree to the digits that merging in float32 leaves; nothing is trained again when the choice changes."""
    import torch

    from trainers.models.beta_head import AutoModelForCausalLMWithBetaHead

    found: dict[str, tuple[Path, dict[str, Any]]] = {}
    for save in ("both", "adapter"):
        world.write(MATRIX.replace("MODEL", str(tiny_model)).replace("save: both", f"save: {save}"))
        done = cli("run-matrix", world.config, "--output", world.root / save)
        assert done.returncode == 0, done.stderr
        (run,) = (world.root / save / "runs").iterdir()
        found[save] = run, json.loads((run / "scores" / "kl.json").read_text(encoding="utf-8"))["metrics"]
        assert (run / "policy").is_dir() == (save == "both") and (run / "adapter" / "adapter_config.json").is_file()
        assert not (run / MERGED).exists()
    (both, scores), (adapter, others) = found.values()
    assert both.name == adapter.name
    for name, metric in scores.items():
        assert others[name]["value"] == pytest.approx(metric["value"], abs=1e-5), name
    assert (adapter / "adapter" / "tokenizer.json").is_file() and not (both / "adapter" / "tokenizer.json").exists()
    ids = torch.tensor([[1, 2, 3]])
    betas = [
        AutoModelForCausalLMWithBetaHead.from_pretrained(run)(ids, torch.ones_like(ids))[2] for run in (both, adapter)
    ]
    assert betas[0].item() == pytest.approx(betas[1].item(), rel=1e-4)
    again = cli("run-matrix", world.config, "--output", world.root / "both")
    assert again.returncode == 0 and "train [" not in again.stderr, again.stderr
    assert (both / "policy").is_dir() and (both / "adapter").is_dir(), "what was trained before stays as it is"
