"""What the report says of the engine that made every policy's answers."""

from __future__ import annotations

from typing import Any

from reports.runs.records import MatrixData, ReportError, read_json

_KEYS = ("against", "engine", "agree", "total", "share", "max_new_tokens", "differences", "reason")


def engine_summary(matrix: MatrixData) -> dict[str, Any]:
    """`greedy_agreement`: on how many prompts vLLM's greedy answers were those of transformers, with the reference's weights.

    `differences` names for each other answer the prompt, the position of the first token that differs, and the `gap` in nats by
    which transformers preferred its own token there: near zero it is a tie that rounding decides. `measured_by` has the policies
    of every engine, and a `sentence` where these are several.

    Raises:
        ReportError: the file is damaged.
    """
    return {"greedy_agreement": _agreement(_parity(matrix)), "measured_by": _measured_by(matrix)}


def _parity(matrix: MatrixData) -> dict[str, Any]:
    path = matrix.output_dir / "reference" / "parity.json"
    if not path.exists():
        absent = "not compared: the engine is transformers itself, or evaluation.engine.parity_prompts is 0"
        return {"differences": [], "reason": absent}
    found = read_json(path)
    if not isinstance(found, dict) or "agree" not in found:
        raise ReportError(f"{path}: not a comparison of two engines; delete it and rerun")
    return found


def _measured_by(matrix: MatrixData) -> dict[str, Any]:
    engines: dict[str, set[str]] = {}
    for policy in [*([matrix.reference] if matrix.reference else []), *matrix.runs]:
        for scores in policy.scores.values():
            if scores.engine is not None:
                engines.setdefault(scores.engine, set()).add(policy.run_id)
    found = {name: sorted(policies) for name, policies in sorted(engines.items())}
    if len(found) < 2:
        return {"engines": found, "sentence": None}
    each = "; ".join(f"{name} {len(policies)} of them" for name, policies in found.items())
    sentence = (
        f"Policies were measured by {len(found)} different engines ({each}): differences between them are in part "
        "differences of software and precision. Delete the score files of one of them, and run the matrix on one machine again."
    )
    return {"engines": found, "sentence": sentence}


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
