"""What a matrix starts from (adapter, chat template, quantised weights) and what it leaves: model cards, uploads."""

import base64
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import yaml
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness import load_results
from harness.prepare import freeze
from harness.stages.publish import check_push, push_policies, write_card
from harness.state.store import RunStore
from tests.harness.conftest import write_jsonl
from trainers.common.errors import UserError
from trainers.run.start import quantized
from trainers.tiny import build_tiny_model

TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def _uses(world: Any, model: Path, more: str = "") -> None:
    """The matrix is of `model`; vLLM does not serve heads as small as those of the tests' model."""
    world.replace(str(world.model), f"{model}{more}")
    world.replace("evaluation:\n", "evaluation:\n  engine: {backend: transformers}\n")


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter of the tiny model that changes its answers."""
    torch.manual_seed(0)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), LoraConfig(r=2, target_modules=["q_proj"]))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    path = tmp_path_factory.mktemp("adapter") / "sft"
    model.save_pretrained(path)
    return path


def test_an_adapter_is_merged_into_policy_and_reference(world: Any, tiny_model: Path, adapter: Path) -> None:
    _uses(world, tiny_model)
    plain = world.plan()
    world.replace(str(tiny_model), f"{tiny_model}\n  adapter: {os.path.relpath(adapter, world.root)}")
    plan = world.plan()
    assert any("merging the adapter" in line for line in world.said)
    assert plan.train_job(plan.specs[0])["train_job"]["model_path"] == str(plan.reference.path) == str(plan.model.path)
    assert {spec.run_id for spec in plan.specs}.isdisjoint(spec.run_id for spec in plain.specs)
    tokens = torch.arange(3, 40)[None]
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    with torch.no_grad():
        untouched = base(tokens).logits
        wanted = PeftModel.from_pretrained(base, adapter)(tokens).logits
        found = AutoModelForCausalLM.from_pretrained(plan.model.path)(tokens).logits
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found, untouched, atol=1e-2)
    again = world.plan()
    assert again.model.path == plan.model.path and not any("merging" in line for line in world.said), "merged once"


def test_a_reference_other_than_the_start(world: Any, tiny_model: Path, tmp_path: Path) -> None:
    _uses(world, tiny_model)
    plain = world.plan()
    other = build_tiny_model(tmp_path / "other", seed=7)
    world.replace(str(tiny_model), f"{tiny_model}\n  reference: {other}")
    plan = world.plan()
    assert plan.reference.path == other != plan.model.path
    job = plan.train_job(plan.specs[0])["train_job"]
    assert (job["model_path"], job["reference_path"]) == (str(tiny_model), str(other))
    assert job["reference_hash"] == plan.reference.fingerprint != plan.model_hash
    assert {spec.run_id for spec in plan.specs}.isdisjoint(spec.run_id for spec in plain.specs)
    file = other / "tokenizer.json"
    file.write_text(file.read_text().replace('"content": "<|pad|>"', '"content": "<|fill|>"'), encoding="utf-8")
    assert "policy and reference must share a vocabulary" in world.error()


def test_a_chat_template_of_ones_own(world: Any, tiny_model: Path) -> None:
    (world.root / "plain.jinja").write_text(TEMPLATE, encoding="utf-8")
    _uses(world, tiny_model, "\n  chat_template: plain.jinja")
    plan = world.plan()
    tokenizer = AutoTokenizer.from_pretrained(plan.model.path)
    messages = [{"role": "user", "content": "Hi"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == "user: Hi\nassistant: "
    assert not any("no chat template" in line for line in world.said)
    assert (plan.model.path / "model.safetensors").samefile(tiny_model / "model.safetensors"), "no copy of the weights"
    assert AutoTokenizer.from_pretrained(tiny_model).chat_template != TEMPLATE, "the model itself is left alone"


def test_a_model_without_a_template_is_refused(world: Any) -> None:
    (world.model / "tokenizer_config.json").unlink()
    world.refuses("which has no chat template", "give model.chat_template", ":3: ")


CLOCK = (
    "{{ strftime_now('%d %b %Y') }} "
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>{% endfor %}"
)


def test_the_date_of_a_template_is_that_of_the_matrix(world: Any, tiny_model: Path) -> None:
    (world.root / "clock.jinja").write_text(CLOCK, encoding="utf-8")
    _uses(world, tiny_model, "\n  chat_template: clock.jinja")
    plan = world.plan()
    assert any("writes the date: " in line and "model.template_date" in line for line in world.said)
    freeze(plan)
    matrix = world.output / "matrix.json"
    kept = json.loads(matrix.read_text(encoding="utf-8"))
    assert kept["template_date"] == plan.model.template_date
    # another day: what is there goes on under its own date, another output gets that of the matrix file
    matrix.write_text(json.dumps({**kept, "template_date": "2024-07-26"}), encoding="utf-8")
    again = world.plan()
    assert "26 Jul 2024" in (again.model.path / "chat_template.jinja").read_text(encoding="utf-8")
    assert again.model_hash != plan.model_hash and again.model.template_date == "2024-07-26"
    world.replace("chat_template: clock.jinja", "chat_template: clock.jinja\n  template_date: 2024-07-26")
    world.output = world.root / "elsewhere"
    assert world.plan().specs == again.specs
    (world.root / "clock.jinja").write_text(CLOCK.replace("'%d %b %Y'", "messages[0]['content']"), encoding="utf-8")
    assert "asks for the time in a way that cannot be frozen" in world.error()


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ("adapter: ./nowhere", "model.adapter is './nowhere'; no such directory"),
        ("reference: ./nowhere", "model.reference is './nowhere'; no such directory"),
        ("chat_template: none.jinja", "model.chat_template is 'none.jinja'; no text file"),
        ("chat_template: broken.jinja", "model.chat_template is 'broken.jinja'; the chat template cannot be used"),
        ("adapter: empty", "has no adapter_config.json; give an adapter as PEFT saves it"),
        (
            "quantization: {load_in_4bit: true}",
            "model.quantization is set, but quantised weights cannot be trained; add lora",
        ),
        ("quantization: {load_in_4bits: true}", "unknown key model.quantization.load_in_4bits"),
    ],
)
def test_mistakes(world: Any, tiny_model: Path, added: str, said: str) -> None:
    (world.root / "empty").mkdir()
    (world.root / "broken.jinja").write_text("{% for %}", encoding="utf-8")
    line = world.replace(str(world.model), f"{tiny_model}\n  {added}") + 1
    world.refuses(said, f":{line}: ")


def test_an_adapter_of_another_model(world: Any, adapter: Path, tmp_path: Path) -> None:
    wider = build_tiny_model(tmp_path / "wider", hidden_size=64)
    world.replace(str(world.model), f"{wider}\n  adapter: {adapter}")
    assert "the adapter does not fit the model" in world.error()


def test_quantised_weights_need_bitsandbytes(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world.replace("training:", "lora: {r: 8, target_modules: all-linear}\ntraining:")
    before = world.plan()
    world.replace("data:\n", "  quantization: {load_in_4bit: true}\ndata:\n")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'dpo-beta-harness[quantization]'" in world.error()
    monkeypatch.undo()
    monkeypatch.setattr("harness.plan.model.check_quantization", lambda *given: None)
    plan = world.plan()
    job = plan.train_job(plan.specs[0])["train_job"]
    assert job["quantization"]["load_in_4bit"] is True and job["quantization"]["bnb_4bit_quant_type"] == "nf4"
    assert {spec.fingerprint for spec in plan.specs}.isdisjoint(spec.fingerprint for spec in before.specs)


def test_where_quantised_weights_are_put(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert quantized({"load_in_8bit": True})["device_map"] == {"": "cpu"}
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    found = quantized({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "bfloat16"})
    assert found["quantization_config"].load_in_4bit and found["device_map"] == {"": 3}


def test_attention_is_known_and_can_be_had(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    line = world.replace("data:\n", "  attn_implementation: flash_attention2\ndata:\n")
    world.refuses(
        f"m.yaml:{line}: model.attn_implementation is 'flash_attention2'", "did you mean 'flash_attention_2'?"
    )
    world.replace("flash_attention2", "flash_attention_2")
    monkeypatch.setattr("harness.state.machine.gpus", list)
    world.plan()
    assert any("needs a CUDA GPU; this machine has none: set it to sdpa" in line for line in world.said)
    monkeypatch.setattr("harness.state.machine.gpus", lambda: ["a GPU"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *more: None)
    assert "neither is installed; pip install kernels" in world.error()
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *more: object() if name == "kernels" else None)
    assert world.plan().train_job(world.plan().specs[0])["train_job"]["attn_implementation"] == "flash_attention_2"
    world.replace("flash_attention_2", "kernels-community/flash-attn3")
    assert world.plan().config.model.attn_implementation == "kernels-community/flash-attn3"


def _finished(world: Any) -> Any:
    """A plan whose first run looks trained, evaluated and done."""
    plan, (store, *_) = world.begun()
    (store.directory / "policy").mkdir()
    (store.directory / "policy" / "config.json").write_text("{}", encoding="utf-8")
    store.mark_stage("train", plan.specs[0].fingerprint, ["policy/config.json"], 1.0, last=True)
    return plan


def test_the_card_tells_the_runs_provenance(world: Any) -> None:
    plan = _finished(world)
    spec, run_dir = plan.specs[0], plan.run_dir(plan.specs[0])
    path = write_card(run_dir, "small")
    assert path == run_dir / "policy" / "README.md"
    text = path.read_text(encoding="utf-8")
    told = (
        spec.run_id,
        spec.fingerprint,
        plan.data_hash,
        plan.model_hash,
        "pref_beta 0.1",
        "learning_rate 5e-06",
        "trl ",
    )
    assert all(part in text for part in told)
    assert "## Measured" not in text and text.startswith("---\nlibrary_name: transformers\n")
    assert write_card(run_dir, "small") is None, "nothing changed, nothing written"
    scores = {
        "benchmark": "a<b>",
        "metrics": {"x|y": {"value": 0.5, "stderr": None, "n": 4}, "z": {"value": None, "n": 0}},
    }
    (run_dir / "scores").mkdir()
    (run_dir / "scores" / "a.json").write_text(json.dumps(scores), encoding="utf-8")
    assert write_card(run_dir, "small") == path
    text = path.read_text(encoding="utf-8")
    assert "| a&lt;b&gt; | x\\|y | 0.5 |  | 4 |" in text and "| z | undefined |" in text
    assert RunStore(run_dir).is_done("train", spec.fingerprint), "the card is no part of what is checked"
    assert write_card(plan.run_dir(plan.specs[1]), "small") is None, "no policy, no card"


def test_uploads_are_refused_before_training(world: Any, cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(words: str, run_id: str = "a") -> None:
        with pytest.raises(UserError, match=words):
            check_push(plan.config, plan.source, [run_id])

    plan = world.plan()
    refused("names no place; add push_to_hub")
    world.replace("seeds: [0, 1]", "seeds: [0, 1]\npush_to_hub: {prefix: someone/study}")
    plan = world.plan()
    refused("longer than 96", "a" * 96)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refused("HF_HUB_OFFLINE is set")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    refused("set HF_TOKEN")
    world.replace("someone/study", "study")
    assert "push_to_hub.prefix is 'study'" in world.error()


class _Hub(BaseHTTPRequestHandler):
    """As much of the hub's interface as an upload of small files needs."""

    requests: ClassVar[list[tuple[str, Any]]] = []

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self._answer({"type": "user", "name": "someone", "sha": "0" * 40, "siblings": []})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        lines = [json.loads(line) for line in raw.splitlines()]
        _Hub.requests.append((self.path, lines))
        if self.path.endswith("/repos/create"):
            self._answer({"url": f"http://{self.headers['Host']}/someone/{lines[0]['name']}"})
        elif "/preupload/" in self.path:
            kept = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in lines[0]["files"]]
            self._answer({"files": kept})
        else:
            url = f"http://{self.headers['Host']}/someone/x/commit/1"
            self._answer({"commitUrl": url, "commitOid": "1" * 40, "success": True})


