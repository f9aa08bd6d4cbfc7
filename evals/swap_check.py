"""Proof that the engine really serves the weights it was told to: its log-probs against transformers' own."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evals.engine import Engine, EngineError, chat_ids

PROBE = "Name one reason why the sky looks blue."
PROBE_ANSWER = " Sunlight is scattered by the air, and blue light is scattered the most."
#: Largest difference of a log-prob per token that counts as float noise, by the engine's dtype.
TOLERANCE = {"float32": 2e-3, "bfloat16": 0.1, "float16": 0.05}


@dataclass(frozen=True)
class SwapCheck:
    """Mean log-prob per token of the probe: the engine's, transformers' for this policy, and for the one before it."""

    engine: float
    expected: float
    previous: float | None
    tolerance: float
    distinguishable: bool


def expected_logprob(model_dir: Path, context: list[int], continuation: list[int]) -> float:
    """Mean log-prob per token of the probe under the checkpoint in `model_dir`, in float32 by transformers."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    with torch.inference_mode():
        logits = model(torch.tensor([[*context, *continuation]])).logits[0, len(context) - 1 : -1].log_softmax(-1)
    return float(logits.gather(-1, torch.tensor(continuation)[:, None]).mean())


def check_swap(engine: Engine, model_dir: Path, dtype: str, previous: float | None) -> dict[str, Any]:
    """Compare the probe's log-prob in the engine with transformers' on the same checkpoint.

    Args:
        previous: what transformers gave for the policy served before, if any. Where two policies differ by more than
            the tolerance, the engine must be close to this one and not to that one.

    Raises:
        EngineError: the engine does not serve these weights.
    """
    context = chat_ids(engine.tokenizer, PROBE)
    continuation = list(engine.tokenizer(PROBE_ANSWER, add_special_tokens=False)["input_ids"])
    expected = expected_logprob(model_dir, context, continuation)
    found = engine.loglikelihood([(context, continuation)])[0][0] / len(continuation)
    tolerance = TOLERANCE.get(dtype, 0.1)
    distinguishable = previous is None or abs(previous - expected) > 2 * tolerance
    if abs(found - expected) > tolerance:
        raise EngineError(
            f"after the swap to {model_dir} the probe's log-prob per token is {found:.4f} in the engine and "
            f"{expected:.4f} in transformers (tolerance {tolerance}): the engine does not serve these weights"
        )
    closer = previous is None or abs(found - expected) <= abs(found - previous) or not distinguishable
    if not closer:
        raise EngineError(f"after the swap to {model_dir} the engine still answers like the policy before it")
    return asdict(SwapCheck(found, expected, previous, tolerance, distinguishable))
