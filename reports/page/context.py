"""What the report's templates are filled with: rows, marks, words and pictures, from a matrix and its summary."""

from __future__ import annotations

import base64
import functools
from collections.abc import Container, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

from reports.compare.ties import SENTENCE, ties
from reports.page import how
from reports.page.before_after import before_after
from reports.page.samples import samples
from reports.panels.all import all_panels
from reports.panels.base import Panel, Section
from reports.runs.arms import arm_of, arms
from reports.runs.records import MatrixData
from reports.schema import Summary

#: A longer drawing costs more than its picture: it is embedded as PNG.
LONGEST_SVG = 150_000
#: Comparisons shown in the page; the rest is in the tables.
MOST_ROWS = 400
#: Methods in the matrix of the page.
MOST_METHODS = 250


def data_uri(path: Path) -> str:
    """The figure for an img element: a short SVG as it is, anything else as a PNG of at most 256 colours."""
    if path.suffix == ".svg" and path.stat().st_size <= LONGEST_SVG:
        return f"data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
    from PIL import Image

    buffer = BytesIO()
    with Image.open(path.with_suffix(".png")) as picture:
        flat = Image.new("RGB", picture.size, "white")
        flat.paste(picture, mask=picture.getchannel("A") if picture.mode == "RGBA" else None)
        flat.quantize(256, dither=Image.Dither.NONE).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _matrix_table(summary: Summary) -> dict[str, Any]:
    """Methods down, metrics across: mean with interval, tie mark, n, and the difference to the baseline."""
    shown = [m for m in summary.metrics if m.primary or m.benchmark_primary]
    baseline = summary.baseline.value
    marks = [ties(metric) for metric in shown]
    rows = []
    for position, method in enumerate(shown[0].methods if shown else []):
        cells = []
        for metric, mark in zip(shown, marks, strict=True):
            versus = [c for c in metric.comparisons if c.label == method.label]
            cells.append(
                {
                    "level": metric.methods[position],
                    "mark": mark[method.label],
                    "difference": next((c for c in versus if c.against == baseline), None),
                }
            )
        rows.append({"label": method.label, "is_baseline": method.label == baseline, "cells": cells})
    more = max(0, len(rows) - MOST_METHODS)
    return {"metrics": shown, "rows": rows[:MOST_METHODS], "more": more, "ties": SENTENCE}


def _panels(drawn: Container[str]) -> dict[str, list[Panel]]:
    """Panels by section, a headline that is drawn apart."""
    found: dict[str, list[Panel]] = {section: [] for section in ("headline", *get_args(Section))}
    for panel in all_panels():
        found["headline" if panel.headline and panel.name in drawn else panel.section].append(panel)
    return found


def _comparisons(summary: Summary) -> dict[str, Any]:
    """Metrics with the comparisons that the page shows: the primary metric first, then as many as fit."""
    room, shown, more = MOST_ROWS, [], 0
    for metric in summary.metrics:
        kept = metric.comparisons[:room]
        room -= len(kept)
        more += len(metric.comparisons) - len(kept)
        if kept:
            shown.append(metric.model_copy(update={"comparisons": kept}))
    return {"metrics": shown, "more": more}


def _sizes(matrix: MatrixData, summary: Summary, drawn: Container[str]) -> dict[str, str]:
    """From how many each figure is drawn."""
    logged = [run for run in summary.runs if run.logged_steps]
    steps, arms_ = sum(run.logged_steps for run in logged), len({run.label for run in logged})
    found = {p.name: how.sizes(p.rows(matrix, summary)) for p in all_panels() if p.name in drawn}
    curves = f"Drawn from {steps:,} logged steps of {len(logged)} runs of {arms_} methods, each setting counted."
    return found | {"training_curves": curves}


def _names(matrix: MatrixData, summary: Summary) -> tuple[str, ...]:
    """Names that sentences hold and whose digits are no numbers: methods, runs, metrics, benchmarks, judges, claims."""
    found = {n for run in summary.runs for n in (run.label, run.method, run.run_id)}
    found |= {n for m in summary.metrics for n in (m.benchmark, m.metric)}
    found |= {judge.name for entry in summary.judges for judge in entry.judges}
    found |= {claim.name for claim in summary.claims.judged}
    return tuple(sorted({str(name) for name in found} | set(matrix.benchmarks)))


def context(matrix: MatrixData, summary: Summary, figures: Mapping[str, Path]) -> dict[str, Any]:
    """Everything that report.html.j2 and report.md.j2 read."""
    labels = arm_of(arms(matrix.runs))
    names = {r.run_id: labels[r.run_id] + ("" if r.seed is None else f", seed {r.seed}") for r in matrix.runs}
    names["reference"] = "reference policy"
    seconds = {run: sum(stages.values()) for run, stages in summary.provenance.seconds.items()}
    return {
        "s": summary,
        "table": _matrix_table(summary),
        "compared": _comparisons(summary),
        "panels": _panels(figures),
        "sizes": _sizes(matrix, summary, figures),
        "said": functools.partial(how.numbers, names=_names(matrix, summary)),
        "figures": {name: data_uri(path) for name, path in figures.items()},
        "figure_files": {name: f"figures/{path.name}" for name, path in figures.items()},
        "unfinished": [r for r in summary.runs if r.state != "done"],
        "lost_checkpoints": [{"run_id": r.run_id, **dict(c)} for r in summary.runs for c in r.failed_checkpoints],
        "collapsed": [r for r in summary.runs if r.collapse],
        "diverged": [r for r in summary.runs if r.diverged],
        "seconds": seconds,
        "before_after": before_after(matrix, summary, names),
        "samples": samples(matrix, names),
        "names": names,
    }
