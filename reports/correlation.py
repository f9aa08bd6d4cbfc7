"""dynamic_beta against loss, per run, with what that number cannot say beside it.

Part of the link is algebra: the loss is -log sigmoid(beta * delta), so it contains beta. The null permutes beta across
the pairs of a step and recomputes the loss from the recorded delta: whatever correlation is left owes nothing to which
pair got which beta.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from .records import RunData, finite
from .statistics.association import chatterjee_xi, correlation, varies
from .statistics.autocorrelation import detrend
from .statistics.results import undefined

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

WARNING = (
    "Part of this correlation is algebra, not evidence: the loss is -log sigmoid(beta * delta) and so contains beta. "
    "Compare it with the null, where beta is shuffled among the pairs of a step, and read the beta-free rows "
    "(delta, loss at the fixed beta, prompt perplexity) first."
)
FIXED = "beta is fixed in this run: a constant has no correlation"
NO_ROWS = "the run recorded no example metrics"
#: Beta-free quantities that dynamic_beta is set against, beside the loss that was asked for.
TARGETS = ("loss", "delta", "loss_at_beta0", "log_prompt_perplexity")
STEP_TARGETS = ("loss", "delta", "loss_at_beta0", "log_prompt_perplexity", "rewards/accuracies", "grad_norm")
NULL_DRAWS = 300
MAX_NULL_ROWS = 8_000  # more rows change the null's third decimal and cost seconds
CHUNK = 500_000  # values permuted at once; bounds memory
BLOCK = 8  # rows that exchange beta where a step holds a single pair


def sigmoid_loss(beta: Floats, delta: Floats) -> Floats:
    """-log sigmoid(beta * delta), elementwise and without overflow."""
    loss: Floats = np.logaddexp(0.0, -beta * delta)
    return loss


def _blocks(steps: NDArray[Any]) -> tuple[NDArray[np.int64], str]:
    """Group label per row within which beta may be exchanged, and how to describe it."""
    _, label, counts = np.unique(steps, return_inverse=True, return_counts=True)
    if np.median(counts) >= 2:
        return label.astype(np.int64), "within a step"
    order = np.argsort(steps, kind="stable")
    blocks = np.empty(steps.size, dtype=np.int64)
    blocks[order] = np.arange(steps.size) // BLOCK
    return blocks, f"within {BLOCK} neighbouring pairs (a step holds one)"


def _spearman_rows(betas: Floats, delta: Floats) -> Floats:
    """Spearman of beta and the loss it gives, for each row of betas, shape (rows, n); result (rows,)."""
    a, b = (stats.rankdata(x, axis=1) for x in (betas, sigmoid_loss(betas, delta)))
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    rho: Floats = (a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return rho


def permutation_null(
    beta: Floats, delta: Floats, steps: NDArray[Any], draws: int = NULL_DRAWS, seed: int = 0
) -> dict[str, Any]:
    """Spearman(beta, loss) with the loss recomputed from delta, observed and with beta permuted; arrays of shape (n,).

    Returns observed value, the null's mean and central 95 %, and the two-sided share of draws at least as far from the
    null's mean as the observed value (the observed one counted among them).
    """
    rng = np.random.default_rng(seed)
    if beta.size > MAX_NULL_ROWS:
        keep = np.sort(
            rng.choice(
                np.unique(steps),
                size=max(1, np.unique(steps).size * MAX_NULL_ROWS // beta.size),
                replace=False,
            )
        )
        chosen = np.isin(steps, keep)
        beta, delta, steps = beta[chosen], delta[chosen], steps[chosen]
    if beta.size < 4 or not varies(beta) or not varies(delta):
        reason = "fewer than four pairs, or beta or delta does not vary"
        return {
            "observed": None,
            "mean": None,
            "low": None,
            "high": None,
            "p_value": None,
            "draws": 0,
            "n": int(beta.size),
            "method": "permuted beta",
            "reason": reason,
        }
    blocks, where = _blocks(steps)
    order = np.argsort(blocks, kind="stable")
    beta, delta, blocks = beta[order], delta[order], blocks[order]

    observed = float(_spearman_rows(beta[None], delta)[0])
    rows = max(1, CHUNK // beta.size)
    parts = []
    for start in range(0, draws, rows):
        # Blocks are sorted, so sorting block + random key permutes every block at once.
        keys = blocks + rng.random((min(rows, draws - start), beta.size))
        parts.append(_spearman_rows(beta[np.argsort(keys, axis=1)], delta))
    null = np.concatenate(parts)
    centre = float(null.mean())
    low, high = np.quantile(null, [0.025, 0.975])
    far = np.abs(null - centre) >= abs(observed - centre) * (1 - 1e-12)
    return {
        "observed": observed,
        "mean": centre,
        "low": float(low),
        "high": float(high),
        "p_value": float((far.sum() + 1) / (draws + 1)),
        "draws": draws,
        "n": int(beta.size),
        "method": f"Spearman of beta and -log sigmoid(beta * delta), beta permuted {where}",
        "reason": None,
    }


def _row(name: str, beta: Floats, other: Floats, steps: Floats) -> dict[str, Any]:
    kinds: tuple[Literal["pearson", "spearman"], ...] = ("pearson", "spearman")
    keep = np.isfinite(beta) & np.isfinite(other)
    b, y, t = beta[keep], other[keep], steps[keep]
    row: dict[str, Any] = {"against": name, "beta_free": name not in ("loss", "grad_norm"), "n": int(b.size)}
    for kind in kinds:
        row[kind] = correlation(b, y, kind, serial=True).as_dict()
        flat_b, flat_y = (detrend(b, t), detrend(y, t)) if b.size else (b, y)
        row[f"{kind}_detrended"] = correlation(flat_b, flat_y, kind, serial=True).as_dict()
    row["kendall"] = (
        correlation(b, y, "kendall").as_dict()
        if b.size <= 5000
        else undefined("kendall", b.size, "left out above 5000 pairs").as_dict()
    )
    row["xi"] = chatterjee_xi(b, y).as_dict()
    return row


def perplexity_table(examples: pd.DataFrame, quantiles: int = 5) -> list[dict[str, Any]]:
    """Per quantile of log prompt perplexity: rows, mean beta, mean loss, and the share of pairs with delta > 0.

    Rows without a perplexity (one-token prompts) are left out. Fewer bins come back when values repeat.
    """
    import pandas as pd

    known = examples[np.isfinite(examples["log_prompt_perplexity"].to_numpy(dtype=float))]
    if known.empty:
        return []
    bins = pd.qcut(known["log_prompt_perplexity"].astype(float), quantiles, labels=False, duplicates="drop")
    if bins.isna().all():
        bins = pd.Series(0, index=known.index)
    return [
        {
            "quantile": number,
            "n": len(rows),
            "log_prompt_perplexity_low": finite(rows["log_prompt_perplexity"].min()),
            "log_prompt_perplexity_high": finite(rows["log_prompt_perplexity"].max()),
            "dynamic_beta": finite(rows["dynamic_beta"].mean()),
            "loss": finite(rows["loss"].mean()),
            "loss_at_beta0": finite(rows["loss_at_beta0"].mean()),
            "accuracy": finite((rows["delta"] > 0).mean()),
        }
        for number, (_, rows) in enumerate(known.groupby(bins), start=1)
    ]


def _series(run: RunData, name: str) -> Floats:
    return np.array([np.nan if (v := finite(r.get(name))) is None else v for r in run.steps], dtype=float)


def collapse_of(run: RunData) -> dict[str, Any] | None:
    """The first logged step at which beta was found collapsed (at a bound, or its variance gone), and why."""
    hits = [r for r in run.history if r.get("beta_collapse")]
    if not hits:
        return None
    return {"step": hits[0].get("step"), "reason": str(hits[0]["beta_collapse"]), "records": len(hits)}


def run_correlation(run: RunData) -> dict[str, Any]:
    """Everything about beta and loss in one run; `value` is Spearman over examples, null with a reason if undefined."""
    result: dict[str, Any] = {
        "run_id": run.run_id,
        "value": None,
        "reason": None,
        "warning": WARNING,
        "examples": None,
        "steps": None,
        "null": None,
        "perplexity_quantiles": [],
        "fallback_rows": None,
        "collapse": collapse_of(run),
    }
    examples = run.examples()
    step_beta = _series(run, "dynamic_beta")
    if examples is None or examples.empty:
        result["reason"] = NO_ROWS if not varies(step_beta) else f"{NO_ROWS}; see the logged steps"
    else:
        used = examples[examples["mask"].to_numpy(dtype=bool)].sort_values("step", kind="stable")
        result["perplexity_quantiles"] = perplexity_table(used)
        result["fallback_rows"] = int(examples["beta_fallback"].sum())
        beta, steps = used["dynamic_beta"].to_numpy(dtype=float), used["step"].to_numpy(dtype=float)
        if not varies(beta):
            result["reason"] = FIXED
            return result
        rows = [_row(name, beta, used[name].to_numpy(dtype=float), steps) for name in TARGETS]
        result["examples"] = rows
        result["value"] = rows[0]["spearman"]["value"]
        result["reason"] = rows[0]["spearman"]["reason"] if result["value"] is None else None
        delta = used["delta"].to_numpy(dtype=float)
        ok = np.isfinite(beta) & np.isfinite(delta)
        result["null"] = permutation_null(beta[ok], delta[ok], steps[ok])
    if varies(step_beta):
        steps = _series(run, "step")
        result["steps"] = [_row(name, step_beta, _series(run, name), steps) for name in STEP_TARGETS]
    elif result["reason"] is None and result["value"] is None:
        result["reason"] = FIXED
    return result
