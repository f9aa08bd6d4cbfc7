"""The Python interface: a matrix file to check and run, and an output directory as tidy pandas frames."""

import base64
import html
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import pandas as pd

from harness.checks.static import check_static
from harness.commands.options import DEFAULT_OUTPUT
from harness.config import MatrixConfig, load, override
from harness.executors.local import worker_environment
from harness.state import RunRecord, RunStore, frozen_matrix, read_run, shown_state, whole_rows
from trainers.common import Json, UserError, read_json, scores_schema
from trainers.common.training_schema import EXAMPLE_METRICS, LOG_HISTORY

#: Columns that say which run a row is of, first in every frame.
IDENTITY = ["run_id", "method", "rule", "seed"]
#: Columns of the report's table, as a notebook shows it.
_NOTEBOOK = [
    *("method", "difference", "95 % interval", "adjusted p", "verdict"),
    *("score", "KL", "length", "seeds x prompts"),
]


class Matrix:
    """A checked matrix file: nothing is downloaded, trained or written.

    Args:
        path: the file. overrides: `key=value` texts, as for `run-matrix --set`.

    Raises:
        trainers.common.errors.UserError: a mistake in the file, with line and fix.
    """

    def __init__(self, path: str | Path, overrides: Sequence[str] = ()) -> None:
        self.path, self.overrides = Path(path), tuple(overrides)
        self.config: MatrixConfig
        self.config, self._specs = check_static(override(load(self.path), self.overrides))
        self.name = self.config.name

    @cached_property
    def runs(self) -> pd.DataFrame:
        """What would be run: one row a run, with the method's parameters. Ids are known once model and data are."""
        return pd.DataFrame(
            {key: getattr(spec, key) for key in ("method", "rule", "seed", "objective")}
            | {"parent_method": spec.parent_run and spec.parent_run.method}
            | _prefixed("param", spec.params)
            for spec in self._specs
        )

    def run(self, output: str | Path = DEFAULT_OUTPUT, *options: str) -> "Results":
        """Train, evaluate and report, in a separate process, as `run-matrix` does; finished runs are kept.

        Args:
            options: further options of `run-matrix`, such as "--seeds", "0".

        Raises:
            trainers.common.errors.UserError: the command refused the matrix or the options, or was interrupted; it has said why.
        """
        changes = [word for one in self.overrides for word in ("--set", one)]
        words = ["run-matrix", str(self.path), "--output", str(output), *changes, *options]
        code = subprocess.run([sys.executable, "-m", "harness", *words], env=worker_environment()).returncode
        if code not in (0, 1):  # 1: some runs failed, and the frame of runs says which
            raise UserError(f"run-matrix ended with code {code}; its messages say why")
        return load_results(output)

    def __repr__(self) -> str:
        return f"<Matrix {self.name!r}: {len(self.config.methods)} methods, {len(self._specs)} runs>"

    def _repr_html_(self) -> str:
        counts = self.runs.groupby(["method", "rule"], sort=False).size().rename("runs").reset_index()
        return f"<p><b>{html.escape(repr(self)[1:-1])}</b></p>{_html(counts)}"


