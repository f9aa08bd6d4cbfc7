"""Two models compared on the same items, from tables of any origin: CSV, JSONL, samples and results of lm-eval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from reports.foreign import lm_eval
from reports.foreign.rows import Row, keys_of, read_rows
from reports.foreign.sources import ForeignRun, TaskScores
from reports.runs.records import ReportError
from reports.schema.judges import ScoreComparison, ScoreTables
from reports.statistics.intervals import difference_interval, outcome, undefined, welch
from reports.statistics.paired import mcnemar, sign_flip
from trainers.common.words import nearest

#: Columns that name the item, where none is given; the first that is there counts.
IDS = ("id", "item_id", "prompt_id", "example_id", "question_id", "doc_id", "idx")


@dataclass(frozen=True, slots=True)
class ScoreColumn:
    """One model on one metric.

    Attributes:
        values: by item id; empty where the file has a mean alone.
        groups: by item id, its cluster; an item without one is a cluster of its own.
        contents: by item id, a hash of what was asked, where the file has one.
        mean, stderr, n: as the file states them.
    """

    model: str
    metric: str
    path: Path
    values: Mapping[str, float] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    contents: Mapping[str, str] = field(default_factory=dict)
    mean: float | None = None
    stderr: float | None = None
    n: int | None = None


def read_scores(
    paths: Sequence[Path], item: str | None = None, score: str | None = None, group: str | None = None
) -> list[ScoreColumn]:
    """The columns of all files, in their order. A model without a name is called as its file, or as its folder.

    Args:
        item, score, group: names of the columns of item (several with commas between them), score and cluster; None finds the
            first two.

    Raises:
        ReportError: with file, row, key and fix.
    """
    stems = [path.stem.partition(".")[0] for path in paths]
    alike = len(set(stems)) < len(stems)
    found: list[ScoreColumn] = []
    for path, stem in zip(paths, stems, strict=True):
        name = f"{path.resolve().parent.name}/{stem}" if alike else stem
        lm = path.is_dir() or path.suffix == ".json" or path.name.startswith("samples_")
        rows = [] if lm else read_rows(path)
        if lm or ("doc_id" in rows[0].values and item is None):
            model = path.name if path.is_dir() else name
            found += [column for task in _tasks(path) for column in _of_task(task, model, path)]
        else:
            found += _of_table(rows, name, item, score, group)
    return found


def _of_table(
    rows: Sequence[Row], name: str, item: str | None, score: str | None, group: str | None
) -> list[ScoreColumn]:
    keys, path = list(keys_of(rows)), rows[0].path
    named = [("--id", one) for one in (item.split(",") if item else ())]
    for option, wanted in (*named, ("--score", score), ("--cluster", group)):
        if wanted is not None and wanted not in keys:
            raise ReportError(f"{path}:1: {option} {wanted}: no such column; {nearest(wanted, keys, ', '.join(keys))}")
    item = item or next((key for key in IDS if key in keys), None)
    if item is None:
        raise ReportError(f"{path}:1: no column names the item; say which with --id: {', '.join(keys)}")
    score = score or ("score" if "score" in keys else None)
    parts = item.split(",")
    wide = {key: key for key in keys if key not in (*parts, group, "model")} if score is None else {}
    cells: dict[str, dict[str, float]] = {}
    groups: dict[str, str] = {}
    for row in rows:
        place = "/".join(row.text(part) for part in parts)
        if group is not None:
            kept = groups.setdefault(place, row.text(group))
            if kept != row.text(group):
                raise row.error(
                    f"{item} {place} is in {group} {row.text(group)} and in {kept}; an item is in one cluster"
                )
        own = wide or {score or "": row.text("model", name)}
        for key, model in own.items():
            value, values = row.number(key), cells.setdefault(model, {})
            if value is None:
                raise row.error(f"{key} of {item} {place} is empty; give a score, or leave the row out of all files")
            if place in values:
                raise row.error(f"{model} has a second score of {item} {place}; keep one, or make {item} unique")
            values[place] = value
    return [ScoreColumn(model, score or "score", path, values, groups) for model, values in cells.items()]


def _tasks(path: Path) -> list[TaskScores]:
    """lm-eval's tasks: of a folder of results, of one file of samples, or the means of a results file of any version."""
    if path.is_dir():
        tasks = list(lm_eval.read(ForeignRun(path.name, path), path).scores.values())
        if not tasks:
            raise ReportError(
                f"{path}: no results and no samples of lm-eval in it; name a folder or a file that has some"
            )
        return tasks
    if path.suffix == ".json" and not path.name.startswith("samples_"):
        content = lm_eval.read_results(path)
        return [lm_eval.task_scores(task, path, content) for task in content["results"]]
    return [lm_eval.task_scores(lm_eval.task_of(path), path, {}, path)]


