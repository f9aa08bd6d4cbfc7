"""Any subset of finished runs, also from several output directories, as one matrix that the report can be made of."""

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reports import schema
from reports.runs.arms import arms
from reports.runs.records import COMPARISONS, REFERENCE_ID, MatrixData, ReportError, RunData, load_config, load_run
from trainers.common.files import file_hash
from trainers.common.scores_schema import parity_path
from trainers.common.words import nearest


@dataclass(frozen=True, slots=True)
class Source:
    """An output directory with all its runs, and their labels there."""

    root: Path
    runs: tuple[RunData, ...]
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Subset:
    """The runs chosen, what they were taken from, and what a reader has to know."""

    runs: tuple[RunData, ...]
    sources: tuple[Source, ...]
    notes: tuple[str, ...]


def read_source(root: Path) -> Source:
    """All runs below `root`/runs. ReportError where there are none or a file is damaged."""
    folders = sorted(p for p in (root / "runs").glob("*") if (p / "run.json").is_file())
    if not folders:
        raise ReportError(f"{root}: holds no runs; name an output directory of run-matrix")
    runs = tuple(load_run(folder) for folder in folders)
    return Source(root, runs, {run.run_id: arm.label for arm in arms(runs) for run in arm.runs})


def choose(names: Sequence[str], sources: Sequence[Source]) -> Subset:
    """Find runs by id, label, method or directory, in the order given.

    A label or a method takes all its runs, those that did not finish too, so that the report lists them; a run that is
    named itself must be finished. Raises ReportError for a name that is nothing, is two things, or is given twice.
    """
    known = list(sources)
    chosen: dict[tuple[Path, str], RunData] = {}
    for name in names:
        found = _find(name, known)
        single = len(found) == 1 and (found[0][1].run_id.startswith(name) or Path(name).is_dir())
        for source, run in found:
            if single and run.state != "done":
                raise ReportError(
                    f"{name}: the run is {run.state}, not done; finish it with run-matrix or leave it out"
                )
            chosen.setdefault((source.root.resolve(), run.run_id), run)
    for run_id, count in Counter(run_id for _, run_id in chosen).items():
        if count > 1:
            places = ", ".join(str(root) for root, one in chosen if one == run_id)
            raise ReportError(f"{run_id}: the same run is in {places}; compare it from one of them")
    roots = {root for root, _ in chosen}
    used = tuple(s for s in known if s.root.resolve() in roots)
    unfinished = [run.run_id for run in chosen.values() if run.state != "done"]
    note = f"Not finished, and listed as such: {', '.join(unfinished)}."
    return Subset(tuple(chosen.values()), used, (note,) if unfinished else ())


def _find(name: str, known: list[Source]) -> list[tuple[Source, RunData]]:
    """The runs that a name stands for; a directory's output is added to what is known."""
    path = Path(name)
    if path.is_dir():
        if not (path / "run.json").is_file():
            hint = " (an output directory: give it with --from)" if (path / "runs").is_dir() else ""
            raise ReportError(f"{path}: not a run directory, it has no run.json{hint}")
        root = path.resolve().parent.parent
        if all(s.root.resolve() != root for s in known):
            known.append(read_source(root))
        name, known = load_run(path, scores=False).run_id, [s for s in known if s.root.resolve() == root]
    every = [(source, run) for source in known for run in source.runs]
    named = [(run.run_id, source.labels[run.run_id], run.method) for source, run in every]
    for key in range(3):  # an id comes before a label, a label before a method
        if exact := [one for one, names in zip(every, named, strict=True) if names[key] == name]:
            return exact
    matches = [(s, r) for s, r in every if len(name) > 3 and r.run_id.startswith(name)]
    if len(matches) > 1:
        listed = _some(r.run_id for _, r in matches)
        raise ReportError(f"{name!r} is the beginning of {len(matches)} runs; write it out: {listed}")
    if not matches:
        every_name = [names[key] for names in named for key in (1, 2, 0)]
        raise ReportError(f"no run, label or directory {name!r}; {_near(name, every_name)}")
    return matches


