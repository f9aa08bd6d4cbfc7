"""A study of several matrices: collects what its claims rest on, and writes the page that answers its question."""

from reports.study.claims import Judged, Study, judge, read_study

__all__ = ["Judged", "Study", "judge", "read_study"]
