"""Proof that the engine really serves the weights it was told to: its log-probs against transformers' own.

Policies that differ only in how beta was set can be closer to each other than one engine is to another, so being near
transformers is not enough: the engine's own answer must also have changed where the checkpoint changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evals.engine.base import Engine, EngineError
from evals.engine.chat import chat_ids
from trainers.common import refuse

PROBE = "Name one reason why the sky looks blue."
PROBE_ANSWER = " Sunlight is scattered by the air, and blue light is scattered the most."
#: Largest difference of the mean log-prob per token that counts as float noise, by the engine's dtype.
TOLERANCE = {"float32": 2e-3, "bfloat16": 0.1, "float16": 0.05}
#: Where two checkpoints differ by more than this on some token, the engine's answers must differ too; by its dtype.
RESOLUTION = {"float32": 1e-5, "bfloat16": 0.1, "float16": 0.02}


@dataclass(frozen=True)
class SwapCheck:
    """What was compared after a swap; log-probs are means per token of the probe, in nats.

    Attributes:
        previous: transformers' value for the policy served before; None where that is not known.
        largest_difference: over the tokens, between the engine and transformers.
        policy_difference: over the tokens, between this checkpoint and the one before, both by transformers.
        engine_difference: over the tokens, in the engine, before and after the swap; of several replicas the smallest.
        distinguishable: whether the two checkpoints are far enough apart for an unchanged engine to be noticed.
        engine_tokens: the log-prob of each token of the probe, in each replica of the engine.
        expected_tokens: the same by transformers.
    """

    engine: float
    expected: float
    previous: float | None
    tolerance: float
    largest_difference: float
    policy_difference: float | None
    engine_difference: float | None
    distinguishable: bool
    engine_tokens: list[list[float]]
    expected_tokens: list[float]


def _ids(engine: Engine) -> tuple[list[int], list[int]]:
    answer = list(engine.tokenizer(PROBE_ANSWER, add_special_tokens=False)["input_ids"])
    return chat_ids(engine.tokenizer, PROBE), answer


def engine_logprobs(engine: Engine) -> list[list[float]]:
    """Log-prob of each of the probe's tokens under the weights the engine serves now, in every replica of the engine."""
    return engine.token_logprobs([_ids(engine)] * engine.replicas)


def _expected(model_dir: Path, context: list[int], answer: list[int], trust_remote_code: bool) -> list[float]:
    """Log-prob of each of the probe's tokens under the checkpoint in `model_dir`, in float32 by transformers."""
    from evals.engine.transformers_engine import load, score

    [(found, _)] = score(load(model_dir, "float32", trust_remote_code), [(context, answer)])
    return [float(value) for value in found]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _largest(first: Sequence[float], second: Sequence[float]) -> float:
    return max(abs(a - b) for a, b in zip(first, second, strict=True))


def check_swap(engine: Engine, model_dir: Path, dtype: str, previous: SwapCheck | None = None) -> SwapCheck:
    """Compare the probe's log-probs in the engine with transformers' on the same checkpoint.

    Args:
        dtype: the engine's, which sets the tolerance.
        previous: what this function returned for the weights served just before, if that is known. Where transformers
            gives the two checkpoints different log-probs, the engine must do so too.

    Raises:
        EngineError: the engine does not serve these weights.
    """
    replicas, theirs = engine_logprobs(engine), _expected(model_dir, *_ids(engine), engine.trust_remote_code)
    expected, tolerance = _mean(theirs), TOLERANCE.get(dtype, 0.1)
    refuse(
        EngineError,
        *(
            (
                not abs(mean - expected) <= tolerance,  # written so that NaN fails
                f"after the swap to {model_dir} the probe's log-prob per token is {mean:.4f} in the engine and "
                f"{expected:.4f} in transformers (tolerance {tolerance}): the engine does not serve these weights",
            )
            for mean in map(_mean, replicas)
        ),
    )
    policies = engines = None
    distinguishable = False
    if previous is not None:
        policies = _largest(theirs, previous.expected_tokens)
        engines = min(_largest(a, b) for a, b in zip(replicas, previous.engine_tokens, strict=True))
        distinguishable = policies > RESOLUTION.get(dtype, 0.1)
        if distinguishable and engines < 0.1 * policies:
            raise EngineError(
                f"after the swap to {model_dir} the engine still answers like the policy before it: the probe's log-probs "
                f"changed by {engines:.2g}, those of the checkpoint by {policies:.2g}"
            )
    return SwapCheck(
        engine=_mean([_mean(ours) for ours in replicas]),
        expected=expected,
        previous=previous.expected if previous is not None else None,
        tolerance=tolerance,
        largest_difference=max(_largest(ours, theirs) for ours in replicas),
        policy_difference=policies,
        engine_difference=engines,
        distinguishable=distinguishable,
        engine_tokens=replicas,
        expected_tokens=theirs,
    )
