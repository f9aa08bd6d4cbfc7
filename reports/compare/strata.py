"""Where a gain appears: paired differences by the perplexity of the prompt, and whether they change with it.

A rule that scales beta with prompt perplexity should gain where perplexity is unlike the average; its shuffled control has
no reason to. `summary["strata"]` holds what this module returns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reports.compare.comparison import crossed_test, interval_of
from reports.compare.grids import ScoreGrid, aligned, arm_grids
from reports.runs.arms import Arm
from reports.runs.records import REFERENCE_ID, MatrixData, Scores, finite
from reports.statistics.crossed import crossed_mean, interaction
from reports.statistics.multiplicity import benjamini_hochberg

Floats = NDArray[np.float64]
KEY = "log_prompt_perplexity"
QUANTILES = 4
#: Fewer prompts than this in a stratum make no interval worth drawing.
PROMPTS_PER_STRATUM = 5
MEASURED = ("kl", "preference")  # kinds that always score the prompt under this matrix's own reference
NOTHING: dict[str, Any] = {"comparisons": [], "reason": "one run has nothing to be compared with"}


def _is_measured(scores: Scores) -> bool:
    return scores.kind in MEASURED or scores.prompt_perplexity_under == REFERENCE_ID


def _tables(matrix: MatrixData) -> list[Scores]:
    policies = [*([matrix.reference] if matrix.reference else []), *matrix.runs]
    return [s for run in policies for s in run.scores.values()]


def prompt_log_perplexity(matrix: MatrixData, benchmark: str) -> tuple[dict[str, float], str]:
    """Log perplexity (nats a token) of the benchmark's prompts by item id, and where it comes from or why there is none.

    Values measured under the matrix's reference come first: on the items themselves, or on those of another benchmark with
    the same prompt text. Then the value carried by the benchmark's own rows.
    """
    tables = _tables(matrix)
    own = [s for s in tables if s.benchmark == benchmark]
    if not own:
        return {}, f"{benchmark} was not scored"
    measured = {
        str(i.extra["prompt"]): value
        for s in tables
        if _is_measured(s) and s.benchmark != benchmark
        for i in s.items
        if i.extra.get("prompt") is not None and (value := finite(i.extra.get(KEY))) is not None
    }
    recorded: dict[str, float] = {}
    matched: dict[str, float] = {}
    for scores in own:
        for item in scores.items:
            value = finite(item.extra.get(KEY))
            if value is not None:
                recorded.setdefault(item.id, value)
            text = item.extra.get("prompt")
            if text is not None and str(text) in measured:
                matched.setdefault(item.id, measured[str(text)])
    if recorded and _is_measured(own[0]):
        return recorded, "measured under the reference with this benchmark"
    if len(matched) >= max(len(recorded), 1):
        return matched, "measured under the reference with another benchmark, matched by prompt text"
    if recorded:
        return recorded, "carried by the benchmark's rows"
    return {}, f"{KEY} is not recorded for the prompts of {benchmark}"


def _by_group(grid: ScoreGrid, ids: Sequence[str], values: Floats, x: Floats) -> tuple[Floats, Floats]:
    at = dict(zip(grid.ids, grid.groups, strict=True))
    names, index = np.unique([at[i] for i in ids], return_inverse=True)
    if names.size == len(ids):
        return values, x
    count = np.bincount(index)
    return np.array([np.bincount(index, weights=row) / count for row in values]), np.bincount(index, weights=x) / count


def _strata(differences: Floats, x: Floats) -> list[dict[str, Any]]:
    """Differences by quantile of x: equally many prompts in each, as many strata as the prompts allow, up to four."""
    parts = min(QUANTILES, x.size // PROMPTS_PER_STRATUM)
    if parts < 2:
        return []
    order = np.argsort(x, kind="stable")
    rows = []
    for number, members in enumerate(np.array_split(order, parts)):
        cells = differences[:, members]
        mean = crossed_mean(cells)
        rows.append(
            {
                "quantile": number + 1,
                "of": parts,
                "low": float(x[members].min()),
                "high": float(x[members].max()),
                "mean_log_prompt_perplexity": float(x[members].mean()),
                "difference": interval_of(mean, cells).as_dict(),
                "seed_differences": [float(v) for v in cells.mean(axis=1)],
            }
        )
    return rows


def _pair(first: ScoreGrid, second: ScoreGrid, known: Mapping[str, float]) -> dict[str, Any]:
    seeds, ids, values = aligned([first, second])
    keep = [n for n, i in enumerate(ids) if i in known]
    x = np.array([known[ids[n]] for n in keep], dtype=float)
    difference = values[0][:, keep] - values[1][:, keep]
    if difference.size:
        difference, x = _by_group(first, [ids[n] for n in keep], difference, x)
    mean, slope = interaction(difference, x)
    return {
        "label": first.label,
        "against": second.label,
        "seeds": list(seeds),
        "n": int(x.size),
        "without_perplexity": len(ids) - len(keep),
        "strata": _strata(difference, x) if difference.size else [],
        "slope": slope.as_dict(),
        "test": crossed_test(mean).as_dict(),
    }


def strata_summary(
    matrix: MatrixData,
    all_arms: Sequence[Arm],
    metrics: Sequence[Mapping[str, Any]],
    baseline: str | None,
    controls: Sequence[str],
) -> dict[str, Any]:
    """Every method and control against the baseline, and every method against the controls, by prompt perplexity.

    Args:
        metrics: entries with benchmark, metric, benchmark_primary and primary; the primary ones are used.
        baseline, controls: labels of arms.

    `slope` is the change of the difference a nat of log perplexity, in the metric's unit. Its p-values are adjusted
    together (Benjamini-Hochberg).
    """
    rows: list[dict[str, Any]] = []
    reasons: list[str] = []
    for entry in metrics:
        if not (entry["benchmark_primary"] or entry["primary"]):
            continue
        benchmark, metric = entry["benchmark"], entry["metric"]
        known, source = prompt_log_perplexity(matrix, benchmark)
        if not known:
            reasons.append(source)
            continue
        grids = arm_grids(all_arms, benchmark, metric)
        head = {"benchmark": benchmark, "metric": metric, "primary": entry["primary"], "source": source}
        head["higher_is_better"] = entry["higher_is_better"]
        pairs = [(a, baseline) for a in grids if baseline in grids and a != baseline]
        tested = [a for a in grids if a != baseline and a not in controls]
        pairs += [(a, c) for a in tested for c in controls if c in grids]
        for first, second in pairs:
            control = {"control": first in controls}
            rows.append(head | control | _pair(grids[first], grids[str(second)], known))
    adjusted = benjamini_hochberg([r["test"]["p_value"] for r in rows])
    known_p = sum(p is not None for p in adjusted)
    for row, p in zip(rows, adjusted, strict=True):
        row["adjusted_p"] = {
            "value": p,
            "method": "Benjamini-Hochberg",
            "family_size": known_p,
            "reason": None if p is not None else row["test"]["reason"],
        }
    if not rows and not reasons:
        reasons.append("no two arms were scored on one benchmark")
    return {"comparisons": rows, "reason": "; ".join(dict.fromkeys(reasons)) or None}
