"""One self-contained report.html and its Markdown twin: no network, nothing executable from a model's output."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .csp import content_security_policy
from .explain import explain_html
from .gallery import draw_all
from .labels import arm_of, arms
from .records import MatrixData, load_matrix
from .samples import samples
from .summary import build_summary
from .text import script_json, visible
from .writing import write_text

TEMPLATES = Path(__file__).parent / "templates"


def _data_uri(path: Path) -> str:
    kind = "svg+xml" if path.suffix == ".svg" else "png"
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def number(value: float | None, digits: int = 3, signed: bool = False) -> str:
    """A figure for a table cell; a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"


def p_value(value: float | None) -> str:
    """A p-value for a table cell: never a zero, which no test can give."""
    return "<0.001" if value is not None and value < 0.001 else number(value)


def interval(estimate: Mapping[str, Any] | None, signed: bool = False) -> str:
    """`low to high`, or a dash."""
    if not estimate or estimate["low"] is None:
        return "–"
    return f"{number(estimate['low'], 3, signed)} to {number(estimate['high'], 3, signed)}"


def markdown_cell(value: Any) -> str:
    """Text that stays text in a Markdown table: markup characters escaped, line breaks gone."""
    text = " ".join(visible(str(value)).split())
    for character in "\\`*_[]|#~":
        text = text.replace(character, "\\" + character)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _verdict_table(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Methods down, metrics across: mean with interval, and the difference to the baseline."""
    shown = [m for m in summary["metrics"] if m["primary"] or m["benchmark_primary"]]
    baseline = summary["baseline"]["value"]
    rows = []
    for position, method in enumerate(shown[0]["methods"] if shown else []):
        cells = []
        for metric in shown:
            versus = [c for c in metric["comparisons"] if c["label"] == method["label"]]
            cells.append(
                {
                    "level": metric["methods"][position],
                    "difference": next((c for c in versus if c["against"] == baseline), None),
                }
            )
        rows.append({"label": method["label"], "is_baseline": method["label"] == baseline, "cells": cells})
    return {"metrics": shown, "rows": rows}


def _context(matrix: MatrixData, summary: Mapping[str, Any], figures: Mapping[str, Path]) -> dict[str, Any]:
    labels = arm_of(arms(matrix.runs))
    names = {r.run_id: labels[r.run_id] + ("" if r.seed is None else f", seed {r.seed}") for r in matrix.runs}
    names["reference"] = "reference policy"
    return {
        "s": summary,
        "table": _verdict_table(summary),
        "figures": {name: _data_uri(path) for name, path in figures.items()},
        "figure_files": {name: f"figures/{path.name}" for name, path in figures.items()},
        "unfinished": [r for r in summary["runs"] if r["state"] != "done"],
        "collapsed": [r for r in summary["runs"] if r["collapse"]],
        "diverged": [r for r in summary["runs"] if r["diverged"]],
        "samples": samples(matrix, names),
        "names": names,
    }


def render(context: Mapping[str, Any]) -> tuple[str, str]:
    """The two documents, (html, markdown)."""
    import jinja2
    from markupsafe import Markup

    loader = jinja2.FileSystemLoader(TEMPLATES)
    shared: dict[str, Any] = {"num": number, "interval": interval, "p": p_value}
    pages = jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda v: visible(v) if type(v) is str else v,
    )
    pages.globals |= shared
    # jinja strips a template's last newline; the hash must be over exactly what the page holds.
    script, style = (Markup((TEMPLATES / name).read_text(encoding="utf-8")) for name in ("report.js", "report.css"))
    page = pages.get_template("report.html.j2").render(
        **context,
        script=script,
        style=style,
        csp=content_security_policy(script, style),
        samples_json=Markup(script_json(context["samples"])),
    )
    plain = jinja2.Environment(
        loader=loader,
        autoescape=False,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    plain.globals |= shared
    plain.filters["cell"] = markdown_cell
    return page, plain.get_template("report.md.j2").render(**context)


def write_report(
    output_dir: Path | str,
    run_ids: Sequence[str],
    config: Mapping[str, Any] | None = None,
    summary: Mapping[str, Any] | None = None,
) -> Path:
    """Write report.html, report.md, explain.html, figures/ and tables/ of a matrix; returns the path of report.html.

    `config` is the matrix file as a mapping; without it `matrix.yaml` is read. `summary` is what
    `write_matrix_files` returned for the same runs; without it the comparison is computed here. Raises ReportError
    naming a damaged file.
    """
    root = Path(output_dir)
    matrix = load_matrix(root, run_ids, config)
    said = summary if summary is not None else build_summary(matrix)
    page, markdown = render(_context(matrix, said, draw_all(matrix, said)))
    write_text(root / "report.md", markdown)
    write_text(root / "explain.html", explain_html())
    return write_text(root / "report.html", page)
