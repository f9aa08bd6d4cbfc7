"""What became of beta in one run: how it moved while training, whether it collapsed, and what it is a function of."""

import numpy as np
from numpy.typing import NDArray
from scipy import special

from reports.beta.cells import Floats, cell
from reports.runs.records import RunData
from reports.schema import BetaLevel, Cell, Collapse, Drift, Probe
from reports.statistics.association import varies
from trainers.common.training_schema import BETA_PROBE

# How beta moved while training: its level, its spread, and whether it collapsed.


PART = 0.1  # the first and the last tenth of the steps are compared


def drift(beta: Floats, steps: Floats) -> Drift:
    """Arrays of shape (n,), in order of step. Changes are of log beta: 0.1 is about 10 %.

    `level` and `spread`: mean and standard deviation of log beta in the first and the last tenth of the steps; `slope`: change
    of mean log beta per 100 steps.
    """
    log = np.log(np.maximum(beta, 1e-12))
    span = steps[-1] - steps[0] if steps.size else 0.0
    if beta.size < 4 or span <= 0:
        reason = "rows of fewer than two steps"
        return Drift(first=None, last=None, slope=cell(None, reason=reason), reason=reason)
    names, label = np.unique(steps, return_inverse=True)
    return Drift(
        first=_level(log[steps <= steps[0] + PART * span]),
        last=_level(log[steps >= steps[-1] - PART * span]),
        slope=_slope(names, np.bincount(label, weights=log) / np.bincount(label)),
        reason=None,
    )


def _level(log: Floats) -> BetaLevel:
    return BetaLevel(level=float(log.mean()), spread=float(log.std()), n=log.size)


def _slope(steps: Floats, means: Floats) -> Cell:
    """Per 100 steps, the interval widened by the residuals' first autocorrelation: (1 + r) / (1 - r) on the variance."""
    if steps.size < 8:
        return cell(None, reason="fewer than eight steps")
    t = steps - steps.mean()
    energy = float(t @ t)
    slope = float(t @ means) / energy
    left = means - means.mean() - slope * t
    power = float(left @ left)
    if power <= 1e-18 * steps.size:
        return cell(100 * slope, 100 * slope, 100 * slope)
    # r is biased down by about (1 + 4 r) / n around a fitted line (Marriott and Pope 1954)
    r = float(left[1:] @ left[:-1]) / power
    r = min(max((r + 1 / steps.size) / (1 - 4 / steps.size), 0.0), 0.99)
    worth = max(steps.size * (1 - r) / (1 + r) - 2, 1.0)
    error = np.sqrt(power / (steps.size - 2) / energy * (1 + r) / (1 - r))
    half = float(special.stdtrit(worth, 0.975)) * float(error)
    return cell(100 * slope, 100 * (slope - half), 100 * (slope + half))


def collapse_of(run: RunData) -> Collapse | None:
    """The first logged step at which beta was found collapsed (at a bound, or its variance gone), and why."""
    hits = [r for r in run.history if r.get("beta_collapse")]
    if not hits:
        return None
    return Collapse(step=hits[0].get("step"), reason=str(hits[0]["beta_collapse"]), records=len(hits))


# What a beta is a function of: perplexity, and what a hidden state adds to it.


FEWEST = 20
RIDGE = 0.01


