"""What the report says of the engine that made every policy's answers."""

from __future__ import annotations

from typing import Any

from .records import MatrixData, ReportError, read_json

_KEYS = ("against", "engine", "agree", "total", "share", "max_new_tokens", "differences", "reason")


def engine_summary(matrix: MatrixData) -> dict[str, Any]:
    """`greedy_agreement`: on how many prompts vLLM's greedy answers were those of transformers, with the reference's weights.

    `differences` names for each other answer the prompt, the position of the first token that differs, and the `gap` in nats by
    which transformers preferred its own token there: near zero it is a tie that rounding decides.

    Raises:
        ReportError: the file is damaged.
    """
    path = matrix.output_dir / "reference" / "parity.json"
    if not path.exists():
        absent = "not compared: the engine is transformers itself, or evaluation.engine.parity_prompts is 0"
        found: Any = {"differences": [], "reason": absent}
        return {"greedy_agreement": _agreement(found)}
    found = read_json(path)
    if not isinstance(found, dict) or "agree" not in found:
        raise ReportError(f"{path}: not a comparison of two engines; delete it and rerun")
    return {"greedy_agreement": _agreement(found)}


def _agreement(found: dict[str, Any]) -> dict[str, Any]:
    agreement = {key: found.get(key) for key in _KEYS}
    return {**agreement, "sentence": _sentence(agreement)}


def _sentence(agreement: dict[str, Any]) -> str:
    if agreement["agree"] is None:
        return f"Greedy answers were not compared with transformers ({agreement['reason']})."
    text = (
        f"Greedy answers of {agreement['engine']} equal those of {agreement['against']} on {agreement['agree']} of "
        f"{agreement['total']} prompts (first {agreement['max_new_tokens']} tokens, reference weights)."
    )
    gaps = [abs(one["gap"]) for one in agreement["differences"] if one["gap"] is not None]
    if agreement["differences"]:
        first = min(one["position"] for one in agreement["differences"])
        text += f" The earliest difference is at token {first + 1}"
        text += f"; the tokens there were at most {max(gaps):.3f} nats apart." if gaps else "."
    return text
