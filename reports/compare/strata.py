"""Where a gain appears: paired differences by the perplexity of the prompt, and whether they change with it.

A rule that scales beta with prompt perplexity should gain where perplexity is unlike the average; its shuffled control has
no reason to. `summary.strata` holds what this module returns.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from reports.compare.comparison import Floats, crossed_test
from reports.compare.grids import ScoreGrid, aligned, arm_grids
from reports.runs import REFERENCE_ID, Arm, MatrixData, Scores, finite
from reports.schema.metrics import Metric, Strata, StrataComparison, Stratum
from reports.statistics.crossed import crossed_mean, interaction, interval_of
from reports.statistics.multiplicity import UNCORRECTED, with_corrected

KEY = "log_prompt_perplexity"
QUANTILES = 4
#: Fewer prompts than this in a stratum make no interval worth drawing.
PROMPTS_PER_STRATUM = 5
MEASURED = ("kl", "preference")  # kinds that always score the prompt under this matrix's own reference
NOTHING = Strata(comparisons=[], reason="one run has nothing to be compared with")


def _is_measured(scores: Scores) -> bool:
    return scores.kind in MEASURED or scores.prompt_perplexity_under == REFERENCE_ID


def prompt_log_perplexity(matrix: MatrixData, benchmark: str) -> tuple[dict[str, float], str]:
    """Log perplexity (nats a token) of the benchmark's prompts by item id, and where it comes from or why there is none.

    Values measured under the matrix's reference come first: on the items themselves, or on those of another benchmark with
    the same prompt text. Then the value carried by the benchmark's own rows.
    """
    own = [s for s in matrix.tables if s.benchmark == benchmark]
    if not own:
        return {}, f"{benchmark} was not scored"
    measured = {
        str(i.extra["prompt"]): value
        for s in matrix.tables
        if _is_measured(s) and s.benchmark != benchmark
        for i in s.items
        if i.extra.get("prompt") is not None and (value := finite(i.extra.get(KEY))) is not None
    }
    items = [i for s in reversed(own) for i in s.items]  # of several values the first policy's stays
    recorded = {i.id: value for i in items if (value := finite(i.extra.get(KEY))) is not None}
    matched = {i.id: measured[text] for i in items if (text := str(i.extra.get("prompt", ""))) in measured}
    if recorded and _is_measured(own[0]):
        return recorded, "measured under the reference with this benchmark"
    if len(matched) >= max(len(recorded), 1):
        return matched, "measured under the reference with another benchmark, matched by prompt text"
    if recorded:
        return recorded, "carried by the benchmark's rows"
    return {}, f"{KEY} is not recorded for the prompts of {benchmark}"


def _strata(differences: Floats, x: Floats) -> list[Stratum]:
    """Differences by quantile of x: equally many prompts in each, as many strata as the prompts allow, up to four."""
    parts = min(QUANTILES, x.size // PROMPTS_PER_STRATUM)
    found = []
    for number, members in enumerate(np.array_split(np.argsort(x, kind="stable"), parts) if parts > 1 else [], 1):
        cells, logs = differences[:, members], x[members]
        found.append(
            Stratum(
                quantile=number,
                of=parts,
                low=float(logs.min()),
                high=float(logs.max()),
                mean_log_prompt_perplexity=float(logs.mean()),
                difference=interval_of(crossed_mean(cells), cells),
                seed_differences=[float(v) for v in cells.mean(axis=1)],
            )
        )
    return found


def strata_summary(
    matrix: MatrixData,
    all_arms: Sequence[Arm],
    metrics: Sequence[Metric],
    baseline: str | None,
    controls: Sequence[str],
) -> Strata:
    """Every method and control against the baseline, and every method against the controls, by prompt perplexity.

    Args:
        metrics: the primary ones are used, of the report and of each benchmark.
        baseline, controls: labels of arms.

    `slope` is the change of the difference a nat of log perplexity, in the metric's unit. Its p-values are adjusted
    together (Benjamini-Hochberg).
    """
    rows: list[StrataComparison] = []
    reasons: list[str] = []
    for entry in metrics:
        if not (entry.benchmark_primary or entry.primary):
            continue
        known, source = prompt_log_perplexity(matrix, entry.benchmark)
        if not known:
            reasons.append(source)
            continue
        grids = arm_grids(all_arms, entry.benchmark, entry.metric)
        pairs = [(a, baseline) for a in grids if baseline in grids and a != baseline]
        tested = [a for a in grids if a != baseline and a not in controls]
        pairs += [(a, c) for a in tested for c in controls if c in grids]
        rows += [_pair(entry, grids, (first, str(second)), known, source, first in controls) for first, second in pairs]
    if not rows and not reasons:
        reasons.append("no two arms were scored on one benchmark")
    rows = with_corrected(rows, [row.test for row in rows])
    return Strata(comparisons=rows, reason="; ".join(dict.fromkeys(reasons)) or None)


def _pair(
    entry: Metric,
    grids: Mapping[str, ScoreGrid],
    pair: tuple[str, str],
    known: Mapping[str, float],
    source: str,
    control: bool,
) -> StrataComparison:
    seeds, ids, values = aligned([grids[label] for label in pair])
    keep = [n for n, i in enumerate(ids) if i in known]
    x = np.array([known[ids[n]] for n in keep], dtype=float)
    difference = values[0][:, keep] - values[1][:, keep]
    names, index = np.unique([grids[pair[0]].groups[ids[n]] for n in keep], return_inverse=True)
    if 0 < names.size < x.size:  # means of each group, which is one prompt
        member = np.eye(names.size)[index] / np.bincount(index)
        difference, x = difference @ member, x @ member
    mean, slope = interaction(difference, x)
    return StrataComparison(
        benchmark=entry.benchmark,
        metric=entry.metric,
        primary=entry.primary,
        source=source,
        higher_is_better=entry.higher_is_better,
        control=control,
        label=pair[0],
        against=pair[1],
        seeds=seeds,
        n=x.size,
        without_perplexity=len(ids) - len(keep),
        strata=_strata(difference, x) if difference.size else [],
        slope=slope,
        test=crossed_test(mean),
        adjusted_p=UNCORRECTED,
    )
