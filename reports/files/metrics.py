"""The four files that exist for every run and for the matrix, in one schema; those of many runs are written on all cores.

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

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from reports.beta.run import Analysed, analyse_run
from reports.files import processes
from reports.panels.curves import save_run_curves
from reports.runs import MatrixData, RunData, arms, load_config, load_run
from reports.schema import Summary
from reports.summary import build_summary
from reports.writing import Row, write_csv, write_large_json

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
#: A process takes about two seconds to start: fewer runs than this a process are not worth one.
RUNS_PER_PROCESS = 8
MOST_PROCESSES = 8


def training_rows(runs: Iterable[RunData]) -> Iterator[Row]:
    """One mapping per run and logged step, with the columns of training_metrics.csv."""
    for run in runs:
        identity = {"run_id": run.run_id, "method": run.method, "rule": run.rule, "seed": run.seed}
        for record in run.steps:
            yield {**identity, **{name: record.get(name) for name in MEASURES}}


def write_run_files(run_dir: Path | str) -> tuple[Summary, Analysed]:
    """Write training_metrics.csv, training_curves.png and summary.json of one run beside its log_history.json.

    Returns the summary, and what a matrix goes on with: see `reports.files.report.write_files`. Raises ReportError naming a
    damaged file.
    """
    path = Path(run_dir)
    run = load_run(path)
    arm = arms([run])[0]
    found = analyse_run(run, arm.label)
    matrix = MatrixData(path, (run,), None, load_config(path.parent.parent))
    write_csv(path / "training_metrics.csv", COLUMNS, training_rows(matrix.runs))
    summary = build_summary(matrix, "run", {run.run_id: found})
    save_run_curves(arm, path / "training_curves.png")
    write_large_json(path / "summary.json", summary.plain())
    return summary, found


def write_all(output: Path, run_ids: Sequence[str]) -> dict[str, Analysed]:
    """Write the files of every run in `output`/runs, with one process for each core.

    Returns what `write_report` need not find again, by run id. Raises ReportError naming a damaged file, from whichever process
    met it.
    """
    count = max(1, min(processes.cores(), MOST_PROCESSES, len(run_ids) // RUNS_PER_PROCESS))
    if count == 1:
        return _write(output, run_ids)
    with processes.pool(count - 1) as pool:
        shares = [pool.submit(_write, output, run_ids[number::count]) for number in range(1, count)]
        found = _write(output, run_ids[0::count])
        for share in shares:
            found |= share.result()
    return found


def _write(output: Path, run_ids: Sequence[str]) -> dict[str, Analysed]:
    return {run_id: write_run_files(output / "runs" / run_id)[1] for run_id in run_ids}
