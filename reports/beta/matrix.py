"""dynamic_beta over a matrix: `summary["beta"]`. The runs are the unit; rows of one run are not independent."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from reports.beta.associations import KENDALL_ROWS
from reports.beta.cells import (
    Floats,
    between,
    binned,
    cell,
    fan,
    mean_cell,
    mean_fields,
    pooled,
    simpson,
    within,
    within_steps,
)
from reports.beta.null import DRAWS, WARNING, sigmoid_loss
from reports.beta.run import CONTAINS_BETA, GIVEN, LAG_TARGETS, STEP_TARGETS, TARGETS, Analysed, analyse_run
from reports.runs import CONTROL_RULES, Arm, MatrixData, arm_of, finite
from reports.schema import (
    ArmCollapse,
    ArmLag,
    Beta,
    BetaArm,
    BetaCurves,
    BetaGroup,
    BetaProfile,
    BetaScore,
    Cell,
    GroupAssociation,
    MatrixBeta,
)
from reports.statistics.association import within_runs

ALL = "all runs"
CURVES = ("log_prompt_perplexity", "delta")
METHODS = {
    "intervals": "Fisher z at 95 % with the effective number of points (Bretherton 1999) of the two series correlated",
    "pearson": "product-moment correlation",
    "spearman": "Pearson of the ranks; variance factor 1 + r^2/2 (Bonett and Wright 2000)",
    "kendall": f"tau-b on at most {KENDALL_ROWS} rows (seeded sample); variance factor 0.437 (Fieller 1957)",
    "xi": f"Chatterjee's xi of the other quantity given beta (2021), on at most {KENDALL_ROWS} rows; no interval",
    "detrended": "both as residuals of a straight line in the step",
    "partial": "residuals of both (of their ranks for Spearman) on what is held constant: "
    + "; ".join(f"{name}: {', '.join(of)}" for name, of in GIVEN.items()),
    "linked": "rank correlation inside runs less that with the betas of the other runs, t interval over runs",
    "within": "mean of Fisher z of the runs' Spearman, t interval over runs (too narrow where runs share a trend)",
    "between": "Spearman of the runs' means, one point a run",
    "pooled": "Spearman of all rows as if they were independent: the naive analysis, shown to be compared with",
    "simpson": "within and pooled have intervals on opposite sides of zero",
    "lags": "correlation of first differences, beta(t) with the other at t + lag; Bartlett's standard error",
    "null": f"beta shuffled among the pairs of a step, {DRAWS} times, loss recomputed from delta",
    "elasticity": "slope of log beta on log log PPL, interval clustered by example",
    "probe": "held-out R^2 of log beta, five folds of whole examples",
}


def beta_summary(matrix: MatrixData, all_arms: Sequence[Arm], known: Mapping[str, Analysed] | None = None) -> Beta:
    """What beta goes with, in every run and over them; the fields are explained in reports/README.md.

    Reads one run's rows at a time and keeps at most `run.KEPT_ROWS` of them. `known` holds runs that were analysed already, by
    run id. Raises ReportError naming a damaged file.
    """
    labels = arm_of(all_arms)
    found = [(known or {}).get(run.run_id) or analyse_run(run, labels[run.run_id]) for run in matrix.runs]
    runs = [replace(a, entry=a.entry.model_copy(update={"label": labels[a.entry.run_id]})) for a in found]
    by_label = {arm.label: [a for a in runs if a.entry.label == arm.label] for arm in all_arms}
    return Beta(
        warning=WARNING,
        methods=METHODS,
        runs=[a.entry for a in runs],
        matrix=MatrixBeta(
            groups=[_group(label, members, matrix) for label, members in {ALL: runs, **by_label}.items()],
            profiles=[_profile(arm, by_label[arm.label], matrix) for arm in all_arms],
            arms=[_drawn(label, members) for label, members in by_label.items()],
        ),
    )


def _mean(values: Floats | None) -> float | None:
    known = np.array([]) if values is None else values[np.isfinite(values)]
    return finite(known.mean()) if known.size else None


def _linked(columns: Sequence[Mapping[str, Floats]], name: str) -> Cell:
    """`within_runs` of beta and another quantity over the runs of one method; of the loss, given delta.

    The loss contains beta, so it is computed again with the betas of the other runs.
    """
    of = "delta" if name == "loss" else name
    if name in CONTAINS_BETA and name != "loss":
        return cell(None, reason="contains beta, and only the loss can be computed again with other betas")
    if any(of not in c or not np.isfinite(c[of]).all() for c in columns):
        return cell(None, reason=f"not every row of every run has {of}")
    steps = [c["step"] for c in columns]
    if len(columns) < 2 or any(not np.array_equal(steps[0], other) for other in steps):
        return cell(None, reason="takes two runs with the same number of pairs in every step")
    beta, other = (np.stack([c[key] for c in columns]) for key in ("dynamic_beta", of))
    found = within_runs(beta, other, steps[0], remake=sigmoid_loss if name == "loss" else None)
    return cell(found.value, found.low, found.high, found.note)


def _level(members: Sequence[Analysed], level: Literal["examples", "steps"], alone: bool) -> list[GroupAssociation]:
    """Linked, within, between, pooled and the flag for every target, over example rows or over logged steps.

    `alone`: the runs are of one method, so that they can be compared with one another.
    """
    rows = level == "examples"
    columns = [a.kept if rows else a.steps for a in members]
    tables = [{row.against: row for row in getattr(a.entry, level) or ()} for a in members]
    analysed = [c for c, t in zip(columns, tables, strict=True) if t]
    means = [_mean(c.get("dynamic_beta")) for c in columns]
    out = []
    for name in TARGETS if rows else STEP_TARGETS:
        found = [table[name] for table in tables if name in table]
        if not found:
            continue
        inside = within([row.raw.spearman.value for row in found])
        together = pooled([(c["dynamic_beta"], c[name]) for c in analysed if name in c])
        out.append(
            GroupAssociation(
                against=name,
                contains_beta=name in CONTAINS_BETA,
                runs=len(found),
                linked=_linked(analysed, name) if alone and rows else None,
                within=inside,
                within_detrended=within([row.detrended.spearman.value for row in found]),
                between=between(means, [_mean(c.get(name)) for c in columns]),
                pooled=together,
                simpson=simpson(inside, together, len(found)),
            )
        )
    return out


def _group(label: str, members: Sequence[Analysed], matrix: MatrixData) -> BetaGroup:
    dynamic = sum(a.entry.dynamic for a in members)
    # between runs: mean beta against the held-out score of every benchmark
    means = {a.entry.run_id: _mean(a.kept.get("dynamic_beta", a.steps["dynamic_beta"])) for a in members}
    scores = [r.scores for r in matrix.runs if r.run_id in means]
    levels = {
        (b, metric): [finite(s[b].metrics.get(metric, {}).get("value")) if b in s else None for s in scores]
        for b, metric in dict.fromkeys((b, s.primary_metric) for found in scores for b, s in found.items())
    }
    return BetaGroup(
        label=label,
        runs=len(members),
        dynamic_runs=dynamic,
        reason=None if dynamic else "no run of this group has a beta that varies",
        examples=_level(members, "examples", label != ALL),
        steps=_level(members, "steps", label != ALL),
        scores=[
            BetaScore(benchmark=benchmark, metric=metric, between=between([*means.values()], values))
            for (benchmark, metric), values in levels.items()
        ],
    )


def _profile(arm: Arm, members: Sequence[Analysed], matrix: MatrixData) -> BetaProfile:
    """What an arm's betas are like, so that a control can be seen to do what its name says."""
    known = [a for a in members if "dynamic_beta" in a.kept]
    betas = [a.kept["dynamic_beta"] for a in known]
    rows = [{row.against: row.raw.spearman.value for row in a.entry.examples or ()} for a in known]
    parents = {r.identity.get("parent") for r in arm.runs if r.identity} - {None}
    made = {i["fingerprint"]: r.method for r in matrix.runs if (i := r.identity) and "fingerprint" in i}
    return BetaProfile(
        label=arm.label,
        rule=arm.rule,
        control=arm.rule in CONTROL_RULES or bool(parents),
        parent=next((made[p] for p in parents if p in made), None),
        runs=len(known),
        mean_beta=mean_cell([_mean(beta) for beta in betas]),
        spread=mean_cell([float(np.log(np.maximum(beta, 1e-12)).std()) for beta in betas]),
        elasticity=mean_cell([a.entry.learned.elasticity.value if a.entry.learned else None for a in known]),
        with_log_perplexity=within([row.get("log_prompt_perplexity") for row in rows]),
        with_delta=within([row.get("delta") for row in rows]),
    )


