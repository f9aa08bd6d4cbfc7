"""The report as text: HTML, Markdown, LaTeX, terminal."""
