"""Whether a learned beta reads more from the prompt's hidden state than its perplexity."""

from __future__ import annotations

from typing import Any

import numpy as np

from reports.beta.learned import held_out_r2
from reports.runs.records import ReportError, RunData

PROBE = "beta_probe.parquet"
RIDGE = 0.01


def probe(run: RunData) -> dict[str, Any]:
    """Held-out R^2 of log beta on log PPL, on the principal components of the hidden state, and on both.

    Reads beta_probe.parquet, which training leaves for rules that look at hidden states (see trainers/trainer/probe.py). The rows
    are those of the last pairs trained; folds are of whole examples. Null with a reason where there is no file.
    """
    nothing: dict[str, Any] = {"n": 0, "components": 0, "perplexity": None, "hidden": None, "both": None}
    path = run.path / PROBE
    if not path.exists():
        return nothing | {"reason": "no hidden states were recorded: the rule reads none, or the run is an older one"}
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        parts = sorted(c for c in table.column_names if c.startswith("pc_"))
        beta, log_ppl = (
            table[c].to_numpy(zero_copy_only=False).astype(float) for c in ("dynamic_beta", "log_prompt_perplexity")
        )
        hidden = np.column_stack([table[c].to_numpy(zero_copy_only=False).astype(float) for c in parts])
        _, example = np.unique(table["example_id"].to_numpy(zero_copy_only=False).astype(str), return_inverse=True)
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise ReportError(f"{path}: not a probe file ({error}); delete it or rerun this run's training") from error
    ok = (beta > 0) & np.isfinite(log_ppl) & np.isfinite(hidden).all(axis=1)
    y, ppl, states = np.log(beta[ok]), log_ppl[ok, None], hidden[ok]
    shares = {
        name: held_out_r2(y, predictors, example[ok], RIDGE)
        for name, predictors in (("perplexity", ppl), ("hidden", states), ("both", np.hstack([ppl, states])))
    }
    return {"n": int(ok.sum()), "components": len(parts), **shares, "reason": None}
