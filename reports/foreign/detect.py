"""Find the runs in folders that the user names, whichever tool wrote them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reports.foreign import csv_log, hf_trainer, llamafactory, lm_eval
from reports.foreign.sources import ForeignRun, read_object
from reports.runs.records import ReportError

#: Folders deeper than this below a named one are not looked into.
DEEPEST = 4
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
    avoid = skip.resolve() if skip else None
    for path in named:
        if path.is_file() and path.suffix in (".csv", ".tsv"):
            runs = csv_log.read(path, path.stem)
        elif path.is_dir():
            runs = _search(path, path, avoid, 0)
            if len(runs) == 1 and not runs[0].own and "CSV" not in runs[0].formats:
                runs[0].name = path.resolve().name or "run"
        elif path.is_file():
            raise ReportError(f"{path}: a file, and no CSV; name the folder that holds it: {path.parent}")
        else:
            raise ReportError(f"{path}: no such folder or CSV file")
        if not runs:
            raise ReportError(f"{path}: nothing to analyse in it; looked for {WANTED}")
        found += runs
    return found


def _folders(directory: Path, avoid: Path | None) -> list[Path]:
    try:
        inside = sorted(directory.iterdir())
    except OSError as error:
        raise ReportError(f"{directory}: cannot be read ({error.strerror})") from None
    # Links are not followed: they can lead back up.
    return [
        p for p in inside if p.is_dir() and not p.is_symlink() and not p.name.startswith(".") and p.resolve() != avoid
    ]


def _name(directory: Path, named: Path) -> str:
    """A run's name: its folder below the one that the user named, or that one's own name."""
    below = directory.relative_to(named).as_posix()
    return (named.resolve().name or "run") if below == "." else below


def _search(directory: Path, named: Path, avoid: Path | None, depth: int) -> list[ForeignRun]:
    if (directory / "run.json").is_file() and (directory / "status.json").is_file():
        return [_own(directory)]
    made = sorted(p.parent for p in (directory / "runs").glob("*/run.json"))
    if made:
        return [_own(path) for path in made]
    runs = _training(directory, _name(directory, named))
    scored = _evaluations(directory, avoid, 0)
    if len(runs) == len(scored) == 1:
        return [lm_eval.read(runs[0], scored[0])]
    if runs or directory in scored:
        return runs + [lm_eval.read(ForeignRun(_name(path, named), path), path) for path in scored]
    if depth == DEEPEST:
        return []
    return [run for path in _folders(directory, avoid) for run in _search(path, named, avoid, depth + 1)]


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
    if hf_trainer.state_files(directory):
        hf_trainer.read_state(run)
    if (directory / llamafactory.RESULTS).is_file():
        llamafactory.read_results(run)
    if (directory / llamafactory.LOG).is_file():
        llamafactory.read_log(run)
    tables = [p for p in sorted(directory.glob("*.csv")) if p.is_file() and csv_log.has_steps(p)]
    saved = [directory / h for h in hf_trainer.HISTORIES if (directory / h).is_file()]
    if run.history:
        for path in (*tables, *saved):
            run.notes.append(f"{path.name} left out: the trainer's own log was read")
    elif saved:
        hf_trainer.read_saved_history(run, saved[0])
    elif tables:
        runs = [one for path in tables for one in csv_log.read(path, name if len(tables) == 1 else path.stem)]
        for one in runs:
            one.results = run.results
            llamafactory.read_arguments(one)
        return runs
    if not run.files:
        return []
    if not run.formats:
        run.formats.append("closing figures only")
    llamafactory.read_arguments(run)
    return [run]


def _evaluations(directory: Path, avoid: Path | None, depth: int) -> list[Path]:
    """Folders with lm-eval's files at or below this one."""
    if lm_eval.result_files(directory):
        return [directory]
    if depth == DEEPEST:
        return []
    return [found for path in _folders(directory, avoid) for found in _evaluations(path, avoid, depth + 1)]
