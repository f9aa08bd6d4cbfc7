"""The four files that exist for every run and for the matrix, in one schema.

`training_metrics.csv` has one row per run and logged step. Columns, in this order:

    run_id, method, rule, seed            which run
    step, epoch, examples_seen            optimiser steps; passes over the data; pairs consumed
    loss, loss_at_beta0                   nats per pair: at the rule's beta, and at the one fixed `pref_beta`
    delta, delta_std                      nats: log-ratio margin without beta, mean and spread over the step's pairs
    dynamic_beta, *_std, *_min, *_max     beta the rule gave (1/nat)
    prompt_perplexity                     per-token perplexity of the prompt under the policy
    log_prompt_perplexity                 nats per prompt token
    gradient_weight                       beta * sigmoid(-beta * delta)
    grad_norm, head_grad_norm             L2 norms before clipping: the policy's, a learned rule's head's
    learning_rate
    rewards/chosen, /rejected, /margins   beta-scaled log-ratios (not comparable between runs of different beta)
    rewards/accuracies                    share of pairs with a positive margin
    logps/chosen, logps/rejected          nats, summed over the completion
    tokens_per_second, step_time_s, peak_memory_bytes
    beta_collapse                         why beta counts as collapsed at this step; empty otherwise
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from reports.beta.run import Analysed, analyse_run
from reports.panels.curves import save_training_curves
from reports.panels.run_curves import save_run_curves
from reports.runs.arms import arms
from reports.runs.records import MatrixData, RunData, load_config, load_matrix, load_run
from reports.schema import Subset, Summary
from reports.summary import build_summary
from reports.writing import Row, write_csv, write_large_json, write_records

IDENTITY = ("run_id", "method", "rule", "seed")
MEASURES = (
    "step",
    "epoch",
    "examples_seen",
    "loss",
    "loss_at_beta0",
    "delta",
    "delta_std",
    "dynamic_beta",
    "dynamic_beta_std",
    "dynamic_beta_min",
    "dynamic_beta_max",
    "prompt_perplexity",
    "log_prompt_perplexity",
    "gradient_weight",
    "grad_norm",
    "head_grad_norm",
    "learning_rate",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/accuracies",
    "rewards/margins",
    "logps/chosen",
    "logps/rejected",
    "tokens_per_second",
    "step_time_s",
    "peak_memory_bytes",
    "beta_collapse",
)
COLUMNS = (*IDENTITY, *MEASURES)


def training_rows(runs: Iterable[RunData]) -> Iterator[Row]:
    """One mapping per run and logged step, with the columns of training_metrics.csv."""
    for run in runs:
        identity = {"run_id": run.run_id, "method": run.method, "rule": run.rule, "seed": run.seed}
        for record in run.steps:
            yield {**identity, **{name: record.get(name) for name in MEASURES}}


def _write(
    matrix: MatrixData,
    directory: Path,
    kind: str,
    subset: Subset | None = None,
    analysed: Mapping[str, Analysed] | None = None,
) -> Summary:
    write_csv(directory / "training_metrics.csv", COLUMNS, training_rows(matrix.runs))
    summary = build_summary(matrix, kind, analysed)
    if subset is not None:
        summary = summary.model_copy(update={"subset": subset})
    curves, all_arms, baseline = directory / "training_curves.png", arms(matrix.runs), summary.baseline.value
    if kind == "run":
        save_run_curves(all_arms[0], curves, baseline)
    else:
        save_training_curves(all_arms, curves, baseline)
    write_large_json(directory / "summary.json", summary.plain())
    return summary


def write_run_files(run_dir: Path | str) -> Summary:
    """Write training_metrics.csv, training_curves.png and summary.json of one run beside its log_history.json.

    Returns the summary. Raises ReportError naming a damaged file.
    """
    return write_analysed(run_dir)[0]


def write_analysed(run_dir: Path | str) -> tuple[Summary, Analysed]:
    """`write_run_files`, which returns beside the summary what a matrix goes on with: see `write_matrix_files`."""
    path = Path(run_dir)
    run = load_run(path)
    found = analyse_run(run, arms([run])[0].label)
    config = load_config(path.parent.parent)
    return _write(MatrixData(path, (run,), None, config), path, "run", analysed={run.run_id: found}), found


def write_matrix_files(
    output_dir: Path | str,
    run_ids: Sequence[str],
    config: Mapping[str, Any] | None = None,
    analysed: Mapping[str, Analysed] | None = None,
) -> Summary:
    """Write the four files of a matrix: the runs' records merged into log_history.json, the curves, the comparison.

    `config` is the matrix file as a mapping; without it `matrix.yaml` in the directory is read. `analysed` holds what
    `write_analysed` found, by run id, so that it need not be found again. Returns the summary.
    Raises ReportError naming a damaged file.
    """
    root = Path(output_dir)
    matrix = load_matrix(root, run_ids, config)
    write_records(root / "log_history.json", {run.run_id: run.history for run in matrix.runs})
    return _write(matrix, root, "matrix", analysed=analysed)


def write_subset_files(matrix: MatrixData, subset: Mapping[str, Any]) -> Summary:
    """Write the four files of runs picked by hand into the matrix's output directory; `subset` says how (reports.runs.subset).

    Returns the summary. Raises ReportError naming a damaged file.
    """
    write_records(matrix.output_dir / "log_history.json", {run.run_id: run.history for run in matrix.runs})
    return _write(matrix, matrix.output_dir, "matrix", Subset.model_validate(subset))