def elasticity(beta: Floats, log_ppl: Floats, example: NDArray[np.int64]) -> Cell:
    """Slope of log beta on log log PPL, arrays of shape (n,): 1 for beta ~ log PPL, -1 for its inverse, 0 for no link.

    The interval is the sandwich's, clustered by example (an example is seen once per epoch), with the CR1 factor and
    t quantiles with clusters - 1 degrees of freedom (Cameron and Miller 2015).
    """
    ok = np.isfinite(beta) & (beta > 0) & np.isfinite(log_ppl) & (log_ppl > 0)
    x, y, group = np.log(log_ppl[ok]), np.log(beta[ok]), example[ok]
    if x.size < FEWEST or not varies(x):
        return cell(None, reason=f"fewer than {FEWEST} rows with a perplexity, or it does not vary")
    x = x - x.mean()
    energy = float(x @ x)
    slope = float(x @ (y - y.mean())) / energy
    residual = y - y.mean() - slope * x
    _, label = np.unique(group, return_inverse=True)
    clusters = int(label.max()) + 1
    if clusters < 3:
        return cell(slope, reason="fewer than three examples: no interval")
    scores = np.bincount(label, weights=x * residual)
    correction = clusters / (clusters - 1) * (x.size - 1) / (x.size - 2)
    error = float(np.sqrt(correction * (scores @ scores))) / energy
    half = float(special.stdtrit(clusters - 1, 0.975)) * error
    return cell(slope, slope - half, slope + half)


def held_out_r2(y: Floats, predictors: Floats, groups: NDArray[np.int64], ridge: float = 0.0, folds: int = 5) -> Cell:
    """Share of the variance of y, shape (n,), that a linear regression on predictors, shape (n, p), explains out of sample.

    Folds are of whole groups (seeded), so no example is in both parts. `ridge` is the penalty in units of n, on standardised
    predictors. Null with a reason below 5 rows per coefficient. May be negative: worse than the mean.
    """
    n, p = predictors.shape
    names, label = np.unique(groups, return_inverse=True)
    if n < 5 * (p + 1) or names.size < folds:
        return cell(None, reason=f"{n} rows of {names.size} examples are too few for {p} predictors")
    if not varies(y):
        return cell(None, reason="beta does not vary")
    fold = np.random.default_rng(0).permutation(names.size)[label] % folds
    error = total = 0.0
    for k in range(folds):
        train, test = fold != k, fold == k
        centre, scale = predictors[train].mean(0), predictors[train].std(0)
        scale = np.where(scale > 1e-12, scale, np.inf)
        a, b = (predictors[train] - centre) / scale, (predictors[test] - centre) / scale
        level = float(y[train].mean())
        gram = a.T @ a + max(ridge, 1e-10) * train.sum() * np.eye(p)
        weights = np.linalg.solve(gram, a.T @ (y[train] - level))
        error += float(np.sum((y[test] - level - b @ weights) ** 2))
        total += float(np.sum((y[test] - level) ** 2))
    return cell(1 - error / total, reason="no interval is given for a held-out share")


def probe(run: RunData) -> Probe:
    """Held-out R^2 of log beta on log PPL, on the principal components of the hidden state, and on both.

    Reads beta_probe.parquet, which training leaves for rules that look at hidden states (see trainers/trainer/probe.py). The rows
    are those of the last pairs trained; folds are of whole examples. Null with a reason where there is no file.
    """
    frame = run.examples(("dynamic_beta", "log_prompt_perplexity", "example_id"), None, BETA_PROBE)
    if frame is None:
        reason = "no hidden states were recorded: the rule reads none, or the run is an older one"
        return Probe(n=0, components=0, perplexity=None, hidden=None, both=None, reason=reason)
    states = frame[sorted(name for name in map(str, frame.columns) if name.startswith("pc_"))].to_numpy(dtype=float)
    beta, log_ppl = (frame[name].to_numpy(dtype=float) for name in ("dynamic_beta", "log_prompt_perplexity"))
    ok = (beta > 0) & np.isfinite(log_ppl) & np.isfinite(states).all(axis=1)
    _, example = np.unique(frame["example_id"][ok].astype(str), return_inverse=True)
    ppl, hidden = log_ppl[ok, None], states[ok]
    predictors = {"perplexity": ppl, "hidden": hidden, "both": np.hstack([ppl, hidden])}
    shares = {name: held_out_r2(np.log(beta[ok]), x, example, RIDGE) for name, x in predictors.items()}
    return Probe(n=int(ok.sum()), components=states.shape[1], **shares, reason=None)
