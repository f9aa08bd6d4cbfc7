"""Training configurations of LLaMA-Factory and TRL as matrix files: taken over, or listed, never dropped."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.checks.static import check_static
from harness.commands.data.import_config import import_config
from harness.config.source import load
from harness.imports import llamafactory, trl
from harness.imports.arguments import LEFT
from trainers.common.errors import UserError

LF_LORA = """\
### model
model_name_or_path: meta-llama/Meta-Llama-3-8B-Instruct
trust_remote_code: true
flash_attn: fa2

### method
stage: dpo
do_train: true
finetuning_type: lora
lora_rank: 64
lora_target: all
lora_dropout: 0.05
pref_beta: 0.2
pref_loss: sigmoid  # choices: [sigmoid (dpo), orpo, simpo]

### dataset
dataset: dpo_en_demo,dpo_zh_demo
dataset_dir: data
template: llama3
cutoff_len: 1536
max_samples: 500
overwrite_cache: true
preprocessing_num_workers: 16

### output
output_dir: saves/llama3-8b/lora/dpo
logging_steps: 10
save_steps: 500
plot_loss: true
overwrite_output_dir: true
report_to: none

### train
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 5e-6
num_train_epochs: 3.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
ddp_timeout: 180000000
deepspeed: examples/deepspeed/ds_z3_config.json
mystery_knob: 4
"""
LF_FULL_FOODPO = """\
model_name_or_path: Qwen/Qwen2.5-1.5B-Instruct
stage: foodpo
finetuning_type: full
pref_beta: 0.1
pref_beta_scale: 0.4
pref_loss: hinge
dataset: owner/some-pairs
dataset_dir: ONLINE
template: qwen
cutoff_len: 1024
seed: 7
warmup_steps: 20
learning_rate: 1.0e-6
bf16: true
use_unsloth: true
"""
TRL_FULL = """\
model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
dataset_name: trl-lib/ultrafeedback_binarized
dataset_config: main
learning_rate: 5.0e-7
num_train_epochs: 1
per_device_train_batch_size: 2
gradient_accumulation_steps: 8
gradient_checkpointing: true
beta: 0.05
loss_type: ipo
max_length: 2048
max_prompt_length: 1024
logging_steps: 25
eval_strategy: steps
eval_steps: 50
output_dir: Qwen2-0.5B-DPO
no_such_argument: true
"""
TRL_QLORA = """\
model_name_or_path: mistralai/Mistral-7B-v0.1
dtype: bfloat16
attn_implementation: flash_attention_2
use_peft: true
lora_r: 16
lora_alpha: 16
lora_target_modules: [q_proj, v_proj]
load_in_4bit: true
use_bnb_nested_quant: true
datasets:
  - path: trl-lib/ultrafeedback_binarized
    split: train
  - path: json
    data_files: pairs.jsonl
  - path: Anthropic/hh-rlhf
    data_dir: helpful-base
    columns: [chosen, rejected]
learning_rate: 5.0e-6
warmup_ratio: 0.1
loss_type: [sigmoid]
loss_weights: [1.0]
push_to_hub: true
hub_model_id: me/mine
"""


def _import(tmp_path: Path, tool: str, text: str, **options: Any) -> tuple[dict[str, Any], list[str], str]:
    file, target = tmp_path / "run config.yaml", tmp_path / "study.yaml"
    file.write_text(text, encoding="utf-8")
    notes = import_config(tool, file, target, options.pop("force", False), **options)
    check_static(load(target))
    return load(target).value, notes, target.read_text(encoding="utf-8")


def _refused(tmp_path: Path, tool: str, text: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        _import(tmp_path, tool, text)
    assert said in str(caught.value) and not (tmp_path / "study.yaml").exists()


@pytest.fixture
def demo_data(tmp_path: Path) -> None:
    """LLaMA-Factory's folder of data: dataset_info.json and two ranking sets."""
    rows = [{"instruction": f"Say {i}", "input": "", "chosen": f"{i}!", "rejected": "no"} for i in range(3)]
    columns = {"prompt": "instruction", "query": "input", "chosen": "chosen", "rejected": "rejected"}
    (tmp_path / "data").mkdir()
    info = {}
    for name in ("dpo_en_demo", "dpo_zh_demo"):
        (tmp_path / "data" / f"{name}.json").write_text(json.dumps(rows), encoding="utf-8")
        info[name] = {"file_name": f"{name}.json", "ranking": True, "columns": columns}
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")


