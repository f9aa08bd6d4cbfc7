"""Read the runs of a matrix from disk. Failed and missing runs are carried as such, never dropped.

A file that is absent is a fact about the run (its state says so); a file that is present and unreadable is an error
that names the file.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.common.errors import UserError
from trainers.common.files import Json
from trainers.common.training_schema import EXAMPLE_METRICS, LOG_HISTORY

if TYPE_CHECKING:
    import pandas as pd

    from reports.schema.base import State

REFERENCE_ID = "reference"
#: What the judges said, beside the runs.
COMPARISONS = "comparisons"
#: Kinds scored by a rule that anyone can run again, for score files that do not say it themselves (`by_rule`).
_RULED = frozenset({"constraints", "gold_reward", "gsm8k", "ifeval", "lm_eval"})


class ReportError(UserError):
    """A file of the matrix cannot be read, or is not what its name promises."""


@dataclass(frozen=True, slots=True)
class Item:
    """One scored prompt of one benchmark. `values` maps a metric to a number (None where undefined)."""

    id: str
    values: dict[str, float | None]
    group: str | None = None
    extra: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scores:
    """One policy on one benchmark, as scores/<benchmark>.json holds it.

    Attributes:
        metrics: by name the mean with `value`, `stderr`, `n` and `higher_is_better` (None for a description).
        prompt_perplexity_under: the policy under which the prompt perplexity of the items was measured; None where the rows
            carried it, or have none.
        engine: what wrote the answers, with version and precision; None where the file does not say.
        by_rule: whether a rule that anyone can run again gave the scores, and not a model's judgement.
        descriptions: what a metric measures, by its name, where the benchmark says it.
    """

    benchmark: str
    kind: str
    policy: str
    metrics: dict[str, Json]
    primary_metric: str
    items: tuple[Item, ...]
    noise: Any = None
    prompt_perplexity_under: str | None = None
    engine: str | None = None
    by_rule: bool = False
    descriptions: Mapping[str, str] = field(default_factory=dict)

    def values(self, metric: str) -> dict[str, float]:
        """The values of one metric that are known, by item id."""
        return {item.id: v for item in self.items if (v := item.values.get(metric)) is not None}

    @property
    def groups(self) -> dict[str, str]:
        """The group of every item by its id; an item without one is a group of its own."""
        return {item.id: item.id if item.group is None else item.group for item in self.items}


def error_text(status: Mapping[str, Any] | None) -> str | None:
    """Class and message of the error that a status.json holds; None where it holds none."""
    error = (status or {}).get("error")
    return f"{error.get('class', 'Error')}: {error.get('message', '')}".strip() if error else None


@dataclass(frozen=True, slots=True)
class RunData:
    """One run: what it is (run.json), how far it got (status.json), what it logged, how it scored."""

    run_id: str
    path: Path
    identity: Json | None
    status: Json | None
    history: tuple[Json, ...]
    scores: dict[str, Scores]

    @property
    def method(self) -> str:
        """Name of the method; for a run without run.json, the part of its id before the fingerprint."""
        return str((self.identity or {}).get("method") or self.run_id.rsplit("-", 1)[0])

    @property
    def rule(self) -> str | None:
        return (self.identity or {}).get("rule")

    @property
    def seed(self) -> int | None:
        seed = (self.identity or {}).get("seed")
        return None if seed is None else int(seed)

    @property
    def settings(self) -> Json:
        """Rule parameters and grid values together; the grid value wins."""
        identity = self.identity or {}
        return {**(identity.get("params") or {}), **(identity.get("hyper") or {})}

    @property
    def state(self) -> State:
        """done, failed, running, pending, or missing when there is no status.json."""
        return "missing" if not self.status else self.status.get("state", "missing")

    @property
    def steps(self) -> list[Json]:
        """Logged training steps: the records that carry both `step` and `loss`."""
        return [r for r in self.history if "loss" in r and "step" in r]

    def examples(
        self, needed: Sequence[str], wanted: Sequence[str] | None = (), name: str = EXAMPLE_METRICS
    ) -> pd.DataFrame | None:
        """Columns of example_metrics.parquet, or of another table: the needed ones, and of the wanted ones (None: of all) those
        that are there.

        None where the run has no such table. Raises ReportError for a damaged file or a missing column.
        """
        path = self.path / name
        if not path.exists():
            return None
        import pyarrow.parquet as parquet

        try:
            with parquet.ParquetFile(path) as file:
                there = [c for c in file.schema_arrow.names if wanted is None or c in (*needed, *wanted)]
                frame = file.read(columns=there).to_pandas()
        except Exception as error:  # pyarrow raises half a dozen unrelated classes for a damaged file
            raise ReportError(f"{path}: not a readable parquet file ({error}); rerun this run's training") from error
        absent = [c for c in needed if c not in frame]
        if absent:
            raise ReportError(f"{path}: column {absent[0]!r} is missing; rerun this run's training")
        return frame

    def example_ids(self) -> set[str]:
        """Ids of the training examples in example_metrics.parquet; empty where the run recorded none."""
        found = self.examples(["example_id"])
        return set() if found is None else set(map(str, found["example_id"].unique()))


@dataclass(frozen=True, slots=True)
class MatrixData:
    """All runs of a matrix in the order asked for, the reference policy, and the frozen matrix file."""

    output_dir: Path
    runs: tuple[RunData, ...]
    reference: RunData | None
    config: Json

    @property
    def benchmarks(self) -> list[str]:
        """Every benchmark that at least one policy was scored on, in the order of first appearance."""
        return list(dict.fromkeys(table.benchmark for table in self.tables))

    @property
    def policies(self) -> list[RunData]:
        """The reference, where there is one, and all runs."""
        return [*([self.reference] if self.reference else []), *self.runs]

    @property
    def tables(self) -> list[Scores]:
        """The scores of every policy on every benchmark, the reference's first."""
        return [scores for policy in self.policies for scores in policy.scores.values()]


