"""The figures about dynamic_beta, drawn from `summary.beta` alone."""

from __future__ import annotations

from collections.abc import Callable

from reports.panels import beta_drawing
from reports.panels.base import Panel
from reports.runs.records import MatrixData
from reports.schema import BetaArm, LossNull, Summary
from reports.writing import Row

WHICH = "Of many arms the first eight are drawn, one of each method first; the table has them all."


def _arms(summary: Summary) -> list[BetaArm]:
    return summary.beta.matrix.arms


def fan_rows(_: MatrixData, summary: Summary) -> list[Row]:
    """Quantiles of beta per arm and stretch of steps, then one row per collapse; nothing where no beta varies."""
    groups = {g.label: g for g in summary.beta.matrix.groups[1:]}
    if not any(g.dynamic_runs for g in groups.values()):
        return []
    rows = []
    for arm in _arms(summary):
        head = {"label": arm.label, "dynamic": bool(groups[arm.label].dynamic_runs)}
        rows += [head | {"kind": "quantiles", **dict(point)} for point in arm.fan]
        rows += [head | {"kind": "collapse", **dict(mark)} for mark in arm.collapses if mark.step is not None]
    return rows


def curve_rows(name: str) -> Callable[[MatrixData, Summary], list[Row]]:
    """Rows of one binned curve: beta in bins of `name`."""

    def rows(_: MatrixData, summary: Summary) -> list[Row]:
        return [
            {"label": arm.label, "against": name, **dict(point)}
            for arm in _arms(summary)
            for point in getattr(arm.curves, name)
        ]

    return rows


def lag_rows(_: MatrixData, summary: Summary) -> list[Row]:
    """Mean cross-correlation per arm, quantity and lag."""
    return [{"label": arm.label, **dict(point)} for arm in _arms(summary) for point in arm.lags]


def control_rows(_: MatrixData, summary: Summary) -> list[Row]:
    """What the betas of every arm are like; nothing where there is no control."""
    profiles = summary.beta.matrix.profiles
    if not any(p.control and p.runs for p in profiles):
        return []
    return [
        {
            "label": p.label,
            "rule": p.rule,
            "control": p.control,
            "parent": p.parent,
            "runs": p.runs,
            **{
                f"{name}{end}": getattr(getattr(p, name), key)
                for name in beta_drawing.PROFILE
                for end, key in (("", "value"), ("_low", "low"), ("_high", "high"))
            },
        }
        for p in profiles
        if p.runs
    ]


def association_rows(_: MatrixData, summary: Summary) -> list[Row]:
    """Within-run, detrended, pooled and between-run Spearman per arm and quantity, and the null of the loss."""
    nulls: dict[str, list[LossNull]] = {}
    for run in summary.beta.runs:
        if run.null and run.null.mean is not None:
            nulls.setdefault(run.label, []).append(run.null)
    rows = []
    for group in summary.beta.matrix.groups[1:]:
        for row in group.examples:
            entry = {"label": group.label, "against": row.against, "contains_beta": row.contains_beta}
            for name in ("linked", "within", "within_detrended", "pooled", "between"):
                cell = getattr(row, name)
                entry |= {
                    name: cell and cell.value,
                    f"{name}_low": cell and cell.low,
                    f"{name}_high": cell and cell.high,
                }
            if row.against == "loss" and group.label in nulls:
                mine = nulls[group.label]
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
        curve_rows("log_prompt_perplexity"),
        beta_drawing.curve("log prompt perplexity (nats a token)"),
        _BINS + WHICH,
        "No run has both a beta that varies and prompt perplexities.",
    ),
    Panel(
        "beta_loss",
        "Loss against beta within steps",
        "beta_did",
        _CURVE_COLUMNS,
        curve_rows("loss"),
        beta_drawing.curve("log beta less its step's mean", "loss less its step's mean (nats)"),
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
            "linked",
            "linked_low",
            "linked_high",
            "within",
            "within_low",
            "within_high",
            "within_detrended",
            "within_detrended_low",
            "within_detrended_high",
            "pooled",
            "pooled_low",
            "pooled_high",
            "between",
            "between_low",
            "between_high",
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
        curve_rows("delta"),
        beta_drawing.curve("log-ratio margin delta (nats), free of beta"),
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
