"""Numbers with their intervals, or null with the reason, of one run and over many; and binned curves for the figures."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from reports.runs.records import finite
from reports.schema.beta import BetaQuantile, Cell, CurvePoint, FanPoint, Simpson
from reports.statistics.association import varies
from reports.statistics.paired import seed_interval

# The smallest result here, a number with its interval or null with the reason, of one run and over many.
#
# Over many runs: inside runs, between runs, all rows thrown together, and whether they disagree.


Floats = NDArray[np.float64]

#: Variance factors of Fisher's z: Fieller (1957) for Kendall; Spearman's depends on the value (Bonett and Wright 2000).
_KENDALL = 0.437
NORMAL = float(stats.norm.ppf(0.975))


def cell(value: float | None, low: float | None = None, high: float | None = None, reason: str | None = None) -> Cell:
    """`reason` says why value or interval is null; a number that is not finite becomes null. Six digits are kept."""
    numbers = [None if v is None or not math.isfinite(v) else float(f"{v:.6g}") for v in (value, low, high)]
    if None not in numbers:
        reason = None
    elif reason is None:
        reason = "not defined for these data" if numbers[0] is None else "no interval is given for this statistic"
    return Cell(value=numbers[0], low=numbers[1], high=numbers[2], reason=reason)


def fisher_cell(value: float, effective: float, kind: str, held: int = 0) -> Cell:
    """A correlation with its 95 % Fisher z interval from `effective` independent points, `held` of them spent on controls."""
    factor = _KENDALL if kind == "kendall" else 1 + value**2 / 2 if kind == "spearman" else 1.0
    freedom = effective - held - (4 if kind == "kendall" else 3)
    if freedom <= 1:
        return cell(value, reason=f"worth {effective:.1f} independent points: too few for an interval")
    half = NORMAL * math.sqrt(factor / freedom)
    z = math.atanh(min(max(value, -1 + 1e-12), 1 - 1e-12))
    return cell(value, min(math.tanh(z - half), value), max(math.tanh(z + half), value))


FEWEST_RUNS = 4  # for a correlation of one point per run


def mean_cell(values: Sequence[float | None]) -> Cell:
    """Mean of one value per run with a t interval over runs."""
    inner = seed_interval([v for v in values if v is not None])
    return cell(inner.value, inner.low, inner.high, inner.note)


def mean_fields(values: Sequence[float | None]) -> dict[str, Any]:
    """`mean_cell` as fields of a point of a curve."""
    found = mean_cell(values)
    return {"mean": found.value, "low": found.low, "high": found.high, "reason": found.reason}


def within(correlations: Sequence[float | None]) -> Cell:
    """Mean of Fisher's z over runs, one correlation each, with a t interval over runs, as a correlation."""
    z = [float(np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12))) for r in correlations if r is not None]
    inner = seed_interval(z)
    value, low, high = (None if v is None else float(np.tanh(v)) for v in (inner.value, inner.low, inner.high))
    return cell(value, low, high, "no run has this correlation" if not z else inner.note)


def between(x: Sequence[float | None], y: Sequence[float | None]) -> Cell:
    """Spearman of two values per run, one point a run."""
    pairs = np.array([(a, b) for a, b in zip(x, y, strict=True) if a is not None and b is not None], dtype=float)
    if len(pairs) < FEWEST_RUNS:
        return cell(None, reason=f"{len(pairs)} run(s) with both; a correlation between runs needs {FEWEST_RUNS}")
    if not varies(pairs[:, 0]) or not varies(pairs[:, 1]):
        return cell(None, reason="the runs do not differ in one of the two")
    return fisher_cell(float(stats.spearmanr(pairs).statistic), len(pairs), "spearman")


def pooled(parts: Sequence[tuple[Floats, Floats]]) -> Cell:
    """Spearman over the rows of all runs thrown together, as if they were independent: the naive analysis."""
    if not parts:
        return cell(None, reason="no rows")
    x, y = np.concatenate(parts, axis=1)
    keep = np.isfinite(x) & np.isfinite(y)
    x, y = x[keep], y[keep]
    if x.size < 4 or not varies(x) or not varies(y):
        return cell(None, reason="fewer than four rows, or one of the two does not vary")
    rho = float(np.clip(np.corrcoef(stats.rankdata(x), stats.rankdata(y))[0, 1], -1, 1))
    return fisher_cell(rho, x.size, "spearman")


def simpson(inside: Cell, together: Cell, runs: int) -> Simpson:
    """Whether pooling the rows turns the sign around: both intervals exclude zero, on opposite sides.

    The flag is null where the question cannot be asked: one run, or no interval inside runs.
    """
    if runs < 2:
        return Simpson(flag=None, reason="a single run: nothing to pool")
    if inside.low is None or inside.high is None or together.low is None or together.high is None:
        return Simpson(flag=None, reason=inside.reason or together.reason)
    return Simpson(flag=inside.low > 0 > together.high or together.low > 0 > inside.high, reason=None)


