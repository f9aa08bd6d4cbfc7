"""Whether two outputs of a matrix hold the same results: byte for byte, but for what was timed or dated."""

import contextlib
import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Measured times, speeds and memory, dates, and how a run came about (not what came of it).
TIMED = {
    "step_time_s",
    "tokens_per_second",
    "peak_memory_bytes",
    "seconds",
    "created",
    "updated",
    "frozen",
    "heartbeat",
    "swap_seconds",
    "eta_seconds",
    "pid",
    "host",
    "num_tokens",
    "num_input_tokens_seen",
    "resumed_from_step",
    "reference_forwards",
    "resumed_under",
    "stopped",
    "previous",
    "checksum",
    "tally",
}
#: Made of timed files (checksums, pages that print times), logs of what happened, or locks.
_SKIPPED = ("work/", ".lock", "report.html", "report.json", "quarantine/", "explain.html")


def results(output: Path) -> dict[str, Any]:
    """Relative path -> its content without what is timed."""
    found: dict[str, Any] = {}
    for path in sorted(p for p in output.rglob("*") if p.is_file()):
        name = str(path.relative_to(output))
        if any(part in f"/{name}" for part in (f"/{skip}" for skip in _SKIPPED)) or path.suffix == ".corrupt":
            continue
        found[name] = _content(path)
    return found


def differences(left: dict[str, Any], right: dict[str, Any]) -> list[str]:
    """Names of files that are missing on one side or differ."""
    return sorted(name for name in {*left, *right} if left.get(name) != right.get(name))


def _content(path: Path) -> Any:
    readers: dict[str, Callable[[Path], Any]] = {
        "log_history.json": _history,
        "training_metrics.csv": _table,
        "status.json": _status,
        "run.json": _json,
        "summary.json": _json,
        "claims.json": _json,
        "judgements.jsonl": _replies,
        "train_result.json": _json,
        "matrix.json": _json,
        "engine.json": _engine,
        "report.md": _report,
    }
    if path.parent.name == "tables" and path.name.startswith("checklist"):
        return _undated(path.read_text(encoding="utf-8"))
    if path.parent.name == "comparisons" and path.suffix == ".json":
        return _json(path)
    return readers.get(path.name, Path.read_bytes)(path)


def _undated(text: str) -> str:
    """Without times such as that at which the claims were frozen."""
    return re.sub(r"\d{4}-\d\d-\d\d.\d\d:\d\d:\d\d\S{0,6}", "-", text)


def _untimed(value: Any) -> Any:
    if isinstance(value, str):
        return _undated(value)
    if isinstance(value, dict):
        return {key: _untimed(item) for key, item in value.items() if key not in TIMED}
    return [_untimed(item) for item in value] if isinstance(value, list) else value


def _json(path: Path) -> Any:
    return _untimed(json.loads(path.read_text(encoding="utf-8")))


def _report(path: Path) -> Any:
    """The report's text without the wall times in its provenance."""
    text, title, provenance = _undated(path.read_text(encoding="utf-8")).partition("\n## Provenance")
    return text + title + re.sub(r"\b\d+(\.\d+)? (s|min|h)\b", "-", provenance)


def _replies(path: Path) -> Any:
    """What judges said, in whatever order, once or more; a line that a kill tore is skipped when it is read."""
    found: set[str] = set()
    for line in path.read_bytes().splitlines():
        with contextlib.suppress(ValueError):
            found.add(json.dumps(json.loads(line), sort_keys=True))
    return found


def _engine(path: Path) -> Any:
    return _json(path)["engine"]  # which policy was served before depends on where the engine was started again


def _history(path: Path) -> Any:
    """Logged steps; Trainer's closing record is a summary of the time since the last resume."""
    runs = _json(path)
    return {run_id: [record for record in records if "loss" in record] for run_id, records in runs.items()}


def _table(path: Path) -> Any:
    with path.open(encoding="utf-8", newline="") as handle:
        return [{key: value for key, value in row.items() if key not in TIMED} for row in csv.DictReader(handle)]


def _status(path: Path) -> Any:
    """State and finished stages; checksums of timed files differ like the files.

    A judge's record also says how many replies came from the cache.
    """
    status = json.loads(path.read_text(encoding="utf-8"))
    timed = re.compile(r"log_history\.json|train_result\.json|comparisons/.*\.json")
    stages = {
        name: [stage["fingerprint"], {file: s for file, s in stage["files"].items() if not timed.fullmatch(file)}]
        for name, stage in status["stages"].items()
    }
    return [status["state"], status["step"], status["error"], stages]