def tried(runs: Iterable[RunData]) -> list[int]:
    """The seeds of which a run has ended, well or badly: a look counts these, and no seed that is still to come."""
    return sorted({run.seed for run in runs if run.seed is not None and run.state in ("done", "failed")})


#: What to do about a file of this project that is damaged.
REMADE = "delete it and rerun"


def read_text(path: Path, fix: str = REMADE) -> str:
    """The text of a file, without a byte order mark. ReportError where it cannot be read or is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise ReportError(f"{path}:{line}: not UTF-8 text ({error.reason}); {fix}") from None
    except OSError as error:
        raise ReportError(f"{path}: cannot be read ({error.strerror})") from None


def decode(text: str, path: Path, fix: str = REMADE, line: int = 1) -> Any:
    """The JSON value of a text that begins on this line. ReportError naming the file, the line and the fix otherwise."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ReportError(f"{path}:{line + error.lineno - 1}: not valid JSON ({error.msg}); {fix}") from None
    except RecursionError:
        raise ReportError(f"{path}:{line}: JSON nested too deep; {fix}") from None


def read_json(path: Path, fix: str = REMADE) -> Any:
    """One JSON value. ReportError naming the file, the line and the fix otherwise."""
    return decode(read_text(path, fix), path, fix)


def read_object(path: Path, fix: str = REMADE) -> Json:
    """One JSON object. ReportError naming the file, the line and the fix otherwise."""
    value = read_json(path, fix)
    if not isinstance(value, dict):
        raise ReportError(f"{path}:1: expected an object, found {type(value).__name__}; {fix}")
    return value


def read_yaml(path: Path) -> Json:
    """The mapping in a YAML file. ReportError naming file and line otherwise."""
    import yaml

    try:
        value = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        said = getattr(error, "problem", None) or " ".join(str(error).split())
        raise ReportError(f"{path}:{mark.line + 1 if mark else 1}: not valid YAML ({said})") from None
    if not isinstance(value, dict | None):
        raise ReportError(f"{path}:1: expected keys and values, found {type(value).__name__}")
    return value or {}


def finite(value: Any) -> float | None:
    """The value as a finite float, or None: JSON has no NaN and a mean over one is no mean."""
    if type(value) is float:
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _history(path: Path, run_id: str) -> tuple[Json, ...]:
    records = read_object(path).get(run_id, []) if path.exists() else []
    if not isinstance(records, list) or not all(isinstance(r, dict) for r in records):
        raise ReportError(f"{path}: {run_id!r} must hold a list of records; delete it and rerun")
    return tuple(records)


def load_scores(path: Path) -> Scores:
    """Read one scores/<benchmark>.json."""
    raw = read_object(path)
    try:
        items = tuple(
            Item(
                id=str(item["id"]),
                values={name: finite(value) for name, value in item["values"].items()},
                group=None if item.get("group") is None else str(item["group"]),
                extra={k: v for k, v in item.items() if k not in ("id", "values", "group")},
            )
            for item in raw["items"]
        )
        scores = Scores(
            benchmark=str(raw["benchmark"]),
            kind=str(raw["kind"]),
            policy=str(raw["policy"]),
            metrics=dict(raw["metrics"]),
            primary_metric=str(raw["primary_metric"]),
            items=items,
            noise=raw.get("noise"),
            prompt_perplexity_under=raw.get("prompt_perplexity_under"),
            engine=raw.get("engine"),
            by_rule=bool(raw.get("by_rule", raw["kind"] in _RULED)),
            descriptions=dict(raw.get("descriptions") or {}),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ReportError(f"{path}: not a score file ({type(error).__name__}: {error}); delete it and rerun") from error
    twice = next((name for name, count in Counter(item.id for item in items).items() if count > 1), None)
    if twice is not None:
        raise ReportError(f"{path}: item id {twice!r} appears twice; ids pair the policies, make them unique")
    return scores


def load_tables(folder: Path) -> dict[str, Scores]:
    """The scores of every file of a folder, by benchmark."""
    return {scores.benchmark: scores for scores in map(load_scores, sorted(folder.glob("*.json")))}


def load_run(path: Path, run_id: str | None = None, scores: bool = True) -> RunData:
    """Read one run directory (or the reference policy's), without its scores if so asked. Absent files leave empty fields."""
    identity, status = (
        read_object(file) if (file := path / name).exists() else None for name in ("run.json", "status.json")
    )
    name = run_id or str((identity or {}).get("run_id", path.name))
    history = _history(path / LOG_HISTORY, name)
    return RunData(name, path, identity, status, history, load_tables(path / "scores") if scores else {})


def load_config(output_dir: Path) -> Json:
    """The frozen matrix file of an output directory; empty where there is none."""
    path = output_dir / "matrix.yaml"
    return read_yaml(path) if path.exists() else {}


def load_matrix(output_dir: Path | str, run_ids: Sequence[str], config: Mapping[str, Any] | None = None) -> MatrixData:
    """Read the runs named, in that order, and the reference policy.

    `config` is the matrix file as a mapping; without it `matrix.yaml` in the directory is read. Raises ReportError
    for a damaged file.
    """
    root = Path(output_dir)
    if len(set(run_ids)) != len(run_ids):
        raise ReportError(f"{root}: a run id is listed twice; list each run once")
    reference = root / "reference"
    return MatrixData(
        output_dir=root,
        runs=tuple(load_run(root / "runs" / run_id, run_id) for run_id in run_ids),
        reference=load_run(reference, REFERENCE_ID) if reference.exists() else None,
        config=dict(config) if config is not None else load_config(root),
    )