class Results:
    """What an output directory holds. Frames are read when first asked for and kept; damaged or missing files give no rows."""

    def __init__(self, output: str | Path = DEFAULT_OUTPUT) -> None:
        self.output = Path(output)
        frozen = frozen_matrix(self.output)
        #: The name, the run ids, and the matrix as resolved before the first run.
        self.name, self.run_ids, self.config = frozen.name, frozen.runs, frozen.config

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One row a run, the reference first: state, error, `param.*`, `hyper.*` and its metrics as `benchmark/metric`."""
        rows = []
        for who, folder in self._folders():
            record, status = read_run(folder) or RunRecord(run_id=who["run_id"]), RunStore(folder).status()
            rows.append(
                {**who, "objective": record.objective, "parent": record.parent, "state": shown_state(status)}
                | {"error": status.error and status.error.message, "fingerprint": record.fingerprint}
                | _prefixed("param", record.params)
                | _prefixed("hyper", record.hyper)
                | {f"{s['benchmark']}/{s['metric']}": s["value"] for s in _scores_of(who, folder)}
            )
        return _frame(rows)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """One row a run, benchmark and metric: value, stderr, n."""
        rows = [row for who, folder in self._folders() for row in _scores_of(who, folder)]
        return _frame(rows, "benchmark", "metric", "value", "stderr", "n")

    @cached_property
    def steps(self) -> pd.DataFrame:
        """One row a run and logged training step, under the trainer's own names."""
        logs = ((who, read_json(folder / LOG_HISTORY)) for who, folder in self._folders())
        told = [(who, record) for who, log in logs if isinstance(log, dict) for record in log.get(who["run_id"], [])]
        return _frame([who | record for who, record in told if "loss" in record and "step" in record], "step", "loss")

    @cached_property
    def examples(self) -> pd.DataFrame:
        """One row a run, step and training pair: perplexity, beta, log-probs, margin, loss (see trainers.common.training_schema).

        Under objective kto a pair has two rows, one for each answer, with nulls in the columns of the other one.
        """
        frames = [_frame([], "step", "example_id")]
        for who, folder in self._folders():
            if (folder / EXAMPLE_METRICS).is_file():
                frame = pd.read_parquet(folder / EXAMPLE_METRICS).assign(**who)
                frames.append(frame[[*IDENTITY, *frame.columns.difference(IDENTITY, sort=False)]])
        return pd.concat(frames[1:] or frames, ignore_index=True)

    @cached_property
    def samples(self) -> pd.DataFrame:
        """One row a run (or the reference), benchmark, prompt and sample: the texts, and the prompt's values as `value.*`."""
        keys, rows = ("benchmark", "prompt_id", "sample", "prompt", "text", "finish_reason"), []
        for who, folder in self._folders():
            for file in sorted((folder / scores_schema.GENERATIONS).glob("*.jsonl")):
                items = (scores_schema.read_scores(folder, file.stem) or {}).get("items") or []
                values = {str(item.get("id")): item.get("values") or {} for item in items}
                for row in whole_rows(file):
                    measured = _prefixed("value", values.get(str(row.get("prompt_id")), {}))
                    rows.append(who | {key: row.get(key) for key in keys} | measured)
        return _frame(rows, *keys)

    def _folders(self) -> Iterator[tuple[Json, Path]]:
        """The reference and every run: what identifies it, and where it lies."""
        for run_id in (scores_schema.REFERENCE, *self.run_ids):
            folder = self.output / run_id if run_id == scores_schema.REFERENCE else self.output / "runs" / run_id
            record = read_run(folder) or RunRecord(run_id=run_id, method=run_id.rpartition("-")[0] or run_id)
            yield {"run_id": run_id} | {key: getattr(record, key) for key in IDENTITY[1:]}, folder

    def __repr__(self) -> str:
        states = self.runs["state"][self.runs["run_id"] != scores_schema.REFERENCE].value_counts(sort=False)
        return f"<Results of {self.name!r}: " + ", ".join(f"{count} {state}" for state, count in states.items()) + ">"

    def _repr_html_(self) -> str:
        """In a notebook: the report's answer, table and figure where there is a report, else the runs."""
        path, figure = self.output / "summary.json", self.output / "figures" / "result.png"
        if not path.is_file():
            shown = [*IDENTITY, "state", *[column for column in self.runs.columns if "/" in column]]
            return f"<p><b>{html.escape(repr(self)[1:-1])}</b></p>{_html(self.runs[shown])}"
        from reports.page.first import heading, rows_of_text
        from reports.schema import read_summary

        summary = read_summary(path)
        parts = [f"<p><b>{html.escape(summary.verdict.answer[0])}</b></p>"]
        parts += [f"<p>{html.escape(sentence)}</p>" for sentence in summary.verdict.answer[1:]]
        if summary.inference.rows:
            parts += [f"<p>{html.escape(heading(summary.inference))}</p>"]
            parts += [_html(pd.DataFrame(rows_of_text(summary.inference), columns=_NOTEBOOK))]
        if figure.is_file():
            image = base64.b64encode(figure.read_bytes()).decode()
            parts.append(f'<img style="max-width: 100%" src="data:image/png;base64,{image}">')
        return "".join(parts)


def load_results(output: str | Path = DEFAULT_OUTPUT) -> Results:
    """The results in an output directory, finished or not.

    Raises:
        trainers.common.errors.UserError: it holds no matrix.
    """
    return Results(output)


def _frame(rows: list[Json], *columns: str) -> pd.DataFrame:
    """Rows that begin with IDENTITY, with `columns` where there are none."""
    frame = pd.DataFrame(rows) if rows else pd.DataFrame(columns=[*IDENTITY, *columns])
    return frame.astype({"seed": "Int64"})  # the reference has no seed, which would turn the others into 0.0 and 1.0


def _scores_of(who: Json, folder: Path) -> list[Json]:
    rows = []
    for file in sorted((folder / scores_schema.SCORES).glob("*.json")):
        found = scores_schema.read_scores(folder, file.stem) or {}
        for metric, one in (found.get("metrics") or {}).items():
            numbers = {key: one.get(key) for key in ("value", "stderr", "n")}
            rows.append({**who, "benchmark": file.stem, "metric": metric} | numbers)
    return rows


def _prefixed(prefix: str, values: Json) -> Json:
    return {f"{prefix}.{key}": value for key, value in values.items()}


def _html(frame: pd.DataFrame) -> str:
    return str(
        frame.to_html(index=False, escape=True, na_rep="", float_format=lambda value: f"{value:.4g}", max_rows=60)
    )
