"""One self-contained report.html and its Markdown twin: no network, nothing executable from a model's output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import how, prose
from .beta.run import Analysed
from .csp import content_security_policy
from .explain import explain_html
from .gallery import draw_all, draw_compared
from .logged import logged_files
from .page import context
from .records import MatrixData, load_matrix
from .summary import baseline_label, build_summary
from .text import script_json, visible
from .writing import write_large_json, write_text

TEMPLATES = Path(__file__).parent / "templates"


def markdown_cell(value: Any) -> str:
    """Text that stays text in a Markdown table: markup characters escaped, line breaks gone."""
    text = " ".join(visible(str(value)).split())
    for character in "\\`*_[]|#~":
        text = text.replace(character, "\\" + character)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def duration(seconds: float | None) -> str:
    """Seconds in words: `3.2 s`, `12 min`, `5.4 h`; a dash where they are not known."""
    if seconds is None:
        return "–"
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def render(filled: Mapping[str, Any]) -> tuple[str, str]:
    """The two documents, (html, markdown), from `reports.page.context`."""
    import jinja2
    from markupsafe import Markup

    loader = jinja2.FileSystemLoader(TEMPLATES)
    shared: dict[str, Any] = {
        "num": how.number,
        "interval": how.interval,
        "p": how.p_value,
        "how": how,
        "prose": prose,
        "duration": duration,
    }
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
        **filled,
        script=script,
        style=style,
        csp=content_security_policy(script, style),
        samples_json=Markup(script_json(filled["samples"])),
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
    return page, plain.get_template("report.md.j2").render(**filled)


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
    matrix = load_matrix(Path(output_dir), run_ids, config)
    return write_pages(matrix, summary if summary is not None else build_summary(matrix))


def write_matrix(
    output_dir: Path | str,
    run_ids: Sequence[str],
    config: Mapping[str, Any] | None = None,
    analysed: Mapping[str, Analysed] | None = None,
) -> Path:
    """`write_matrix_files` and `write_report` in one: runs are read once, curves drawn once, on two cores.

    Returns the path of report.html; raises ReportError naming a damaged file.
    """
    matrix = load_matrix(output_dir, run_ids, config)
    with logged_files(matrix, baseline_label(matrix)) as finish:
        summary = build_summary(matrix, analysed=analysed)
        write_large_json(matrix.output_dir / "summary.json", summary)
        figures = draw_compared(matrix, summary)
        figures |= finish()
    return _write_documents(matrix, summary, figures)


def write_pages(matrix: MatrixData, summary: Mapping[str, Any]) -> Path:
    """Write the report of a loaded matrix into its output directory; returns the path of report.html."""
    return _write_documents(matrix, summary, draw_all(matrix, summary))


def _write_documents(matrix: MatrixData, summary: Mapping[str, Any], figures: Mapping[str, Path]) -> Path:
    page, markdown = render(context(matrix, summary, figures))
    write_text(matrix.output_dir / "report.md", markdown)
    write_text(matrix.output_dir / "explain.html", explain_html())
    return write_text(matrix.output_dir / "report.html", page)