def test_an_upload_sends_the_policy_and_its_card(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world.replace("seeds: [0, 1]", "seeds: [0, 1]\npush_to_hub: {prefix: someone/study}")
    plan = _finished(world)
    scores = plan.run_dir(plan.specs[0]) / "scores"
    scores.mkdir(exist_ok=True)
    measured = {"metrics": {"exact_match": {"value": 0.25, "stderr": 0.1, "n": 20}}, "primary_metric": "exact_match"}
    task = {"task": "gsm8k", "dataset": {"id": "openai/gsm8k"}, "num_fewshot": 5, "versions": {"lm_eval": "0.4.13"}}
    (scores / "gsm8k.json").write_text(json.dumps({"benchmark": "gsm8k", **measured, **task}))
    (scores / "own.json").write_text(json.dumps({"benchmark": "own", **measured}))
    card = write_card(plan.run_dir(plan.specs[0]), "small")
    assert card is not None
    index = yaml.safe_load(card.read_text().split("---")[1])["model-index"][0]["results"]
    assert [(one["dataset"]["type"], one["metrics"][0]["value"]) for one in index] == [
        ("openai/gsm8k", 0.25),
        ("own", 0.25),
    ]
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    said: list[str] = []
    try:
        push_policies(plan, plan.specs[:2], said.append)
    finally:
        server.shutdown()
        server.server_close()
    name = f"study-{plan.specs[0].run_id}"
    created = next(lines[0] for path, lines in _Hub.requests if path.endswith("/repos/create"))
    assert created["name"].endswith(name) and (created.get("private") is True or created.get("visibility") == "private")
    commits = [lines for path, lines in _Hub.requests if f"{name}/commit/" in path]
    files = [{line["value"]["path"]: line["value"] for line in lines if line["key"] == "file"} for lines in commits]
    assert [set(one) for one in files] == [{"README.md", "config.json"}, {".eval_results/gsm8k.yaml"}]
    (result,) = yaml.safe_load(base64.b64decode(files[1][".eval_results/gsm8k.yaml"]["content"]))
    assert result["dataset"] == {"id": "openai/gsm8k", "task_id": "gsm8k"} and result["value"] == 0.25
    assert result["notes"] == "exact_match, 5-shot, 20 documents, lm-eval 0.4.13"
    assert any(line.startswith("not uploaded (not finished)") for line in said)


@pytest.mark.slow
def test_margins_and_kl_are_against_the_reference(tiny_model: Path, tmp_path: Path, cli: Any) -> None:
    """The policy does not move (learning rate 0), so all of its distance is that of the start from the reference."""
    rows = [{"id": f"p{i}", "prompt": f"say {i}", "chosen": "yes " * (1 + i), "rejected": "no"} for i in range(4)]
    write_jsonl(tmp_path / "pairs.jsonl", rows)
    found = {}
    for name, reference in (("start", None), ("other", str(build_tiny_model(tmp_path / "model", seed=7)))):
        matrix = {
            "name": name,
            "model": {"name_or_path": str(tiny_model), "reference": reference},
            "data": {"train": "pairs.jsonl"},
            "training": {
                **{"per_device_train_batch_size": 2, "max_steps": 2, "learning_rate": 0.0, "max_length": 64},
                **{"bf16": False, "gradient_checkpointing": False},
            },
            "methods": [{"name": "fixed"}],
            "seeds": [0],
            "evaluation": {
                "engine": {"backend": "transformers", "dtype": "float32", "max_model_len": 128},
                "benchmarks": [
                    {"name": "kl", "kind": "kl", "prompts": "pairs.jsonl", "max_new_tokens": 6, "samples": 1}
                ],
            },
        }
        (tmp_path / f"{name}.yaml").write_text(json.dumps(matrix), encoding="utf-8")
        done = cli("run-matrix", tmp_path / f"{name}.yaml", "--output", tmp_path / name)
        assert done.returncode == 0, done.stderr
        read = load_results(tmp_path / name)
        kl = read.scores[(read.scores.metric == "kl_k3") & read.scores.run_id.str.startswith("fixed")]
        found[name] = (kl.value.iloc[0], read.examples.delta.abs().max())
    assert found["start"] == pytest.approx((0, 0), abs=1e-3)
    assert min(found["other"]) > 0.05