def _drawn(label: str, members: Sequence[Analysed]) -> BetaArm:
    """The binned curves of one arm, for the figures."""
    known = [a for a in members if "dynamic_beta" in a.kept]
    dynamic = [a for a in known if a.entry.dynamic]
    curves = {
        name: binned([(a.kept[name], a.kept["dynamic_beta"]) for a in dynamic if name in a.kept]) for name in CURVES
    }
    return BetaArm(
        label=label,
        fan=fan([(a.kept["step"], a.kept["dynamic_beta"]) for a in known]),
        collapses=[ArmCollapse(run_id=a.entry.run_id, step=c.step) for a in members if (c := a.entry.collapse)],
        curves=BetaCurves(**curves, loss=binned([within_steps(a.kept) for a in dynamic if "loss" in a.kept])),
        lags=[lag for name in LAG_TARGETS for lag in _mean_lags(name, members)],
    )


def _mean_lags(name: str, members: Sequence[Analysed]) -> list[ArmLag]:
    """The runs' cross-correlations at each lag, averaged, with a t interval over runs and the mean band of one run."""
    found = [series for a in members for series in a.entry.lags if series.against == name and series.lags]
    shared = min((len(series.lags) // 2 for series in found), default=-1)
    return [
        ArmLag(
            against=name,
            lag=lag,
            band=float(np.mean([series.band[series.lags.index(lag)] for series in found])),
            runs=len(found),
            **mean_fields([series.values[series.lags.index(lag)] for series in found]),
        )
        for lag in range(-shared, shared + 1)
    ]
