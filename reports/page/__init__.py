"""The report as text: HTML, Markdown, LaTeX, terminal."""

from reports.page.explain import write_explain
from reports.page.text import plain_table, visible

__all__ = ["plain_table", "visible", "write_explain"]
