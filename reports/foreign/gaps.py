"""What foreign runs do not contain, and what can therefore not be said. Sentences, not codes: they are printed as they are."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from reports.foreign.sources import ForeignRun
from reports.foreign.synonyms import SYNONYMS
from reports.runs.records import RunData, finite
from reports.schema.runs import ForeignBeta, Gap
from reports.statistics.association import varies

_BETA_NAMES = ", ".join(("dynamic_beta", *SYNONYMS["dynamic_beta"]))


def _values(run: RunData, key: str) -> np.ndarray:
    return np.array([v for r in run.steps if (v := finite(r.get(key))) is not None], dtype=float)


def beta_of(run: RunData) -> ForeignBeta:
    """Whether beta varied over the logged steps, and its range (1/nat)."""
    values = _values(run, "dynamic_beta")
    if varies(values):
        return ForeignBeta(kind="dynamic", low=float(values.min()), high=float(values.max()))
    setting = next((v for k in ("pref_beta", "beta") if (v := finite(run.settings.get(k))) is not None), None)
    known = float(values[0]) if values.size else None
    if known is None and not run.settings.get("pref_beta_scale"):
        known = setting
    return ForeignBeta(kind="unknown" if known is None else "fixed", low=known, high=known)


_Lacks = Callable[[RunData, ForeignRun], bool]
#: (does the run lack it, what is missing, what that means)
_PER_RUN: tuple[tuple[_Lacks, str, str], ...] = (
    (lambda r, f: not r.steps, "no training log", "no training curves and nothing about beta"),
    (
        lambda r, f: bool(r.steps) and r.examples(["step"]) is None,
        "no rows per example",
        "no correlation of dynamic_beta per example, no shuffled null, no quantiles of prompt perplexity; over logged "
        "steps only",
    ),
    (
        lambda r, f: bool(r.steps) and not _values(r, "dynamic_beta").size,
        "no column of beta",
        f"nothing about dynamic_beta; known names: {_BETA_NAMES}",
    ),
    (
        lambda r, f: bool(r.steps) and not _values(r, "delta").size,
        "no column delta",
        "the margin free of beta is unknown; rewards/margins contains beta and does not replace it",
    ),
    (
        lambda r, f: bool(r.steps) and not _values(r, "loss_at_beta0").size,
        "no loss at one fixed beta",
        "its loss cannot be compared with that of a run of another beta",
    ),
    (
        lambda r, f: (
            bool(r.steps) and not (_values(r, "prompt_perplexity").size or _values(r, "log_prompt_perplexity").size)
        ),
        "no prompt perplexity",
        "whether beta follows it is unknown",
    ),
    (
        lambda r, f: r.seed is None and f.known_seed is None,
        "no training seed",
        "nothing can be said about the spread over seeds, and so nothing about the method: only about these checkpoints",
    ),
    (
        lambda r, f: r.seed is None and f.known_seed is not None,
        "training seed not used",
        "not every run has a seed that its baseline also has, so runs are compared one by one, as checkpoints",
    ),
    (lambda r, f: not r.scores and not f.scores, "no scores", "nothing says how good the policy is"),
    (
        lambda r, f: any(not s.items for s in f.scores.values()),
        "scores without samples",
        "documents cannot be paired: unpaired intervals, which are wider (lm-eval keeps samples with --log_samples)",
    ),
    (
        lambda r, f: r.state != "done" and f.own is None,
        "training did not end",
        "its last steps are not the method's result",
    ),
)


def gaps(runs: Sequence[tuple[ForeignRun, RunData]], names: Mapping[str, str]) -> list[Gap]:
    """What is missing: first over all runs, then run by run. `names` maps run ids to labels."""
    lacking = [(what, means, [r for f, r in runs if lacks(r, f)]) for lacks, what, means in _PER_RUN]
    trained = [r for _, r in runs if r.steps]
    betas = [beta_of(run) for run in trained] if len(trained) > 1 else []
    kinds = {b.kind for b in betas}
    if "dynamic" in kinds or len({b.low for b in betas if b.kind == "fixed"}) > 1:
        means = "losses and reward margins of these runs are not comparable: both contain beta"
        lacking.insert(0, ("beta differs", means, trained))
    elif "unknown" in kinds:
        means = "losses and reward margins can be compared only if it was the same: both contain beta"
        lacking.insert(0, ("beta is not known for every run", means, trained))
    return [
        Gap(what=what, means=means, runs=[names[r.run_id] for r in mine], all=len(mine) == len(runs))
        for what, means, mine in lacking
        if mine
    ]
