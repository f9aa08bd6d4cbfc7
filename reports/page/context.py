"""What the report's templates are filled with: rows, marks, words and pictures, from a matrix and its summary."""

import base64
import functools
from collections.abc import Container, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

from markupsafe import Markup

from reports.page import first, how
from reports.page.samples import before_after, samples
from reports.page.tables import said as word
from reports.page.text import page_parts, script_json, templates, visible
from reports.panels.all import all_panels
from reports.panels.base import Section
from reports.runs import MatrixData, arm_of, arms
from reports.schema import ArmScore, Comparison, Metric, Summary

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


Cells = list[tuple[ArmScore, Comparison | None]]


def _scores(summary: Summary) -> tuple[list[Metric], list[tuple[str, Cells]]]:
    """The metrics across; every method with its cells: mean with interval and n, and the difference to the baseline."""
    shown = [m for m in summary.metrics if m.primary or m.benchmark_primary]
    versus = {
        (metric.name, c.label): c for metric in shown for c in metric.comparisons if c.against == summary.baseline.value
    }
    rows = zip(*(metric.methods for metric in shown), strict=True)
    cells = [[(level, versus.get((m.name, level.label))) for m, level in zip(shown, row, strict=True)] for row in rows]
    return shown, [(row[0][0].label, row) for row in cells]


def _comparisons(summary: Summary) -> dict[str, Any]:
    """Metrics with the comparisons that the page folds: the primary metric first, then as many as fit."""
    room, shown = MOST_ROWS, []
    for metric in summary.metrics:
        kept = metric.comparisons[:room]
        room -= len(kept)
        if kept:
            shown.append(metric.model_copy(update={"comparisons": kept}))
    every = sum(len(metric.comparisons) for metric in summary.metrics)
    return {"metrics": shown, "more": every - sum(len(metric.comparisons) for metric in shown)}


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
    labels, (metrics, rows) = arm_of(arms(matrix.runs)), _scores(summary)
    names = {r.run_id: labels[r.run_id] + ("" if r.seed is None else f", seed {r.seed}") for r in matrix.runs}
    names["reference"] = "reference policy"
    seconds = {run: sum(stages.values()) for run, stages in summary.provenance.seconds.items()}
    return {
        "s": summary,
        "first": first,
        "word": word,
        "most_rows": MOST_METHODS,
        "shown_of_beta": ("delta", "loss_at_beta0", "log_prompt_perplexity"),
        "by_run": [(run, {row.against: row for row in run.examples or ()}) for run in summary.beta.runs],
        "beta_says": first.beta_sentences(summary),
        "score_metrics": metrics,
        "score_rows": rows,
        "compared": _comparisons(summary),
        "panels": {section: [p for p in all_panels() if p.section == section] for section in get_args(Section)},
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


# One self-contained report.html and its Markdown twin: no network, nothing executable from a model's output.


_MARKUP = str.maketrans({c: f"\\{c}" for c in "\\`*_[]|#~"} | {"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def markdown_cell(value: Any) -> str:
    """Text that stays text in a Markdown table: markup characters escaped, line breaks gone."""
    return " ".join(visible(str(value)).split()).translate(_MARKUP)


def duration(seconds: float | None) -> str:
    """Seconds in words: `3.2 s`, `12 min`, `5.4 h`; a dash where they are not known."""
    if seconds is None:
        return "–"
    minutes = f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
    return minutes if seconds >= 90 else f"{seconds:.1f} s"


def render(filled: Mapping[str, Any]) -> tuple[str, str]:
    """The two documents, (html, markdown), from `reports.page.context.context`."""
    shared = {"num": how.number, "interval": how.interval, "p": how.p_value, "how": how, "duration": duration}
    pages = templates(escape=True, finalize=lambda v: visible(v) if type(v) is str else v)
    plain = templates(escape=False)
    plain.filters["cell"] = markdown_cell
    for environment in (pages, plain):
        environment.globals |= shared
    parts = page_parts("report.css", "report.js") | {"samples_json": Markup(script_json(filled["samples"]))}
    page = pages.get_template("report.html.j2").render(**filled, **parts)
    return page, plain.get_template("report.md.j2").render(**filled)
