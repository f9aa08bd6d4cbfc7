"""The report as text: HTML, Markdown, LaTeX, terminal."""

#: What other rooms may import.
__all__ = ["context", "explain", "first", "latex", "tables", "text"]
