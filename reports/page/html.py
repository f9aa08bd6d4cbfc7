"""One self-contained report.html and its Markdown twin: no network, nothing executable from a model's output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.page import how
from reports.page.text import page_parts, script_json, templates, visible


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
    """The two documents, (html, markdown), from `reports.page.context.context`."""
    from markupsafe import Markup

    shared = {"num": how.number, "interval": how.interval, "p": how.p_value, "how": how, "duration": duration}
    pages = templates(escape=True, finalize=lambda v: visible(v) if type(v) is str else v)
    plain = templates(escape=False)
    plain.filters["cell"] = markdown_cell
    for environment in (pages, plain):
        environment.globals |= shared
    parts = page_parts("report.css", "report.js") | {"samples_json": Markup(script_json(filled["samples"]))}
    page = pages.get_template("report.html.j2").render(**filled, **parts)
    return page, plain.get_template("report.md.j2").render(**filled)