def _near(name: str, known: Sequence[str]) -> str:
    return nearest(name, known, f"there are: {_some(known)}")


def _some(names: Iterable[str]) -> str:
    listed = list(dict.fromkeys(names))
    return ", ".join(listed[:8]) + (f" and {len(listed) - 8} more" if len(listed) > 8 else "")


def as_matrix(
    subset: Subset, output: Path, baseline: str | None = None, primary: str | None = None
) -> tuple[MatrixData, schema.Subset]:
    """The subset as a matrix whose report goes to `output`, and the `subset` entry of its summary.

    Baseline and primary metric are those of the matrix files, unless said otherwise here. Claims are not judged: they
    were declared for all runs, and picking some afterwards would be choosing the answer. Raises ReportError for a
    baseline or a metric that the runs do not have.
    """
    notes = list(subset.notes)
    folders = [s.root / REFERENCE_ID for s in subset.sources if (s.root / REFERENCE_ID).is_dir()]
    hashes = [{p.name: file_hash(p) for p in (folder / "scores").glob("*.json")} for folder in folders]
    shared = len(folders) == len(subset.sources) and all(one == hashes[0] for one in hashes)
    reference = load_run(folders[0], REFERENCE_ID) if shared and folders else None
    if folders and not shared:
        notes.append("The outputs have different reference policies, so no reference is shown.")
    configs = [load_config(source.root) for source in subset.sources]
    report = dict(configs[0].get("report") or {}) if configs else {}
    methods = list(dict.fromkeys([*(arm.label for arm in arms(subset.runs)), *(r.method for r in subset.runs)]))
    if baseline is not None and baseline not in methods:
        raise ReportError(f"--baseline {baseline}: not among the runs; {_near(baseline, methods)}")
    wanted = baseline or report.get("baseline")
    if wanted not in methods:
        wanted = next((r.method for r in subset.runs if r.rule == "fixed"), methods[0])
        notes.append(f"The baseline is {wanted}: the matrix file's is not among these runs.")
    report["baseline"] = wanted
    if primary is not None:
        metrics = sorted({f"{b}/{m}" for r in subset.runs for b, s in r.scores.items() for m in s.metrics})
        if primary not in metrics:
            raise ReportError(f"--primary {primary}: no run was scored on it; {_near(primary, metrics)}")
        report["primary"] = primary
    for what, name in (("model", "weights_hash"), ("data", "content_hash")):
        values = {str((r.identity or {}).get(what, {}).get(name)) for r in subset.runs}
        if len(values) > 1:
            notes.append(f"Careful: the runs do not share the same {what}, so a difference may come from it.")
    names = [str(c.get("name") or s.root.name) for c, s in zip(configs, subset.sources, strict=True)]
    config = {
        **(configs[0] if configs else {}),
        "name": " + ".join(dict.fromkeys(names)),
        "report": report,
        "claims": [],
        "sensitivity": None,
        "picked": "the runs were picked by hand",
    }
    total = sum(len(source.runs) for source in subset.sources)
    said = schema.Subset(
        sentence=f"{len(subset.runs)} of {total} runs are compared. Declared claims are judged on the whole matrix only, so "
        "everything here is exploratory.",
        sources=[str(source.root) for source in subset.sources],
        notes=notes,
    )
    return MatrixData(output, subset.runs, reference, config), said


def carry(subset: Subset, output: Path) -> None:
    """Copy what lies beside the runs and the report reads, where there is one source: the judges' comparisons, and how the
    engine compares with transformers."""
    shutil.rmtree(output / COMPARISONS, ignore_errors=True)
    parity_path(output / REFERENCE_ID).unlink(missing_ok=True)
    if len(subset.sources) != 1:
        return
    root = subset.sources[0].root
    if (root / COMPARISONS).is_dir():
        shutil.copytree(root / COMPARISONS, output / COMPARISONS)
    if parity_path(root / REFERENCE_ID).is_file():
        (output / REFERENCE_ID).mkdir(exist_ok=True)
        shutil.copy2(parity_path(root / REFERENCE_ID), parity_path(output / REFERENCE_ID))