# Binned beta for the figures: its quantiles over steps, and its mean in bins of another quantity.


QUANTILES = {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}
STEP_BINS = 30
BINS = 12


def fan(parts: Sequence[tuple[Floats, Floats]], bins: int = STEP_BINS) -> list[FanPoint]:
    """Quantiles of beta over the rows of all runs in each stretch of steps; parts are (step, beta) of each run, shape (n,)."""
    if not parts:
        return []
    step, beta = np.concatenate(parts, axis=1)
    names = np.unique(step)
    edges = names if names.size <= bins else np.quantile(names, np.linspace(0, 1, bins + 1)[:-1])
    label = np.searchsorted(edges, step, side="right") - 1
    return [
        FanPoint(
            step=float(step[inside].mean()),
            n=int(inside.sum()),
            **dict(zip(QUANTILES, np.quantile(beta[inside], list(QUANTILES.values())).tolist(), strict=True)),
        )
        for inside in (label == k for k in np.unique(label))
    ]


def _bin_of(values: Floats, count: int) -> NDArray[np.int64]:
    """The bin of each value, of at most so many that hold equally many; an edge belongs to the bin below it."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, count + 1)))
    return np.clip(np.searchsorted(edges, values, side="left") - 1, 0, max(edges.size - 2, 0))


def binned(parts: Sequence[tuple[Floats, Floats]], bins: int = BINS) -> list[CurvePoint]:
    """Mean of y in bins of x that hold equally many rows; parts are (x, y) of each run, shape (n,).

    `mean` is the mean of the runs' means, with a t interval over runs; `q10` and `q90` are of the rows. Rows that are
    not finite are left out; fewer bins come back when x repeats or rows are few.
    """
    rows = [np.array([np.full(x.size, run), x, y]) for run, (x, y) in enumerate(parts)]
    run, x, y = np.concatenate([np.empty((3, 0)), *rows], axis=1)
    run, x, y = (column[np.isfinite(x) & np.isfinite(y)] for column in (run, x, y))
    label = _bin_of(x, int(np.clip(x.size // 10, 1, bins))) if x.size else np.array([], dtype=int)
    points = []
    for inside in (label == k for k in np.unique(label)):
        means = [float(y[inside & (run == one)].mean()) for one in np.unique(run[inside])]
        q10, q90 = np.quantile(y[inside], [0.1, 0.9]).tolist()
        points.append(
            CurvePoint(
                x=float(x[inside].mean()),
                n=int(inside.sum()),
                runs=len(means),
                **mean_fields(means),
                q10=q10,
                q90=q90,
            )
        )
    return points


def within_steps(columns: Mapping[str, Floats]) -> tuple[Floats, Floats]:
    """Log beta and the loss of every row, each less its mean over the rows of its step, shape (n,) each."""
    finite_rows = np.isfinite(columns["loss"]) & (columns["dynamic_beta"] > 0)
    step, loss, beta = (columns[name][finite_rows] for name in ("step", "loss", "dynamic_beta"))
    _, at, count = np.unique(step, return_inverse=True, return_counts=True)
    x, y = (v - (np.bincount(at, v) / count)[at] for v in (np.log(beta), loss))
    return x, y


# What beta, loss and margin are in each fifth of the prompt perplexities.


def perplexity_quantiles(columns: Mapping[str, Floats], quantiles: int = 5) -> list[BetaQuantile]:
    """Per quantile of log prompt perplexity: rows, mean beta, losses, delta, and the share of pairs with delta > 0.

    `columns` maps names to arrays of shape (n,); a column that is absent gives nulls. Rows without a perplexity (one-token
    prompts) are left out. Fewer bins come back when values repeat, none without perplexities.
    """
    log_ppl = columns.get("log_prompt_perplexity", np.array([]))
    known = np.isfinite(log_ppl)
    if not known.any():
        return []
    values = {name: column[known] for name, column in columns.items()}
    if "delta" in values:
        values["accuracy"] = np.where(np.isfinite(values["delta"]), values["delta"] > 0, np.nan)
    log_ppl = values["log_prompt_perplexity"]
    label = _bin_of(log_ppl, quantiles)
    names = ("dynamic_beta", "loss", "loss_at_beta0", "delta", "accuracy")
    return [
        BetaQuantile(
            quantile=number,
            n=int(inside.sum()),
            log_prompt_perplexity_low=float(log_ppl[inside].min()),
            log_prompt_perplexity_high=float(log_ppl[inside].max()),
            **{name: finite(np.mean(values[name][inside])) if name in values else None for name in names},
        )
        for number, inside in enumerate((label == k for k in np.unique(label)), start=1)
    ]