@pytest.mark.usefixtures("demo_data")
def test_llamafactory_lora(tmp_path: Path) -> None:
    matrix, notes, text = _import(tmp_path, "LLaMA-Factory", LF_LORA)
    assert matrix["name"] == "run-config"
    assert matrix["model"] == {
        "name_or_path": "meta-llama/Meta-Llama-3-8B-Instruct",
        "dtype": "bfloat16",
        "attn_implementation": "flash_attention_2",
        "trust_remote_code": True,
    }
    assert matrix["lora"] == {"r": 64, "lora_alpha": 128, "lora_dropout": 0.05, "target_modules": "all-linear"}
    training = matrix["training"]
    assert training["warmup_steps"] == 0.1 and "warmup_ratio" not in training
    assert training["max_length"] == 1536 and training["learning_rate"] == 5e-6
    assert (training["per_device_train_batch_size"], training["gradient_accumulation_steps"]) == (1, 8)
    assert matrix["data"]["train"] == [
        {"source": f"data/dataset_info.json#{name}", "limit": 500} for name in ("dpo_en_demo", "dpo_zh_demo")
    ]
    assert matrix["methods"][0] == {"name": "original", "rule": "fixed", "pref_beta": 0.2}
    assert matrix["report"]["baseline"] == "original" and matrix["seeds"][0] == 42
    rules = {method["rule"]: method for method in matrix["methods"]}
    assert {"foodpo", "learnable", "beta_head", "matched_mean", "permuted"} <= set(rules)
    assert rules["foodpo"]["pref_beta"] == 0.2
    for key in ("template", "deepspeed", "mystery_knob", "output_dir", "plot_loss", "overwrite_cache", "do_train"):
        assert sum(f": {key}: " in note for note in notes) == 1, key
        assert re.search(rf"^#   line \d+: {key}: ", text, re.MULTILINE), key
    line = LF_LORA.splitlines().index("mystery_knob: 4") + 1
    assert f"line {line}: mystery_knob: 4: not known here" in notes


@pytest.mark.usefixtures("demo_data")
def test_the_imported_matrix_plans_on_its_data(world: Any, tmp_path: Path) -> None:
    text = LF_LORA.replace("meta-llama/Meta-Llama-3-8B-Instruct", str(world.model)).replace("flash_attn: fa2", "")
    file = tmp_path / "lf.yaml"
    file.write_text(text, encoding="utf-8")
    import_config("LLaMA-Factory", file, world.config, force=True)
    plan = world.plan()
    assert len(plan.pairs) == 6 and len(plan.specs) == 18
    assert {spec.training["learning_rate"] for spec in plan.specs} == {5e-6}


def test_llamafactory_full_foodpo(tmp_path: Path) -> None:
    matrix, notes, _ = _import(tmp_path, "LLaMA-Factory", LF_FULL_FOODPO)
    assert "lora" not in matrix and matrix["model"]["dtype"] == "float32", "trained weights are kept in float32"
    assert matrix["data"]["train"] == "hub:owner/some-pairs"
    original = matrix["methods"][0]
    assert original == {
        "name": "original",
        "rule": "foodpo",
        "pref_beta": 0.1,
        "pref_beta_scale": 0.4,
        "pref_loss": "hinge",
    }
    assert matrix["methods"][1] == {"name": "fixed", "rule": "fixed", "pref_beta": 0.1, "pref_loss": "hinge"}
    assert {m["parent"] for m in matrix["methods"] if "parent" in m} == {"original"}
    assert matrix["seeds"] == [7, 8, 9] and matrix["training"]["warmup_steps"] == 20
    # defaults of LLaMA-Factory that are not TRL's are written out
    assert matrix["training"]["per_device_train_batch_size"] == 8 and matrix["training"]["num_train_epochs"] == 3.0
    assert any("use_unsloth: True: kernels" in note for note in notes)


