"""Mean squares of the paired differences in a finished matrix: how far seeds and prompts spread there."""

from __future__ import annotations

from reports.runs.arms import arms
from reports.runs.records import MatrixData
from reports.statistics.crossed import MeanSquares
from reports.verdict.claims import Claim
from reports.verdict.evidence import gather


class PilotError(ValueError):
    """The matrix cannot serve as a pilot."""


def _metric(matrix: MatrixData, metric: str | None) -> str:
    wanted = metric or (matrix.config.get("report") or {}).get("primary")
    known = dict.fromkeys(f"{s.benchmark}/{m}" for s in matrix.tables for m in s.metrics)
    if wanted is None:
        wanted = next((f"{s.benchmark}/{s.primary_metric}" for s in matrix.tables), None)
    if wanted not in known:
        raise PilotError(f"metric {wanted!r} was not scored; known: {', '.join(known) or 'none'}")
    return str(wanted)


def pilot_squares(
    matrix: MatrixData, metric: str | None = None, against: str | None = None
) -> tuple[str, dict[str, MeanSquares]]:
    """The metric, and the mean squares of each method against the baseline, by the method's name.

    Controls are left out; comparisons with fewer seeds or prompts than the fullest are left out too, since mean squares
    of different designs do not average.

    Raises:
        PilotError: no such metric or method, or no comparison with at least two seeds and two prompts.
    """
    name = _metric(matrix, metric)
    baseline = against or (matrix.config.get("report") or {}).get("baseline") or "fixed"
    all_arms = arms(matrix.runs)
    methods = list(dict.fromkeys(a.method for a in all_arms))
    if baseline not in methods and baseline not in [a.label for a in all_arms]:
        raise PilotError(f"it has no method {baseline!r}; known: {', '.join(methods) or 'none'}")
    tested = list(dict.fromkeys(a.method for a in all_arms if not a.is_control and a.method != baseline))
    found: dict[str, MeanSquares] = {}
    for method in tested:
        mean = gather(matrix, Claim("pilot", method, baseline, name)).contrasts["baseline"].mean
        if mean.squares is not None and mean.stderr is not None:
            found[method] = mean.squares
    if not found:
        raise PilotError(
            f"no method shares two finished seeds and two prompts of {name} with {baseline!r} and differs from it anywhere"
        )
    fullest = max((s.seeds, s.prompts) for s in found.values())
    return name, {m: s for m, s in found.items() if (s.seeds, s.prompts) == fullest}
