"""Find the runs in folders that the user names, whichever tool wrote them."""

from collections.abc import Sequence
from pathlib import Path

from reports.foreign import csv_log, lm_eval, trainer_logs
from reports.foreign.sources import ForeignRun, read_object
from reports.runs.records import ReportError

#: Folders deeper than this below a named one are not looked into.
DEEPEST = 6
#: Files that are not read, and how their content can be had.
_WAYS_OUT = {
    "events.out.tfevents.*": "TensorBoard's events are not read: export the scalars as CSV",
    "*.wandb": "W&B's own files are not read: export the charts as CSV, or run.history().to_csv(FILE)",
    "wandb-summary.json": "W&B's summary holds last values, not steps: export the charts as CSV, or run.history().to_csv(FILE)",
    "mlruns": "MLflow's store is not read: write client.get_metric_history(run_id, key) of each metric to one CSV file",
    "mlflow.db": "MLflow's store is not read: write client.get_metric_history(run_id, key) of each metric to one CSV file",
    "*.db": "databases (trackio) are not read: write the table `metrics` to CSV, a column for each metric",
}
WANTED = (
    "trainer_state.json (also in checkpoint-N), trainer_log.jsonl, all_results.json, log_history.json(l), logs.jsonl, "
    "a CSV file with step and loss columns, lm-eval's results_*.json or samples_*.jsonl, or a run of this project"
)


def find_runs(named: Sequence[Path], skip: Path | None = None) -> list[ForeignRun]:
    """The runs in the named folders (or CSV files), in that order, with everything read. `skip` is not looked into.

    One named folder may hold one run, several in subfolders, or a whole matrix of this project. Results of lm-eval
    below a training folder belong to its run when there is one such folder.

    Raises:
        ReportError: a folder is missing or holds nothing readable, or a file in it is damaged.
    """
    found: list[ForeignRun] = []
    for path in named:
        if path.is_file() and path.suffix in (".csv", ".tsv"):
            found += csv_log.read(path, path.stem)
            continue
        if not path.is_dir():
            hint = f"a file, and no CSV; name the folder that holds it: {path.parent}"
            raise ReportError(f"{path}: {hint if path.is_file() else 'no such folder or CSV file'}")
        skipped: list[Path] = []
        runs = _search(path, path, skip.resolve() if skip else None, skipped, 0)
        if not runs:
            ways = [text for pattern, text in _WAYS_OUT.items() if any(path.rglob(pattern))]
            raise ReportError("; ".join([f"{path}: no runs found", *ways[:1], f"looked for {WANTED}"]))
        if skipped:
            runs[0].notes.append(f"not looked into (links, or too deep): {', '.join(map(str, skipped))}")
        if len(runs) == 1 and not runs[0].own and "CSV" not in runs[0].formats:
            runs[0].name = path.resolve().name or "run"
        found += runs
    return found


def _search(
    directory: Path, named: Path, avoid: Path | None, skipped: list[Path], depth: int, inside: bool = False
) -> list[ForeignRun]:
    """Every run at or below a folder. What lm-eval found below a training belongs to it where it is one folder.

    Args:
        inside: a checkpoint of a training, whose state was read with that one.
    """
    if (directory / "run.json").is_file() and (directory / "status.json").is_file():
        return [_own(directory)]
    made = sorted(p.parent for p in (directory / "runs").glob("*/run.json"))
    if made and any((directory / name).is_file() for name in ("matrix.yaml", "matrix.json")):
        return [_own(path) for path in made]
    try:
        below = sorted(path for path in directory.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise ReportError(f"{directory}: cannot be read ({error.strerror})") from None
    # its folder below the one that the user named, or that one's own name
    name = directory.relative_to(named).as_posix()
    name = (named.resolve().name or "run") if name == "." else name
    runs = [_own(path) for path in made] or ([] if inside else _training(directory, name))
    scored = [ForeignRun(name, directory)] if any(lm_eval.result_files(directory)) else []
    below = [path for path in below if path.resolve() != avoid and not (made and path.name == "runs")]
    folders = [path for path in below if not path.is_symlink()]  # a link can lead back up
    skipped += [path for path in below if path.is_symlink()]
    if depth == DEEPEST:
        skipped += folders
        folders = []
    checkpoints = trainer_logs.checkpoints(directory) if runs else []
    others = [
        run
        for path in folders
        for run in _search(path, named, avoid, skipped, depth + 1, inside or path in checkpoints)
    ]
    if len(runs) == 1 and not made:
        if scored:
            return [lm_eval.read(runs[0], directory), *others]
        if len(others) == 1 and others[0].formats == ["lm-eval"]:
            return [lm_eval.read(runs[0], others[0].directory)]
    return runs + [lm_eval.read(one, one.directory) for one in scored] + others


def _own(directory: Path) -> ForeignRun:
    identity = read_object(directory / "run.json")
    run = ForeignRun(str(identity.get("run_id", directory.name)), directory, own=directory)
    run.came_from("this project", directory / "run.json")
    run.method = str(identity["method"]) if identity.get("method") else run.name
    run.seed = identity["seed"] if isinstance(identity.get("seed"), int) else None
    return run


def _training(directory: Path, name: str) -> list[ForeignRun]:
    """The run that was trained into this folder; several where a CSV file holds several."""
    run = ForeignRun(name, directory)
    for there, read in (
        (trainer_logs.state_files(directory), trainer_logs.read_state),
        ((directory / trainer_logs.RESULTS).is_file(), trainer_logs.read_results),
        ((directory / trainer_logs.LOG).is_file(), trainer_logs.read_log),
    ):
        if there:
            read(run)
    written = [p for p in sorted(directory.iterdir()) if p.suffix in (".csv", ".tsv") and p.is_file()]
    tables = [p for p in written if csv_log.has_steps(p)]
    run.notes += [f"{p.name} left out: no columns for a step and a loss" for p in written if p not in tables]
    saved = [directory / h for h in trainer_logs.HISTORIES if (directory / h).is_file()]
    if run.history:
        for path in (*tables, *saved):
            run.notes.append(f"{path.name} left out: the trainer's own log was read")
    elif saved:
        trainer_logs.read_saved_history(run, saved[0])
    elif tables:
        runs = [one for path in tables for one in csv_log.read(path, name if len(tables) == 1 else path.stem)]
        runs[0].notes += run.notes
        for one in runs:
            one.results = run.results
            trainer_logs.read_arguments(one)
        return runs
    if not run.files:
        return []
    if not run.formats:
        run.formats.append("closing figures only")
    trainer_logs.read_arguments(run)
    return [run]