def test_llamafactory_qlora(tmp_path: Path) -> None:
    text = LF_LORA.replace(
        "mystery_knob: 4",
        "quantization_bit: 4\nquantization_method: bnb\nadapter_name_or_path: saves/sft\ncreate_new_adapter: true",
    )
    matrix, notes, _ = _import(tmp_path, "LLaMA-Factory", text)
    assert matrix["model"]["quantization"] == {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": "bfloat16",
    }
    assert matrix["model"]["adapter"] == "saves/sft"
    assert any("is not found from here: give --dataset-dir" in note for note in notes)


def test_llamafactory_kto_orpo_and_simpo(tmp_path: Path) -> None:
    kto = LF_LORA.replace("stage: dpo", "stage: kto").replace("mystery_knob: 4", "kto_rejected_weight: 0.5")
    matrix, _, _ = _import(tmp_path, "LLaMA-Factory", kto.replace("train_batch_size: 1", "train_batch_size: 2"))
    assert {m["objective"] for m in matrix["methods"]} == {"kto"}
    assert all(m["training"] == {"desirable_weight": 1.0, "undesirable_weight": 0.5} for m in matrix["methods"])
    matrix, _, _ = _import(tmp_path, "LLaMA-Factory", LF_LORA.replace("sigmoid  #", "orpo #"), force=True)
    assert [m["rule"] for m in matrix["methods"]] == ["fixed", "foodpo"] and matrix["methods"][0]["objective"] == "orpo"
    simpo = LF_LORA.replace("sigmoid  #", "simpo #").replace("pref_beta: 0.2", "pref_beta: 2.0\nsimpo_gamma: 1.0")
    matrix, _, _ = _import(
        tmp_path, "LLaMA-Factory", simpo.replace("train_batch_size: 1", "train_batch_size: 2"), force=True
    )
    assert matrix["methods"][0] == {
        "name": "original",
        "rule": "alpha_dpo",
        "pref_beta": 2.0,
        "alpha": 0.0,
        "gamma_beta_ratio": 0.5,
    }


def test_trl_full(tmp_path: Path) -> None:
    matrix, notes, _ = _import(tmp_path, "TRL", TRL_FULL)
    assert matrix["data"] == {
        "train": "hub:trl-lib/ultrafeedback_binarized:main#train",
        "heldout": "hub:trl-lib/ultrafeedback_binarized:main#test",
    }
    assert matrix["methods"][0] == {"name": "original", "rule": "fixed", "pref_beta": 0.05, "pref_loss": "ipo"}
    assert matrix["model"] == {"name_or_path": "Qwen/Qwen2.5-0.5B-Instruct", "dtype": "float32"}
    assert matrix["training"]["bf16"] is True and matrix["training"]["learning_rate"] == 5e-7
    assert {b.get("kind") for b in matrix["evaluation"]["benchmarks"]} == {None, "preference"}
    for key in ("eval_strategy", "eval_steps", "max_prompt_length", "output_dir", "no_such_argument"):
        assert any(f": {key}: " in note for note in notes), key


