"""What the report says of the engine that made every policy's answers."""

from __future__ import annotations

from reports.runs.records import REFERENCE_ID, MatrixData, ReportError, read_json
from reports.schema.runs import EngineUse, GreedyAgreement, MeasuredBy
from trainers.common.scores_schema import parity_path

_ABSENT = "not compared: the engine is transformers itself, or evaluation.engine.parity_prompts is 0"


def engine_summary(matrix: MatrixData) -> EngineUse:
    """On how many prompts the engine's greedy answers were those of transformers, and what measured each policy.

    Raises:
        ReportError: the file is damaged.
    """
    return EngineUse(greedy_agreement=_agreement(matrix), measured_by=_measured_by(matrix))


def _measured_by(matrix: MatrixData) -> MeasuredBy:
    engines: dict[str, set[str]] = {}
    for policy in matrix.policies:
        for scores in policy.scores.values():
            if scores.engine is not None:
                engines.setdefault(scores.engine, set()).add(policy.run_id)
    found = {name: sorted(policies) for name, policies in sorted(engines.items())}
    if len(found) < 2:
        return MeasuredBy(engines=found, sentence=None)
    each = "; ".join(f"{name} {len(policies)} of them" for name, policies in found.items())
    sentence = (
        f"Policies were measured by {len(found)} different engines ({each}): differences between them are in part "
        "differences of software and precision. Delete the score files of one of them, and run the matrix on one machine again."
    )
    return MeasuredBy(engines=found, sentence=sentence)


def _agreement(matrix: MatrixData) -> GreedyAgreement:
    path = parity_path(matrix.output_dir / REFERENCE_ID)
    found = read_json(path) if path.exists() else {"agree": None, "reason": _ABSENT}
    if not isinstance(found, dict) or "agree" not in found:
        raise ReportError(f"{path}: not a comparison of two engines; delete it and rerun")
    stated = {key: found.get(key) for key in GreedyAgreement.model_fields if key != "sentence"}
    agreement = GreedyAgreement(**stated | {"differences": found.get("differences") or []}, sentence="")
    return agreement.model_copy(update={"sentence": _sentence(agreement)})


def _sentence(found: GreedyAgreement) -> str:
    if found.agree is None:
        return f"Greedy answers were not compared with transformers ({found.reason})."
    text = (
        f"Greedy answers of {found.engine} equal those of {found.against} on {found.agree} of "
        f"{found.total} prompts (first {found.max_new_tokens} tokens, reference weights)."
    )
    gaps = [abs(one.gap) for one in found.differences if one.gap is not None]
    if found.differences:
        text += f" The earliest difference is at token {min(one.position for one in found.differences) + 1}"
        text += f"; the tokens there were at most {max(gaps):.3f} nats apart." if gaps else "."
    return text
