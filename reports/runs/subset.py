"""Any subset of finished runs, also from several output directories, as one matrix that the report can be made of."""

from __future__ import annotations

import difflib
import hashlib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reports.runs.arms import arms
from reports.runs.records import REFERENCE_ID, MatrixData, ReportError, RunData, load_config, load_run

#: Beside the runs of a source: what the judges said, and how the engine compares with transformers.
_CARRIED = ("comparisons",)


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


def _root_of(directory: Path) -> Path:
    """The output directory that a run directory lies in. ReportError where it is no run directory."""
    if not (directory / "run.json").is_file():
        hint = " (an output directory: give it with --from)" if (directory / "runs").is_dir() else ""
        raise ReportError(f"{directory}: not a run directory, it has no run.json{hint}")
    return directory.resolve().parent.parent


def choose(names: Sequence[str], sources: Sequence[Source]) -> Subset:
    """Find runs by id, label, method or directory, in the order given.

    A label or a method takes all its runs, those that did not finish too, so that the report lists them; a run that is
    named itself must be finished. Raises ReportError for a name that is nothing, is two things, or is given twice.
    """
    known = list(sources)
    chosen: dict[tuple[Path, str], RunData] = {}
    unfinished: list[str] = []
    for name in names:
        found = _find(name, known)
        single = len(found) == 1 and (found[0][1].run_id.startswith(name) or Path(name).is_dir())
        for source, run in found:
            if single and run.state != "done":
                raise ReportError(
                    f"{name}: the run is {run.state}, not done; finish it with run-matrix or leave it out"
                )
            if run.state != "done":
                unfinished.append(run.run_id)
            chosen.setdefault((source.root.resolve(), run.run_id), run)
    ids = [run_id for _, run_id in chosen]
    for run_id in ids:
        if ids.count(run_id) > 1:
            places = ", ".join(str(root) for root, one in chosen if one == run_id)
            raise ReportError(f"{run_id}: the same run is in {places}; compare it from one of them")
    roots = {root for root, _ in chosen}
    used = tuple(s for s in known if s.root.resolve() in roots)
    notes = []
    if unfinished:
        notes.append(f"Not finished, and listed as such: {', '.join(dict.fromkeys(unfinished))}.")
    return Subset(tuple(chosen.values()), used, tuple(notes))


def _find(name: str, known: list[Source]) -> list[tuple[Source, RunData]]:
    path = Path(name)
    if path.is_dir():
        root = _root_of(path)
        source = next((s for s in known if s.root.resolve() == root), None)
        if source is None:
            source = read_source(root)
            known.append(source)
        run_id = load_run(path).run_id
        return [(source, run) for run in source.runs if run.run_id == run_id]
    every = [(source, run) for source in known for run in source.runs]
    matches = (
        [(s, r) for s, r in every if r.run_id == name]
        or [(s, r) for s, r in every if s.labels[r.run_id] == name]
        or [(s, r) for s, r in every if r.method == name]
    )
    if matches:
        return matches
    matches = [(s, r) for s, r in every if len(name) > 3 and r.run_id.startswith(name)]
    if len(matches) > 1:
        listed = _some(r.run_id for _, r in matches)
        raise ReportError(f"{name!r} is the beginning of {len(matches)} runs; write it out: {listed}")
    if not matches:
        names = list(dict.fromkeys(x for s, r in every for x in (s.labels[r.run_id], r.method, r.run_id)))
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are: {_some(names)}"
        raise ReportError(f"no run, label or directory {name!r}{hint}")
    return matches


def _some(names: Iterable[str]) -> str:
    listed = list(dict.fromkeys(names))
    return ", ".join(listed[:8]) + (f" and {len(listed) - 8} more" if len(listed) > 8 else "")


def _prints(run: RunData) -> dict[str, str]:
    folder = run.path / "scores"
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.glob("*.json"))}