def _of_task(task: TaskScores, name: str, path: Path) -> list[ScoreColumn]:
    contents = {i["id"]: str(i["doc_hash"]) for i in task.items if i.get("doc_hash")}
    return [
        ScoreColumn(
            name, f"{task.task}/{metric}", path,
            {i["id"]: v for i in task.items if (v := i["values"].get(metric)) is not None},
            {}, contents, said.get("value"), said.get("stderr"), said.get("n"),
        )
        for metric, said in task.metrics.items()
    ]  # fmt: skip


# Two models compared on the same items, from tables of scores of any origin (reports.foreign.compare_scores).


def score_tables(
    paths: Sequence[Path],
    item: str | None = None,
    score: str | None = None,
    group: str | None = None,
    baseline: str | None = None,
) -> ScoreTables:
    """Every model against the baseline (the second model, where none is named) on every metric that both have.

    Raises:
        ReportError: a file that cannot be read, fewer than two models, or two models without a common metric or item.
    """
    columns = read_scores(paths, item, score, group)
    models = list(dict.fromkeys(column.model for column in columns))
    if len(models) < 2:
        raise ReportError(f"{paths[0]}: one model, {models[0]}; give a second file, or a table of several models")
    against = baseline or models[1]
    if against not in models:
        raise ReportError(f"--baseline {against}: no such model; {nearest(against, models, ', '.join(models[:12]))}")
    found = []
    for model in (one for one in models if one != against):
        pairs = [
            (a, b) for a in columns for b in columns if a.model == model and b.model == against and a.metric == b.metric
        ]
        if not pairs:
            has = [", ".join(c.metric for c in columns if c.model == name) for name in (model, against)]
            raise ReportError(f"{model} and {against} share no metric: {has[0]} and {has[1]}; name one with --score")
        found += [compare_columns(a, b) for a, b in pairs]
    return ScoreTables(schema_version=1, files=[str(path) for path in paths], comparisons=found)


def compare_columns(a: ScoreColumn, b: ScoreColumn) -> ScoreComparison:
    """`a` minus `b`, paired by item where both have items. ReportError where they share none, or an id means two items."""
    shared = [key for key in a.values if key in b.values]
    if not a.values or not b.values:
        return _unpaired(a, b)
    if not shared:
        one, two = (next(iter(column.values)) for column in (a, b))
        raise ReportError(
            f"{a.path} and {b.path}: {a.model} and {b.model} share no item (the first are {one!r} and {two!r}); "
            "name the column of items with --id"
        )
    hashed = [key for key in shared if key in a.contents and key in b.contents]
    if other := [key for key in hashed if a.contents[key] != b.contents[key]]:
        raise ReportError(
            f"{b.path}: item {other[0]} is another document than in {a.path}; evaluate both on the same version"
        )
    x, y = (np.array([column.values[key] for key in shared]) for column in (a, b))
    groups = [a.groups.get(key) or b.groups.get(key) or key for key in shared] if a.groups or b.groups else None
    if groups is not None and len(set(groups)) < len(groups):
        _, index = np.unique(np.asarray(groups), return_inverse=True)
        test = sign_flip(np.bincount(index, weights=x - y))
    else:
        test = mcnemar(x, y) if np.isin(np.concatenate([x, y]), (0, 1)).all() else sign_flip(x - y)
    return ScoreComparison(
        metric=a.metric,
        first=a.model,
        second=b.model,
        first_mean=float(x.mean()),
        second_mean=float(y.mean()),
        difference=difference_interval(x - y, groups),
        test=test,
        wins=int((x > y).sum()),
        losses=int((x < y).sum()),
        ties=int((x == y).sum()),
        clusters=None if groups is None else len(set(groups)),
        only_first=len(a.values) - len(shared),
        only_second=len(b.values) - len(shared),
    )


def _unpaired(a: ScoreColumn, b: ScoreColumn) -> ScoreComparison:
    """From the means that the files state."""
    nothing = "a file has means alone: the items cannot be paired"
    found = undefined("Welch interval, unpaired", 0, "a file states no mean")
    if a.mean is not None and b.mean is not None:
        found = welch((a.mean, b.mean), (a.stderr, b.stderr), (a.n, b.n))
    return ScoreComparison(
        metric=a.metric, first=a.model, second=b.model, first_mean=a.mean, second_mean=b.mean, difference=found,
        test=outcome(None, "none", found.n, note=nothing), wins=0, losses=0, ties=0, clusters=None,
        only_first=len(a.values), only_second=len(b.values),
    )  # fmt: skip
