"""dynamic_beta over a matrix: `summary["beta"]`. The runs are the unit; rows of one run are not independent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from reports.beta.across import between, mean_cell, pooled, simpson, within
from reports.beta.associations import KENDALL_ROWS
from reports.beta.cells import Floats
from reports.beta.curves import binned, fan
from reports.beta.null import DRAWS, WARNING
from reports.beta.null import MOST_ROWS as NULL_ROWS
from reports.beta.rows import MOST_ROWS
from reports.beta.run import CONTAINS_BETA, GIVEN, KEPT_ROWS, LAG_TARGETS, STEP_TARGETS, TARGETS, Analysed, analyse_run
from reports.runs.arms import Arm
from reports.runs.records import MatrixData, RunData, finite

ALL = "all runs"
CURVES = ("log_prompt_perplexity", "delta", "loss")
#: Rules that repeat another run's betas, changed; see trainers/rules.
REPEATING = ("matched_mean", "permuted", "inverse", "weight_only", "saturation_only")
METHODS = {
    "intervals": "Fisher z at 95 % with the effective number of points (Bretherton 1999) of the two series correlated",
    "pearson": "product-moment correlation",
    "spearman": "Pearson of the ranks; variance factor 1 + r^2/2 (Bonett and Wright 2000)",
    "kendall": f"tau-b on at most {KENDALL_ROWS} rows (seeded sample); variance factor 0.437 (Fieller 1957)",
    "xi": f"Chatterjee's xi of the other quantity given beta (2021), on at most {KENDALL_ROWS} rows; no interval",
    "detrended": "both as residuals of a straight line in the step",
    "partial": "residuals of both (of their ranks for Spearman) on what is held constant: "
    + "; ".join(f"{name}: {', '.join(of)}" for name, of in GIVEN.items()),
    "within": "mean of Fisher z of the runs' Spearman, t interval over runs",
    "between": "Spearman of the runs' means, one point a run",
    "pooled": "Spearman of all rows as if they were independent: the naive analysis, shown to be compared with",
    "simpson": "within and pooled have intervals on opposite sides of zero",
    "lags": "correlation of first differences, beta(t) with the other at t + lag; Bartlett's standard error",
    "null": f"beta shuffled among the pairs of a step, {DRAWS} times, loss recomputed from delta",
    "elasticity": "slope of log beta on log log PPL, interval clustered by example",
    "explained": "held-out R^2 of log beta, five folds of whole examples",
}
LIMITS = {
    "rows_per_run": MOST_ROWS,
    "rows_per_run_pooled": KEPT_ROWS,
    "rows_kendall_xi": KENDALL_ROWS,
    "rows_null": NULL_ROWS,
}


def _relabelled(known: Analysed, run: RunData, label: str) -> Analysed:
    return replace(known, run=run, entry=known.entry | {"label": label})


def beta_summary(
    matrix: MatrixData, all_arms: Sequence[Arm], known: Mapping[str, Analysed] | None = None
) -> dict[str, Any]:
    """`{"warning", "methods", "limits", "runs": [...], "matrix": {...}}`; the keys are explained in reports/README.md.

    Reads one run's rows at a time and keeps at most KEPT_ROWS of them. `known` holds runs that were analysed already, by
    run id. Raises ReportError naming a damaged file.
    """
    labels = {run.run_id: arm.label for arm in all_arms for run in arm.runs}
    done = known or {}
    runs = [
        _relabelled(done[run.run_id], run, labels[run.run_id])
        if run.run_id in done
        else analyse_run(run, labels[run.run_id])
        for run in matrix.runs
    ]
    by_label = {arm.label: [a for a in runs if labels[a.run.run_id] == arm.label] for arm in all_arms}
    return {
        "warning": WARNING,
        "methods": METHODS,
        "limits": LIMITS,
        "runs": [a.entry for a in runs],
        "matrix": {
            "groups": [_group(ALL, runs), *(_group(label, members) for label, members in by_label.items())],
            "profiles": [_profile(arm, by_label[arm.label], matrix) for arm in all_arms],
            "arms": [_drawn(label, members) for label, members in by_label.items()],
        },
    }


def _mean(values: Floats | None) -> float | None:
    if values is None:
        return None
    known = values[np.isfinite(values)]
    return finite(known.mean()) if known.size else None


def _level(members: Sequence[Analysed], level: str, targets: Sequence[str]) -> list[dict[str, Any]]:
    """Within, between, pooled and the flag for every target, over example rows or over logged steps."""
    dynamic = [a for a in members if a.entry[level]]
    tables = [{row["against"]: row for row in a.entry[level]} for a in dynamic]
    columns = [a.kept if level == "examples" else a.steps for a in members]
    means = [_mean(c.get("dynamic_beta")) for c in columns]
    out = []
    for name in targets:
        found = [t[name] for t in tables if name in t]
        if not found:
            continue
        parts = [
            (c["dynamic_beta"], c[name]) for a, c in zip(members, columns, strict=True) if a in dynamic and name in c
        ]
        raw = within([row["raw"]["spearman"]["value"] for row in found])
        together = pooled(parts)
        out.append(
            {
                "against": name,
                "contains_beta": name in CONTAINS_BETA,
                "runs": len(found),
                "within": raw,
                "within_detrended": within([row["detrended"]["spearman"]["value"] for row in found]),
                "within_partial": {
                    key: within([row["partial"][key]["spearman"]["value"] for row in found]) for key in GIVEN
                },
                "between": between(means, [_mean(c.get(name)) for c in columns]),
                "pooled": together,
                "simpson": simpson(raw, together, len(found)),
            }
        )
    return out


def _scores(members: Sequence[Analysed]) -> list[dict[str, Any]]:
    """Between runs: mean beta against the held-out score of every benchmark."""
    means = [_mean(a.kept.get("dynamic_beta", a.steps["dynamic_beta"])) for a in members]
    names = dict.fromkeys((b, s.primary_metric) for a in members for b, s in a.run.scores.items())
    out = []
    for benchmark, metric in names:
        values = [
            None
            if benchmark not in a.run.scores
            else finite(a.run.scores[benchmark].metrics.get(metric, {}).get("value"))
            for a in members
        ]
        out.append({"benchmark": benchmark, "metric": metric, "between": between(means, values)})
    return out


def _group(label: str, members: Sequence[Analysed]) -> dict[str, Any]:
    dynamic = sum(a.entry["dynamic"] for a in members)
    return {
        "label": label,
        "runs": len(members),
        "dynamic_runs": dynamic,
        "reason": None if dynamic else "no run of this group has a beta that varies",
        "examples": _level(members, "examples", TARGETS),
        "steps": _level(members, "steps", STEP_TARGETS),
        "scores": _scores(members),
    }


def _spearman(entry: dict[str, Any], against: str) -> float | None:
    row = next((r for r in entry["examples"] or [] if r["against"] == against), None)
    return None if row is None else row["raw"]["spearman"]["value"]


def _profile(arm: Arm, members: Sequence[Analysed], matrix: MatrixData) -> dict[str, Any]:
    """What an arm's betas are like, so that a control can be seen to do what its name says."""
    known = [a for a in members if "dynamic_beta" in a.kept]
    parents = {a.run.identity.get("parent") for a in members if a.run.identity} - {None}
    labels = {a["fingerprint"]: r for r in matrix.runs if (a := r.identity) and "fingerprint" in a}
    parent = next((labels[p].method for p in parents if p in labels), None)
    return {
        "label": arm.label,
        "rule": arm.rule,
        "control": arm.rule in REPEATING or bool(parents),
        "parent": parent,
        "runs": len(known),
        "mean_beta": mean_cell([_mean(a.kept["dynamic_beta"]) for a in known]),
        "spread": mean_cell([float(np.log(np.maximum(a.kept["dynamic_beta"], 1e-12)).std()) for a in known]),
        "elasticity": mean_cell(
            [a.entry["learned"]["elasticity"]["value"] if a.entry["learned"] else None for a in known]
        ),
        "with_log_perplexity": within([_spearman(a.entry, "log_prompt_perplexity") for a in known]),
        "with_delta": within([_spearman(a.entry, "delta") for a in known]),
    }