def test_trl_qlora_with_several_data_sets(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text("{}\n", encoding="utf-8")
    matrix, notes, _ = _import(tmp_path, "TRL", TRL_QLORA)
    assert matrix["data"]["train"] == [
        {"source": "hub:trl-lib/ultrafeedback_binarized#train"},
        {"source": "pairs.jsonl"},
        {"source": "hub:Anthropic/hh-rlhf/helpful-base#train"},
    ]
    assert matrix["lora"] == {"r": 16, "lora_alpha": 16, "lora_dropout": 0.05, "target_modules": ["q_proj", "v_proj"]}
    assert matrix["model"]["quantization"]["bnb_4bit_use_double_quant"] is True
    assert matrix["model"]["attn_implementation"] == "flash_attention_2"
    assert matrix["training"]["warmup_steps"] == 0.1
    for key in ("push_to_hub", "hub_model_id", "datasets"):
        assert any(f": {key}: " in note for note in notes), key


@pytest.mark.parametrize(
    ("tool", "old", "new", "said"),
    [
        ("LLaMA-Factory", "stage: dpo", "stage: sft", "run config.yaml:7: stage is 'sft'"),
        (
            "LLaMA-Factory",
            "type: lora",
            "type: freeze",
            "finetuning_type is 'freeze'; these can be taken over: lora, full",
        ),
        (
            "LLaMA-Factory",
            "lora_rank: 64",
            "lora_rank: many",
            "run config.yaml:10: lora_rank is 'many'; it must be a number",
        ),
        ("LLaMA-Factory", "pref_loss: sigmoid", "pref_loss: kto_pair", "pref_loss is 'kto_pair'"),
        ("LLaMA-Factory", "dataset: dpo_en_demo,dpo_zh_demo", "x: 1", "dataset is missing"),
        ("LLaMA-Factory", "bf16: true", "bf16: sometimes", "bf16 is 'sometimes'"),
        ("LLaMA-Factory", "flash_attn: fa2", "flash_attn: fa9", "flash_attn is 'fa9'; it must be one of auto"),
        ("TRL", "loss_type: ipo", "loss_type: aot", "loss_type is 'aot'"),
        ("TRL", "dataset_name:", "dataset:", "no data are named; add dataset_name"),
        ("TRL", "beta: 0.05", "beta: -1", "pref_beta of rule 'fixed' is -1.0"),
    ],
)
def test_what_has_no_counterpart_is_one_error(tmp_path: Path, tool: str, old: str, new: str, said: str) -> None:
    text = LF_LORA if tool == "LLaMA-Factory" else TRL_FULL
    assert text.count(old) == 1
    _refused(tmp_path, tool, text.replace(old, new), said)


@pytest.mark.parametrize("tool", ["LLaMA-Factory", "TRL"])
def test_every_key_without_a_part_is_listed(tool: str, tmp_path: Path) -> None:
    own, text = (llamafactory.LEFT, LF_LORA) if tool == "LLaMA-Factory" else (trl.LEFT, TRL_FULL)
    added = [key for key in {**own, **LEFT} if not re.search(rf"^{key}:", text, re.MULTILINE)]
    _, notes, _ = _import(tmp_path, tool, text + "".join(f"{key}: 1\n" for key in added))
    listed = " ".join(notes)
    assert [key for key in added if f": {key}: " not in listed] == []


def test_tokens_are_not_copied(tmp_path: Path) -> None:
    _, _, text = _import(tmp_path, "LLaMA-Factory", LF_LORA + "hf_hub_token: hf_secret\nhub_token: hf_secret\n")
    assert "hf_hub_token" in text and "hf_secret" not in text


def test_on_the_command_line(cli: Callable[..., Any], tmp_path: Path) -> None:
    file, target = tmp_path / "dpo.yaml", tmp_path / "study.yaml"
    file.write_text(TRL_FULL, encoding="utf-8")
    result = cli("import-trl", file, "--output", target)
    assert result.returncode == 0, result.stderr
    assert "no_such_argument: True: not known here" in result.stderr and str(target) in result.stdout
    before = target.read_bytes()
    result = cli("import-trl", file, "--output", target)
    assert result.returncode == 2 and "exists; give another name, or --force" in result.stderr
    assert cli("import-trl", file, "--output", file, "--force").returncode == 2
    assert target.read_bytes() == before and file.read_text(encoding="utf-8") == TRL_FULL


def test_the_real_dataset_info(shared_data: Path, tmp_path: Path) -> None:
    """LLaMA-Factory's own files, as its example configuration names them."""
    folder = shared_data / "preferences" / "llamafactory"
    matrix, _, _ = _import(tmp_path, "LLaMA-Factory", LF_LORA, dataset_dir=folder)
    from trainers.formats import load_source

    for source in matrix["data"]["train"]:
        place, _, name = source["source"].partition("#")
        loaded = load_source(f"{(tmp_path / place).resolve()}#{name}", without_preference="drop")
        assert len(loaded.pairs) >= 290


def test_a_share_for_validation_is_held_out_by_prompt(tmp_path: Path) -> None:
    """LLaMA-Factory's val_size and TRL's test_split_size; a set that is named goes before it."""
    import yaml

    base = "model_name_or_path: m/m\nstage: dpo\nfinetuning_type: lora\ndataset: d\ntemplate: default\n"
    trl = "model_name_or_path: m/m\ndatasets: [{path: org/data}]\n"
    for tool, text, key in (("LLaMA-Factory", base, "val_size"), ("TRL", trl, "test_split_size")):
        for value, share, words in (
            ("0.1", 0.1, "by prompt, not by row"),
            ("0", None, None),
            ("500", None, "a number of pairs: set data.heldout_share"),
        ):
            file, target = tmp_path / "c.yaml", tmp_path / "m.yaml"
            file.write_text(f"{text}{key}: {value}\n", encoding="utf-8")
            notes = [note for note in import_config(tool, file, target, force=True) if key in note]
            matrix = yaml.safe_load(target.read_text(encoding="utf-8"))
            assert matrix["data"].get("heldout_share") == share
            assert notes == [] if words is None else words in notes[0]
            names = [benchmark["name"] for benchmark in matrix["evaluation"]["benchmarks"]]
            assert ("heldout" in names) == (share is not None)
    file.write_text(f"{base}val_size: 0.1\neval_dataset: e\n", encoding="utf-8")
    notes = import_config("LLaMA-Factory", file, target, force=True)
    assert any("the held-out set that is named is taken" in note for note in notes)
    assert "heldout_share" not in target.read_text(encoding="utf-8").split("\nname:", 1)[1]


LF_SHORT = "model_name_or_path: org/model\nstage: dpo\nfinetuning_type: lora\ndataset: d\ndataset_dir: ONLINE\n"
TRL_SHORT = "model_name_or_path: org/model\ndataset_name: org/pairs\nlearning_rate: 1.0e-6\n"


@pytest.mark.parametrize(
    ("tool", "text", "original", "elsewhere"),
    [
        # LLaMA-Factory up to 0.7: its default of cutoff_len was 1024 then
        (
            "LLaMA-Factory",
            LF_SHORT + "dpo_beta: 0.01\ndpo_loss: ipo\ndpo_ftx: 0.0\n",
            {"pref_beta": 0.01, "pref_loss": "ipo"},
            {"training/max_length": 1024},
        ),
        (
            "LLaMA-Factory",
            LF_SHORT.replace("stage: dpo", "stage: orpo") + "orpo_beta: 0.3\ndpo_beta: 0.7\nneft_alpha: 5\n",
            {"pref_beta": 0.3, "objective": "orpo"},
            {"training/neftune_noise_alpha": 5},
        ),
        ("LLaMA-Factory", LF_SHORT + "flash_attn: true\n", {}, {"model/attn_implementation": "flash_attention_2"}),
        ("LLaMA-Factory", LF_SHORT + "flash_attn: off\n", {}, {"model/attn_implementation": "eager"}),
        (
            "LLaMA-Factory",
            LF_SHORT + "checkpoint_dir: saves/sft\nresume_lora_training: false\n",
            {},
            {"model/adapter": "saves/sft"},
        ),
        ("LLaMA-Factory", LF_SHORT + "use_galore: false\npref_ftx: 0\nmix_strategy: concat\n", {}, {}),
        ("LLaMA-Factory", LF_SHORT + "pref_loss: orpo\nref_model: org/other\n", {"objective": "orpo"}, {}),
        ("LLaMA-Factory", LF_SHORT + "ref_model: org/other\n", {"rule": "fixed"}, {"model/reference": "org/other"}),
        ("TRL", TRL_SHORT + "ref_model_name_or_path: org/sft\n", {"rule": "fixed"}, {"model/reference": "org/sft"}),
        ("TRL", TRL_SHORT + "beta: 2.5\ngamma_beta_ratio: 0.55\n", {"rule": "alpha_dpo", "gamma_beta_ratio": 0.55}, {}),
        (
            "TRL",
            TRL_SHORT + "beta: 2.0\nloss_type: simpo\nsimpo_gamma: 1.0\ncpo_alpha: 0.0\n",
            {"rule": "alpha_dpo", "pref_beta": 2.0, "gamma_beta_ratio": 0.5},
            {},
        ),
        ("TRL", TRL_SHORT + "# ORPOTrainer arguments\nbeta: 0.05\n", {"objective": "orpo", "pref_beta": 0.05}, {}),
        ("TRL", TRL_SHORT + "undesirable_weight: 0.5\n", {"objective": "kto"}, {}),
        (
            "TRL",
            TRL_SHORT + "loss_type: [sigmoid, sft]\nloss_weights: [0.8, 0.2]\n",
            {"pref_loss": ["sigmoid", "sft"]},
            {"training/loss_weights": [0.8, 0.2]},
        ),
        (
            "TRL",
            TRL_SHORT + "use_flash_attention_2: true\npreprocessing_num_workers: 3\n",
            {},
            {"training/dataset_num_proc": 3},
        ),
        (
            "TRL",
            TRL_SHORT + "loss_type: robust\nlabel_smoothing: 0.1\n",
            {"pref_loss": "robust"},
            {"training/label_smoothing": 0.1},
        ),
        ("TRL", TRL_SHORT + "chat_template: '{{ messages }}'\n", {}, {"model/chat_template": "study.jinja"}),
    ],
)
def test_files_of_older_versions_and_other_trainers_mean_what_they_meant(
    tmp_path: Path, tool: str, text: str, original: dict[str, Any], elsewhere: dict[str, Any]
) -> None:
    matrix, _, written = _import(tmp_path, tool, text)
    assert matrix["methods"][0].items() >= original.items()
    for place, value in elsewhere.items():
        section, _, key = place.partition("/")
        assert matrix[section][key] == value, written
    if "chat_template" in text:
        assert (tmp_path / "study.jinja").read_text(encoding="utf-8") == "{{ messages }}"


@pytest.mark.parametrize(
    ("tool", "added", "said"),
    [
        ("LLaMA-Factory", "dpo_loss: ipo\ndpo_ftx: 1.0", ":7: dpo_ftx is 1.0: no SFT term"),
        ("LLaMA-Factory", "pref_ftx: 1.0\ndpo_label_smoothing: 0.1", "pref_ftx is 1.0: no SFT term"),
        (
            "LLaMA-Factory",
            "dpo_beta: 0.2\npref_beta: 0.1",
            "dpo_beta is the older name of pref_beta, which is there too",
        ),
        ("LLaMA-Factory", "pissa_init: true", "it changes the weights that are the reference"),
        ("LLaMA-Factory", "ld_alpha: 0.5", "it weighs the policy's tokens alone"),
        ("LLaMA-Factory", "adapter_name_or_path: saves/sft", "or write create_new_adapter: true"),
        ("LLaMA-Factory", "load_best_model_at_end: true", "load_best_model_at_end is True"),
        ("LLaMA-Factory", "my_beta_schedule: 2", "by its name it may decide what is trained"),
        ("LLaMA-Factory", "use_muon: true\nuse_badam: true", "use_badam is True"),
        ("TRL", "rpo_alpha: 1.0", "rpo_alpha is 1.0: TRL averages"),
        ("TRL", "loss_type: [sigmoid, aot]\nloss_weights: [1.0, 0.5]", "several are trained with dpo alone"),
        ("TRL", "loss_type: simpo", "cpo_alpha is not 0"),
        ("TRL", "# Settings of CPOTrainer\ncpo_alpha: 1.0", "by its names the file is for cpo"),
        ("TRL", "output_dir: out/llama-orpo", "say which: --method dpo or --method orpo"),
        ("TRL", "dataset_mixer: {org/a: 2.0}", "a part of 2.0; it must be a number above 0 and at most 1"),
        ("TRL", "pref_beta: 0.1\nfinetuning_type: full\ncutoff_len: 512", "is a key of LLaMA-Factory"),
    ],
)
def test_what_would_be_another_run_is_not_called_original(tmp_path: Path, tool: str, added: str, said: str) -> None:
    _refused(tmp_path, tool, f"{LF_SHORT if tool == 'LLaMA-Factory' else TRL_SHORT}{added}\n", said)


@pytest.mark.parametrize(
    ("tool", "added", "method"),
    [
        ("LLaMA-Factory", "dpo_label_smoothing: 0.1", {"rule": "cdpo", "label_smoothing": 0.1}),
        ("LLaMA-Factory", "dpo_ftx: 0.5", {"rule": "rpo", "nll": 0.5}),
        ("TRL", "label_smoothing: 0.2", {"rule": "cdpo", "label_smoothing": 0.2}),
    ],
)
def test_smoothed_labels_and_sft_terms_are_rules(tmp_path: Path, tool: str, added: str, method: dict[str, Any]) -> None:
    text = (LF_SHORT if tool == "LLaMA-Factory" else TRL_SHORT) + f"{added}\n"
    matrix, _, _ = _import(tmp_path, tool, text)
    assert matrix["methods"][0].items() >= method.items() and matrix["methods"][1]["rule"] == "fixed"


def test_the_stage_is_named_and_the_trainer_can_be(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="stage is missing"):
        _import(tmp_path, "LLaMA-Factory", LF_SHORT.replace("stage: dpo\n", ""))
    named = TRL_SHORT + "output_dir: out/llama-orpo\n"
    for method in ("dpo", "orpo"):
        matrix, _, _ = _import(tmp_path, "TRL", named, method=method, force=True)
        assert matrix["methods"][0].get("objective", "dpo") == method


@pytest.mark.parametrize(
    ("data", "expected", "said"),
    [
        (
            "dataset_mixture: {datasets: [{id: org/a, config: c, split: train_prefs, columns: [chosen], weight: 0.5},"
            " {id: org/b}], test_split_size: 0.1}",
            {
                "train": [{"source": "hub:org/a:c#train_prefs", "share": 0.5}, {"source": "hub:org/b#train"}],
                "heldout_share": 0.1,
            },
            "the same share, other pairs",
        ),
        (
            "dataset_mixture: {datasets: [{id: org/a, weight: 1.0}], test_split_size: 300}",
            {"train": [{"source": "hub:org/a#train"}]},
            "test_split_size: 300: a number of pairs",
        ),
        (
            "dataset_mixer: {org/a: 1.0, org/b: 0.25}\ndataset_splits: [train_prefs, test_prefs]",
            {
                "train": [{"source": "hub:org/a#train_prefs"}, {"source": "hub:org/b#train_prefs", "share": 0.25}],
                "heldout": "hub:org/a#test_prefs",
            },
            "trained DPO with rmsprop",
        ),
    ],
)
def test_recipes_of_alignment_handbook(tmp_path: Path, data: str, expected: dict[str, Any], said: str) -> None:
    text = TRL_SHORT.replace("dataset_name: org/pairs", data)
    matrix, notes, _ = _import(tmp_path, "TRL", text)
    assert matrix["data"] == expected and any(said in note for note in notes)
