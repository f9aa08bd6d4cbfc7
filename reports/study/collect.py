"""Copies a finished output into a study, without its weights and with the scores of every answer."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from reports.runs import REFERENCE_ID, MatrixData, ReportError, Scores, load_matrix, read_json, snapshots
from trainers.common.files import write_bytes

#: Files of an output that a study keeps, beside the scores of every answer.
KEPT = ("matrix.yaml", "claims.json", "report.html", "training_metrics.csv")
#: Figures that it keeps: what beta did.
FIGURES = ("beta_perplexity", "beta_loss", "beta_associations", "beta_fan")
SCORES = "scores.csv.gz"


def collect(output: Path, folder: Path) -> None:
    """Copy what a world's claims rest on: configuration, plan, report, figures, and the scores of every answer; of
    summary.json all but the associations of single runs and the comparisons of single checkpoints.

    Raises:
        ReportError: the output has no report, or no run was scored.
    """
    if not (output / "summary.json").is_file():
        raise ReportError(f"{output}: no summary.json; run `python -m harness report --output {output}` first")
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for source in (*(output / name for name in KEPT), *(output / "figures" / f"{name}.svg" for name in FIGURES)):
        if source.is_file():
            shutil.copyfile(source, folder / source.relative_to(output))
    summary = read_json(output / "summary.json")
    if summary.get("beta"):
        summary["beta"]["runs"] = []  # two thirds of the file; the page and its test need the methods
    for compared in (row for metric in summary["metrics"] for row in metric["comparisons"]):
        compared["checkpoints"] = []
    write_bytes(folder / "summary.json", json.dumps(summary, separators=(",", ":"), allow_nan=False).encode())
    stated = read_json(output / "matrix.json")
    rows = score_rows(load_matrix(output, stated["runs"], stated["config"]))
    rows.to_csv(folder / SCORES, index=False, float_format="%.6g", compression={"method": "gzip", "mtime": 0})


def score_rows(matrix: MatrixData) -> pd.DataFrame:
    """One row an answer: method, seed, step (reference: 0), benchmark, id and group of the prompt, and every metric."""
    points: list[tuple[str, int | None, int | None, Mapping[str, Scores]]] = []
    if matrix.reference:
        points.append((REFERENCE_ID, None, 0, matrix.reference.scores))
    done = [run for run in matrix.runs if run.state == "done"]
    points += [(run.method, run.seed, one.step, one.scores) for run in done for one in snapshots(run)]
    rows = []
    for method, seed, step, scores in points:
        for table in scores.values():
            about = {"method": method, "seed": seed, "step": step, "benchmark": table.benchmark}
            rows += [{**about, "id": i.id, "group": i.group or i.id, **i.values} for i in table.items]
    if not rows:
        raise ReportError(f"{matrix.output_dir}: no run was scored")
    return pd.DataFrame(rows).astype({"seed": "Int64", "step": "Int64"})
