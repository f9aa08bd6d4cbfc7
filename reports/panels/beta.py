"""The figures about dynamic_beta, drawn from `summary.beta` alone."""

from collections.abc import Iterable
from functools import partial

from pydantic import BaseModel

from reports.panels import beta_drawing
from reports.panels.base import Panel
from reports.runs import MatrixData, grouped
from reports.schema import Summary
from reports.writing import Row

WHICH = "Of many arms the first eight are drawn, one of each method first; the table has them all."


def fan_rows(_: MatrixData, summary: Summary) -> list[Row]:
    """Quantiles of beta per arm and stretch of steps, then one row per collapse; nothing where no beta varies."""
    dynamic = {g.label: bool(g.dynamic_runs) for g in summary.beta.matrix.groups[1:]}
    return [
        {"label": arm.label, "dynamic": dynamic[arm.label], "kind": kind, **dict(point)}
        for arm in summary.beta.matrix.arms
        for kind, points in (("quantiles", arm.fan), ("collapse", [c for c in arm.collapses if c.step is not None]))
        for point in points
        if any(dynamic.values())
    ]


def curve_rows(name: str, _: MatrixData, summary: Summary) -> list[Row]:
    """Rows of one binned curve: beta in bins of `name`."""
    return [
        {"label": arm.label, "against": name, **dict(point)}
        for arm in summary.beta.matrix.arms
        for point in getattr(arm.curves, name)
    ]


def lag_rows(_: MatrixData, summary: Summary) -> list[Row]:
    """Mean cross-correlation per arm, quantity and lag."""
    return [{"label": arm.label, **dict(point)} for arm in summary.beta.matrix.arms for point in arm.lags]


def _cells(record: BaseModel, names: Iterable[str]) -> Row:
    """Value and interval of some cells of a record, in columns NAME, NAME_low and NAME_high."""
    return {
        f"{name}{end}": (found := getattr(record, name)) and getattr(found, key)
        for name in names
        for end, key in (("", "value"), ("_low", "low"), ("_high", "high"))
    }


def control_rows(_: MatrixData, summary: Summary) -> list[Row]:
    """What the betas of every arm are like; nothing where there is no control."""
    profiles = [p for p in summary.beta.matrix.profiles if p.runs]
    return [
        {key: getattr(p, key) for key in ("label", "rule", "control", "parent", "runs")}
        | _cells(p, beta_drawing.PROFILE)
        for p in profiles
        if any(one.control for one in profiles)
    ]


_WAYS = ("linked", "within", "within_detrended", "pooled", "between")


def association_rows(_: MatrixData, summary: Summary) -> list[Row]:
    """Within-run, detrended, pooled and between-run Spearman per arm and quantity, and the null of the loss."""
    runs = summary.beta.runs
    nulls = grouped((run.label, run.null) for run in runs if run.null and run.null.mean is not None)
    rows = []
    for group in summary.beta.matrix.groups[1:]:
        for row in group.examples:
            entry = {"label": group.label, "against": row.against, "contains_beta": row.contains_beta} | _cells(
                row, _WAYS
            )
            if mine := nulls.get(group.label) if row.against == "loss" else None:
                entry |= {f"null_{k}": sum(getattr(n, k) for n in mine) / len(mine) for k in ("mean", "low", "high")}
            rows.append(entry | {"simpson": row.simpson.flag, "runs": row.runs})
    return rows


_CURVE_COLUMNS = ("label", "against", "x", "n", "runs", "mean", "low", "high", "q10", "q90", "reason")


_NONE = "No run has a beta that varies."
_BINS = "Mean over the runs of a method in bins of equally many pairs; bars: 95 % t interval over runs. "
#: Of sections "beta_did" and "beta", in the order of the page.
PANELS = [
    Panel(
        "beta_fan",
        "Beta over steps",
        "beta_did",
        ("label", "kind", "step", "n", "q05", "q25", "q50", "q75", "q95", "run_id", "dynamic"),
        fan_rows,
        beta_drawing.fan,
        "Median of beta over the pairs of all seeds; band, with up to three methods: the middle half. Dotted: a fixed beta. "
        "A cross: the step at which a learned beta was found collapsed. " + WHICH,
        _NONE,
    ),
    Panel(
        "beta_perplexity",
        "Beta against prompt perplexity",
        "beta_did",
        _CURVE_COLUMNS,
        partial(curve_rows, "log_prompt_perplexity"),
        partial(beta_drawing.curve, "log prompt perplexity (nats a token)", beta_drawing.BETA),
        _BINS + WHICH,
        "No run has both a beta that varies and prompt perplexities.",
    ),
    Panel(
        "beta_loss",
        "Loss against beta within steps",
        "beta_did",
        _CURVE_COLUMNS,
        partial(curve_rows, "loss"),
        partial(beta_drawing.curve, "log beta less its step's mean", "loss less its step's mean (nats)"),
        _BINS + "The loss contains beta, so part of any pattern is algebra. " + WHICH,
        _NONE,
    ),
    Panel(
        "beta_associations",
        "What beta goes with",
        "beta",
        (
            "label",
            "against",
            "contains_beta",
            "runs",
            *(f"{n}{e}" for n in _WAYS for e in ("", "_low", "_high")),
            "null_mean",
            "null_low",
            "null_high",
            "simpson",
        ),
        association_rows,
        beta_drawing.associations,
        "Spearman correlation of beta over pairs. Filled: inside runs, beyond what the runs of a method share (trend in the "
        "step, algebra of the loss), with its 95 % t interval over runs; without an interval: mean of the runs' own. Hollow: all "
        "rows pooled as if independent, which mixes differences between runs into it; a ring around both warns of opposite "
        "signs (Simpson). Starred quantities contain beta, so part of theirs is algebra; the grey box is the loss's null, "
        "with beta shuffled among the pairs of a step. " + WHICH,
        _NONE,
    ),
    Panel(
        "beta_delta",
        "Beta against the margin delta",
        "beta",
        _CURVE_COLUMNS,
        partial(curve_rows, "delta"),
        partial(beta_drawing.curve, "log-ratio margin delta (nats), free of beta", beta_drawing.BETA),
        _BINS + "Delta does not contain beta, so this is what to read instead of the loss. " + WHICH,
        _NONE,
    ),
    Panel(
        "beta_lags",
        "Does beta move first?",
        "beta",
        ("label", "against", "lag", "mean", "low", "high", "band", "runs", "reason"),
        lag_rows,
        beta_drawing.lags,
        "Correlation of step-to-step changes of mean beta with those of another quantity `lag` logged steps later, mean over "
        "runs; right of zero beta moved first. Bars: 95 % t interval over runs. Grey band: 95 % for one lag of one run whose "
        "two series are independent. Lag 0 of the loss is partly algebra. " + WHICH,
        "No run logged beta at enough steps, or none varies.",
    ),
    Panel(
        "beta_controls",
        "What the controls did to beta",
        "beta",
        (
            "label",
            "rule",
            "control",
            "parent",
            "runs",
            *(f"{n}{e}" for n in beta_drawing.PROFILE for e in ("", "_low", "_high")),
        ),
        control_rows,
        beta_drawing.controls,
        "A control is sound if it changes only what its name says: permuted keeps mean and spread and loses the link with "
        "perplexity; inverse keeps the mean and turns the sign; matched_mean keeps the mean and has no spread. Mean over "
        "runs, 95 % t interval; a quantity that is undefined (a fixed beta has no correlation) is not drawn. " + WHICH,
        "No control was run.",
    ),
]
