"""A training step of this project against stock TRL on the same pairs, full fine-tuning of the embedded model."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import Measurement

NAMES = (
    "trainer.step_vs_trl.short_prompts",
    "trainer.step_vs_trl.long_prompts",
    "trainer.rule_overhead",
)
_WORDS = [
    "time",
    "year",
    "people",
    "way",
    "day",
    "man",
    "thing",
    "woman",
    "life",
    "child",
    "world",
    "school",
    "state",
    "family",
    "student",
    "group",
    "country",
]


def _text(tokens: int, offset: int) -> str:
    return " ".join(_WORDS[(offset + i) % len(_WORDS)] for i in range(tokens))


def _pairs(prompt: int, answer: int, n: int = 4) -> list[Any]:
    from trainers.formats.pairs import PreferencePair

    return [
        PreferencePair(
            id=f"p{i}",
            prompt=[{"role": "user", "content": _text(prompt - 30, i)}],  # the chat template adds about 30
            chosen=[{"role": "assistant", "content": _text(answer, i + 3)}],
            rejected=[{"role": "assistant", "content": _text(answer, i + 7)}],
            group=f"p{i}",
        )
        for i in range(n)
    ]


class _Stepper:
    """One trainer, stepped by hand: forward, backward, optimiser."""

    def __init__(self, trainer: Any) -> None:
        trainer.create_optimizer()
        self.trainer = trainer
        self.batch = next(iter(trainer.get_train_dataloader()))
        trainer.model.train()
        self.losses: list[float] = []

    def step(self) -> float:
        started = time.perf_counter()
        batch = self.trainer._prepare_inputs(dict(self.batch))
        loss = self.trainer.compute_loss(self.trainer.model, batch)
        loss.backward()
        self.trainer.optimizer.step()
        self.trainer.optimizer.zero_grad()
        self.trainer.rule.zero_grad() if hasattr(self.trainer, "rule") else None
        self.losses.append(float(loss.detach()))
        return time.perf_counter() - started


def _arguments(out: str, precompute: bool) -> Any:
    from trl import DPOConfig

    return DPOConfig(
        output_dir=out,
        per_device_train_batch_size=4,
        learning_rate=1e-6,
        max_length=1024,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        precompute_ref_log_probs=precompute,
        dataloader_pin_memory=False,
        seed=0,
        data_seed=0,
    )


def _model() -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from trainers.models.embedded import prepare_model

    path = prepare_model("smollm2-135m-instruct")
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32), AutoTokenizer.from_pretrained(path)


def _ours(pairs: list[Any], rule_name: str, out: Path) -> _Stepper:
    from trainers.rules import catalogue
    from trainers.run.train import to_dataset
    from trainers.trainer.dpo import DynamicBetaDPOTrainer
    from trainers.trainer.recording import ExampleRecorder
    from trainers.trainer.reference_store import ReferenceIdentity, ReferenceStore

    model, tokenizer = _model()
    rule = catalogue.build(rule_name, {"pref_beta": 0.1}, model.config.hidden_size)
    identity = ReferenceIdentity("w", "float32", "sdpa", None, "pair_rows", "all", "-", "-", "-")
    trainer = DynamicBetaDPOTrainer(
        model=model,
        args=_arguments(str(out), True),
        processing_class=tokenizer,
        train_dataset=to_dataset(pairs),
        rule=rule,
        recorder=ExampleRecorder(out, "bench", [pair.id for pair in pairs]),
        store=ReferenceStore(out / "reference", identity),
    )
    trainer.initialise_rule()
    return _Stepper(trainer)


def _stock(pairs: list[Any], out: Path, cached: bool = False) -> _Stepper:
    from trl import DPOTrainer

    from trainers.run.train import to_dataset

    model, tokenizer = _model()
    reference = None if cached else _model()[0]
    return _Stepper(
        DPOTrainer(
            model=model,
            ref_model=reference,
            args=_arguments(str(out), cached),
            processing_class=tokenizer,
            train_dataset=to_dataset(pairs).remove_columns("example_index"),
        )
    )


def _interleaved(ours: _Stepper, theirs: _Stepper, runs: int) -> tuple[list[float], str]:
    ours.step(), theirs.step()  # warm-up
    pairs = [(ours.step(), theirs.step()) for _ in range(runs)]
    a, b = (statistics.median(column) for column in zip(*pairs, strict=True))
    gap = max(abs(x - y) for x, y in zip(ours.losses, theirs.losses, strict=True))
    return [x / y for x, y in pairs], f"ours {a:.2f} s, theirs {b:.2f} s a step; losses differ by at most {gap:.1e}"


def run(name: str) -> Measurement:
    """Interleaved steps on four pairs: about 40 + 80 tokens (short) or 300 + 60 (long)."""
    long = name.endswith("long_prompts")
    pairs = _pairs(300, 60) if long else _pairs(40, 80)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if name == "trainer.rule_overhead":
            values, detail = _interleaved(_ours(pairs, "foodpo", root / "a"), _ours(pairs, "fixed", root / "b"), 5)
            return Measurement(values, "ratio", "the fixed rule", detail)
        values, detail = _interleaved(_ours(pairs, "fixed", root / "a"), _stock(pairs, root / "b"), 3)
        return Measurement(values, "ratio", "trl.DPOTrainer, reference in the loop", detail)
