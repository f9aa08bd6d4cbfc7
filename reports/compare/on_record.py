"""What is on record beside the scores: engines, prompts that were trained on, and policies evaluated twice."""

from collections.abc import Mapping, Sequence

from reports.runs import REFERENCE_ID, MatrixData, ReportError, finite, grouped, read_json
from reports.schema import (
    BelowNoise,
    Contamination,
    EngineUse,
    GreedyAgreement,
    MeasuredBy,
    Metric,
    NoiseFloor,
    NoiseRow,
    SharedPrompts,
)
from trainers.common.scores_schema import parity_path

# What the report says of the engine that made every policy's answers.


_ABSENT = "not compared: the engine is transformers itself, or evaluation.engine.parity_prompts is 0"


def engine_summary(matrix: MatrixData) -> EngineUse:
    """On how many prompts the engine's greedy answers were those of transformers, and what measured each policy.

    Raises:
        ReportError: the file is damaged.
    """
    used = {(scores.engine, policy.run_id) for policy in matrix.policies for scores in policy.scores.values()}
    engines = grouped(sorted((name, run_id) for name, run_id in used if name is not None))
    each = "; ".join(f"{name} {len(policies)} of them" for name, policies in engines.items())
    sentence = (
        f"Policies were measured by {len(engines)} different engines ({each}): differences between them are in part "
        "differences of software and precision. Delete the score files of one of them, and run the matrix on one machine again."
    )
    measured = MeasuredBy(engines=engines, sentence=sentence if len(engines) > 1 else None)
    return EngineUse(greedy_agreement=_agreement(matrix), measured_by=measured)


def _agreement(matrix: MatrixData) -> GreedyAgreement:
    path = parity_path(matrix.output_dir / REFERENCE_ID)
    found = read_json(path) if path.exists() else {"agree": None, "reason": _ABSENT}
    if not isinstance(found, dict) or "agree" not in found:
        raise ReportError(f"{path}: not a comparison of two engines; delete it and rerun")
    stated = {key: found.get(key) for key in GreedyAgreement.model_fields} | {"sentence": ""}
    agreement = GreedyAgreement(**stated | {"differences": found.get("differences") or []})
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


# What is on record about benchmark prompts that were trained on.


_SHARED = ("n_training", "n_benchmark", "exact", "near", "examples")


def contamination_summary(matrix: MatrixData) -> Contamination:
    """For each benchmark how many of its prompts are training prompts, exactly or nearly, and the most alike pairs.

    Near means a Jaccard similarity of word trigrams of at least `threshold`.

    Raises:
        ReportError: the file is damaged.
    """
    path = matrix.output_dir / "contamination.json"
    if not path.exists():
        return Contamination(benchmarks=None, reason="training and benchmark prompts were not compared")
    found = read_json(path)
    if not isinstance(found, dict) or not isinstance(found.get("benchmarks"), dict):
        raise ReportError(f"{path}: not a comparison of prompts; delete it and rerun")
    kept = {
        name: SharedPrompts(
            **{key: one.get(key) for key in _SHARED}, threshold=(one.get("settings") or {}).get("threshold")
        )
        for name, one in sorted(found["benchmarks"].items())
    }
    return Contamination(benchmarks=kept, reason=None if kept else "no benchmark")


def contamination_sentence(found: Contamination) -> str:
    """One sentence for the checklist."""
    if not found.benchmarks:
        return str(found.reason)
    parts = [
        f"{name} {one.exact} exact and {one.near} near of {one.n_benchmark}"
        for name, one in found.benchmarks.items()
        if one.exact or one.near
    ]
    if parts:
        return f"shared prompts: {'; '.join(parts)}"
    return f"texts of {len(found.benchmarks)} benchmarks compared: none shared, none near"


# How far the same policy is from itself when it is evaluated twice, and which differences do not rise above that.


NOISE_COLUMNS = tuple(NoiseRow.model_fields)


def _noise_rows(matrix: MatrixData) -> list[NoiseRow]:
    measured = [
        (policy, scores, scores.noise.get("how"), metric, found, found.get("item_difference") or {})
        for policy in matrix.policies
        for scores in policy.scores.values()
        if isinstance(scores.noise, Mapping)
        for metric, found in scores.noise.get("metrics", {}).items()
    ]
    return [
        NoiseRow(
            benchmark=scores.benchmark,
            metric=metric,
            policy=policy.run_id,
            **{key: finite(found.get(key)) for key in ("first", "second", "difference", "changed")},
            item_difference=finite(item.get("value")),
            stderr=finite(item.get("stderr")),
            n=item.get("n"),
            how=how,
        )
        for policy, scores, how, metric, found, item in measured
    ]


def noise_floor(matrix: MatrixData, metrics: Sequence[Metric]) -> NoiseFloor:
    """Every repeated evaluation, and the comparisons whose difference is no larger.

    The floor of a metric is the largest |difference| of its repetitions.
    """
    rows = _noise_rows(matrix)
    floors: dict[tuple[str, str], float] = {}
    for row in rows:
        if row.difference is not None:
            key = (row.benchmark, row.metric)
            floors[key] = max(floors.get(key, 0.0), abs(row.difference))
    below = [
        BelowNoise(
            benchmark=metric.benchmark,
            metric=metric.metric,
            label=comparison.label,
            against=comparison.against,
            difference=size,
            floor=floor,
        )
        for metric in metrics
        if (floor := floors.get((metric.benchmark, metric.metric))) is not None
        for comparison in metric.comparisons
        if (size := comparison.difference.value) is not None
        and comparison.against != REFERENCE_ID
        and abs(size) <= floor
    ]
    reason = None if rows else "no policy was evaluated twice; set `noise: true` for a benchmark of the matrix file"
    return NoiseFloor(rows=rows, below=below, reason=reason)
