"""One self-contained report.html and its Markdown twin: no network, nothing executable from a model's output."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reports.page import how, prose
from reports.page.text import content_security_policy, script_json, visible

TEMPLATES = Path(__file__).parents[1] / "templates"


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
