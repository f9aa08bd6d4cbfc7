"""What made the runs: model, data, versions, hardware, and how long each stage took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.runs.records import MatrixData, finite


def wall_time(status: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of every finished stage of a run, as its status records them."""
    stages = status.get("stages") or {}
    return {name: s for name, stage in stages.items() if (s := finite(stage.get("seconds"))) is not None}


def provenance(matrix: MatrixData) -> dict[str, Any]:
    """Model, data, versions and hardware of the runs; a field in which runs differ lists every value."""
    fields: dict[str, list[Any]] = {}
    for run in matrix.runs:
        for name in ("model", "data", "training", "lora", "versions", "hardware", "source"):
            value = (run.identity or {}).get(name)
            if value is not None and value not in fields.setdefault(name, []):
                fields[name].append(value)
    return {
        "fields": {name: values for name, values in fields.items() if values},
        "fingerprints": {r.run_id: r.identity.get("fingerprint") for r in matrix.runs if r.identity},
        "created": {r.run_id: r.identity.get("created") for r in matrix.runs if r.identity},
        "seconds": {r.run_id: wall_time(r.status) for r in matrix.runs if r.status},
    }