def _reference(sources: Sequence[Source]) -> tuple[RunData | None, list[str]]:
    """The reference that all sources share; none, with a note, where they have different ones."""
    found = [load_run(s.root / REFERENCE_ID, REFERENCE_ID) for s in sources if (s.root / REFERENCE_ID).is_dir()]
    if not found:
        return None, []
    if len(found) == len(sources) and all(_prints(r) == _prints(found[0]) for r in found[1:]):
        return found[0], []
    return None, ["The outputs have different reference policies, so no reference is shown."]


def as_matrix(
    subset: Subset, output: Path, baseline: str | None = None, primary: str | None = None
) -> tuple[MatrixData, dict[str, Any]]:
    """The subset as a matrix whose report goes to `output`, and the `subset` entry of its summary.

    Baseline and primary metric are those of the matrix files, unless said otherwise here. Claims are not judged: they
    were declared for all runs, and picking some afterwards would be choosing the answer. Raises ReportError for a
    baseline or a metric that the runs do not have.
    """
    notes = list(subset.notes)
    reference, more = _reference(subset.sources)
    notes += more
    configs = [load_config(source.root) for source in subset.sources]
    report = dict(configs[0].get("report") or {}) if configs else {}
    labels = [arm.label for arm in arms(subset.runs)]
    methods = list(dict.fromkeys([*labels, *(r.method for r in subset.runs)]))
    if baseline is not None and baseline not in methods:
        near = difflib.get_close_matches(baseline, methods, n=1, cutoff=0.4)
        raise ReportError(
            f"--baseline {baseline}: not among the runs"
            + (f"; did you mean {near[0]!r}?" if near else f"; there are: {_some(methods)}")
        )
    wanted = baseline or report.get("baseline")
    if wanted not in methods:
        rules = [r.method for r in subset.runs if r.rule == "fixed"]
        wanted = rules[0] if rules else methods[0]
        notes.append(f"The baseline is {wanted}: the matrix file's is not among these runs.")
    report["baseline"] = wanted
    if primary is not None:
        metrics = sorted({f"{b}/{m}" for r in subset.runs for b, s in r.scores.items() for m in s.metrics})
        if primary not in metrics:
            near = difflib.get_close_matches(primary, metrics, n=1, cutoff=0.3)
            raise ReportError(
                f"--primary {primary}: no run was scored on it"
                + (f"; did you mean {near[0]!r}?" if near else f"; there are: {_some(metrics)}")
            )
        report["primary"] = primary
    for what, name in (("model", "weights_hash"), ("data", "content_hash")):
        values = {str((r.identity or {}).get(what, {}).get(name)) for r in subset.runs}
        if len(values) > 1:
            notes.append(f"Careful: the runs do not share the same {what}, so a difference may come from it.")
    name = " + ".join(
        dict.fromkeys(str(c.get("name") or s.root.name) for c, s in zip(configs, subset.sources, strict=True))
    )
    total = sum(len(source.runs) for source in subset.sources)
    config = {**(configs[0] if configs else {}), "name": name, "report": report, "claims": []}
    said = {
        "sentence": f"{len(subset.runs)} of {total} runs were picked by hand. Declared claims are judged on the whole matrix "
        "only, and everything here is exploratory.",
        "sources": [str(source.root) for source in subset.sources],
        "notes": notes,
    }
    return MatrixData(output, tuple(replace(r) for r in subset.runs), reference, config), said


def carry(subset: Subset, output: Path) -> None:
    """Copy what lies beside the runs and the report reads: the judges' comparisons, where there is one source."""
    for name in _CARRIED:
        target = output / name
        if target.exists():
            shutil.rmtree(target)
        if len(subset.sources) == 1 and (subset.sources[0].root / name).is_dir():
            shutil.copytree(subset.sources[0].root / name, target)
    parity = "parity.json"
    (output / REFERENCE_ID / parity).unlink(missing_ok=True)
    if len(subset.sources) == 1 and (subset.sources[0].root / REFERENCE_ID / parity).is_file():
        (output / REFERENCE_ID).mkdir(exist_ok=True)
        shutil.copy2(subset.sources[0].root / REFERENCE_ID / parity, output / REFERENCE_ID / parity)