def _drawn(label: str, members: Sequence[Analysed]) -> dict[str, Any]:
    """The binned curves of one arm, for the figures."""
    known = [a for a in members if "dynamic_beta" in a.kept]
    dynamic = [a for a in known if a.entry["dynamic"]]
    curves = {
        name: binned([(a.kept[name], a.kept["dynamic_beta"]) for a in dynamic if name in a.kept]) for name in CURVES
    }
    return {
        "label": label,
        "fan": fan([(a.kept["step"], a.kept["dynamic_beta"]) for a in known]),
        "collapses": [
            {"run_id": a.run.run_id, "step": a.entry["collapse"]["step"]} for a in members if a.entry["collapse"]
        ],
        "curves": curves,
        "lags": [lag for name in LAG_TARGETS for lag in _mean_lags(name, members)],
    }


def _mean_lags(name: str, members: Sequence[Analysed]) -> list[dict[str, Any]]:
    """The runs' cross-correlations at each lag, averaged, with a t interval over runs and the mean band of one run."""
    found = [entry for a in members for entry in a.entry["lags"] if entry["against"] == name and entry["lags"]]
    shared = min((len(e["lags"]) // 2 for e in found), default=0)
    out = []
    for lag in range(-shared, shared + 1) if found else []:
        at = [e["lags"].index(lag) for e in found]
        mean = mean_cell([e["values"][i] for e, i in zip(found, at, strict=True)])
        band = float(np.mean([e["band"][i] for e, i in zip(found, at, strict=True)]))
        ends = {"mean": mean["value"], "low": mean["low"], "high": mean["high"], "reason": mean["reason"]}
        out.append({"against": name, "lag": lag, **ends, "band": band, "runs": len(found)})
    return out
