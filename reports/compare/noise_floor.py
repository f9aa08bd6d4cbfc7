"""How far the same policy is from itself when it is evaluated twice, and which differences do not rise above that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reports.runs.records import REFERENCE_ID, MatrixData, finite
from reports.writing import Row

COLUMNS = (
    "benchmark",
    "metric",
    "policy",
    "first",
    "second",
    "difference",
    "item_difference",
    "stderr",
    "n",
    "changed",
    "how",
)


def _rows(matrix: MatrixData) -> list[Row]:
    policies = [*([matrix.reference] if matrix.reference else []), *matrix.runs]
    rows = []
    for policy in policies:
        for benchmark, scores in policy.scores.items():
            measured = scores.noise.get("metrics", {}) if isinstance(scores.noise, Mapping) else {}
            for metric, found in measured.items():
                item = found.get("item_difference") or {}
                rows.append(
                    {
                        "benchmark": benchmark,
                        "metric": metric,
                        "policy": policy.run_id,
                        "first": finite(found.get("first")),
                        "second": finite(found.get("second")),
                        "difference": finite(found.get("difference")),
                        "item_difference": finite(item.get("value")),
                        "stderr": finite(item.get("stderr")),
                        "n": item.get("n"),
                        "changed": finite(found.get("changed")),
                        "how": scores.noise.get("how"),
                    }
                )
    return rows


def noise_floor(matrix: MatrixData, metrics: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """{"rows", "below", "reason"}: every repeated evaluation, and the comparisons whose difference is no larger.

    `metrics` is the list of summary["metrics"]. The floor of a metric is the largest |difference| of its repetitions.
    """
    rows = _rows(matrix)
    floors: dict[tuple[str, str], float] = {}
    for row in rows:
        if row["difference"] is not None:
            key = (row["benchmark"], row["metric"])
            floors[key] = max(floors.get(key, 0.0), abs(row["difference"]))
    below = []
    for metric in metrics:
        floor = floors.get((metric["benchmark"], metric["metric"]))
        for comparison in metric["comparisons"] if floor is not None else []:
            size = comparison["difference"]["value"]
            if size is not None and comparison["against"] != REFERENCE_ID and abs(size) <= floor:
                below.append(
                    {
                        "benchmark": metric["benchmark"],
                        "metric": metric["metric"],
                        "label": comparison["label"],
                        "against": comparison["against"],
                        "difference": size,
                        "floor": floor,
                    }
                )
    reason = None if rows else "no policy was evaluated twice; set `noise: true` for a benchmark of the matrix file"
    return {"rows": rows, "below": below, "reason": reason}
