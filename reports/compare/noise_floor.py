"""How far the same policy is from itself when it is evaluated twice, and which differences do not rise above that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reports.runs.records import REFERENCE_ID, MatrixData, finite
from reports.schema.metrics import Metric
from reports.schema.runs import BelowNoise, NoiseFloor, NoiseRow

COLUMNS = tuple(NoiseRow.model_fields)


def _rows(matrix: MatrixData) -> list[NoiseRow]:
    measured = [
        (policy, scores, scores.noise, metric, found, found.get("item_difference") or {})
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
            first=finite(found.get("first")),
            second=finite(found.get("second")),
            difference=finite(found.get("difference")),
            item_difference=finite(item.get("value")),
            stderr=finite(item.get("stderr")),
            n=item.get("n"),
            changed=finite(found.get("changed")),
            how=noise.get("how"),
        )
        for policy, scores, noise, metric, found, item in measured
    ]


def noise_floor(matrix: MatrixData, metrics: Sequence[Metric]) -> NoiseFloor:
    """Every repeated evaluation, and the comparisons whose difference is no larger.

    The floor of a metric is the largest |difference| of its repetitions.
    """
    rows = _rows(matrix)
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
