"""Runs that other tools made, read into this project's own layout so that the same report can be written.

`detect.py` finds them, one module per format reads them, `convert.py` writes `runs/<id>/` and `analysis.py` makes the
files of a matrix from it, with what the runs do not contain said in words (`gaps.py`).
"""

#: What other rooms may import.
__all__ = ["analysis", "compare_scores", "rows", "trainer_logs"]
