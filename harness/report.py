"""Makes the matrix files and the report when anything they show has changed or is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evals import schema
from harness.fingerprint import file_hash, fingerprint
from harness.plan import Plan
from harness.progress import Progress
from harness.store import RunStore, read_json, write_json

#: Raise when a change of `reports` should show in reports that exist already.
REPORT_VERSION = 4
FILES = ("training_metrics.csv", "training_curves.png", "summary.json", "log_history.json", "report.html", "report.md")
_STAMP = "report.json"


def _state(plan: Plan) -> str:
    """Identity of everything the report shows."""
    runs: dict[str, Any] = {}
    for spec in plan.specs:
        status = RunStore(plan.run_dir(spec)).status()
        stages = {name: stage["fingerprint"] for name, stage in status["stages"].items()}
        runs[spec.run_id] = [status["state"], stages, status["error"]]
    reference = {
        benchmark["name"]: (schema.read_scores(plan.reference_dir, benchmark["name"]) or {}).get("fingerprint")
        for benchmark in plan.benchmarks
    }
    config = plan.config.report.model_dump()
    judged = {path.name: file_hash(path) for path in sorted((plan.output / "comparisons").glob("*.json"))}
    contaminated = (read_json(plan.output / "contamination.json") or {}).get("fingerprint")
    shown = {
        "version": REPORT_VERSION,
        "runs": runs,
        "reference": reference,
        "report": config,
        "contamination": contaminated,
    }
    return fingerprint({**shown, **({"judged": judged} if judged else {})})


def outdate(plan: Plan) -> None:
    """Call before anything the report shows is made anew: until the next report, the one on disk counts as out of date."""
    (plan.output / _STAMP).unlink(missing_ok=True)


def make_report(plan: Plan, progress: Progress, force: bool = False) -> bool:
    """Write per-run files, matrix files, figures, tables and the report; returns whether anything was made."""
    state = _state(plan)
    stamp = read_json(plan.output / _STAMP)
    complete = all((plan.output / name).is_file() for name in FILES)
    if not force and complete and stamp is not None and stamp.get("state") == state:
        return False
    progress.say("writing metrics, curves, tables and the report")
    build(plan.output, [spec.run_id for spec in plan.specs], plan.config.model_dump())
    write_json(plan.output / _STAMP, {"schema_version": 1, "state": state})
    return True


def build(output: Path, run_ids: list[str], config: dict[str, Any]) -> Path:
    """All files of a matrix from what its runs left on disk; needs no torch. Returns the path of report.html."""
    from reports.html import write_matrix
    from reports.run_files import write_all

    logged = [run_id for run_id in run_ids if (output / "runs" / run_id / "log_history.json").is_file()]
    analysed = write_all(output, logged)
    return write_matrix(output, run_ids, config, analysed)
