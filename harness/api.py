"""The Python interface: a matrix file to check and run, and an output directory as tidy pandas frames."""

from __future__ import annotations

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

    @property
    def name(self) -> str:
        return self.config.name

    @cached_property
    def runs(self) -> pd.DataFrame:
        """What would be run: one row a run, with the method's parameters. Ids are known once model and data are."""
        shown = ("method", "rule", "seed", "objective")
        rows = []
        for spec in self._specs:
            parent = spec.parent_run.method if spec.parent_run is not None else None
            keys = {key: getattr(spec, key) for key in shown} | {"parent_method": parent}
            rows.append(keys | _prefixed("param", spec.params))
        return pd.DataFrame(rows)

    def run(self, output: str | Path = DEFAULT_OUTPUT, *options: str) -> Results:
        """Train, evaluate and report, in a separate process, as `run-matrix` does; finished runs are kept.

        Args:
            options: further options of `run-matrix`, such as "--seeds", "0".

        Raises:
            trainers.common.errors.UserError: the command refused the matrix or the options, or was interrupted; it has said why.
        """
        changes = [word for one in self.overrides for word in ("--set", one)]
        words = ["run-matrix", str(self.path), "--output", str(output), *changes, *options]
        command = [sys.executable, "-m", "harness", *words]
        code = subprocess.run(command, env=worker_environment(), check=False).returncode
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
        self.name = frozen.name
        self.run_ids = frozen.runs
        #: The matrix as resolved before the first run.
        self.config = frozen.config

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One row a run, the reference first: state, error, `param.*`, `hyper.*` and its metrics as `benchmark/metric`."""
        rows = []
        for run_id, folder in self._folders():
            record, status = read_run(folder) or RunRecord(run_id=run_id), RunStore(folder).status()
            error = status.error.message if status.error is not None else None
            state = {"state": shown_state(status), "error": error, "fingerprint": record.fingerprint}
            rows.append(
                self._identity(run_id)
                | {"objective": record.objective, "parent": record.parent}
                | state
                | _prefixed("param", record.params)
                | _prefixed("hyper", record.hyper)
                | {f"{s['benchmark']}/{s['metric']}": s["value"] for s in self._scores_of(run_id, folder)}
            )
        return _whole_seeds(pd.DataFrame(rows))

    @cached_property
    def scores(self) -> pd.DataFrame:
        """One row a run, benchmark and metric: value, stderr, n."""
        rows = [row for run_id, folder in self._folders() for row in self._scores_of(run_id, folder)]
        return _whole_seeds(pd.DataFrame(rows, columns=[*IDENTITY, "benchmark", "metric", "value", "stderr", "n"]))

    @cached_property
    def steps(self) -> pd.DataFrame:
        """One row a run and logged training step, under the trainer's own names."""
        rows = []
        for run_id in self.run_ids:
            log = read_json(self.output / "runs" / run_id / LOG_HISTORY)
            records = log.get(run_id, []) if isinstance(log, dict) else []
            rows += [self._identity(run_id) | record for record in records if "loss" in record and "step" in record]
        return pd.DataFrame(rows) if rows else pd.DataFrame(columns=[*IDENTITY, "step", "loss"])

    @cached_property
    def examples(self) -> pd.DataFrame:
        """One row a run, step and training pair: perplexity, beta, log-probs, margin, loss (see trainers.common.training_schema).

        Under objective kto a pair has two rows, one for each answer, with nulls in the columns of the other one.
        """
        frames = []
        for run_id in self.run_ids:
            file = self.output / "runs" / run_id / EXAMPLE_METRICS
            if file.is_file():
                frame = pd.read_parquet(file).assign(**self._identity(run_id))
                frames.append(frame[[*IDENTITY, *frame.columns.difference(IDENTITY, sort=False)]])
        empty = pd.DataFrame(columns=[*IDENTITY, "step", "example_id"])
        return pd.concat(frames, ignore_index=True) if frames else empty

    @cached_property
    def samples(self) -> pd.DataFrame:
        """One row a run (or the reference), benchmark, prompt and sample: the texts, and the prompt's values as `value.*`."""
        keys, rows = ("benchmark", "prompt_id", "sample", "prompt", "text", "finish_reason"), []
        for run_id, folder in self._folders():
            for file in sorted((folder / scores_schema.GENERATIONS).glob("*.jsonl")):
                items = (scores_schema.read_scores(folder, file.stem) or {}).get("items") or []
                values = {str(item.get("id")): item.get("values") or {} for item in items}
                for row in whole_rows(file):
                    measured = _prefixed("value", values.get(str(row.get("prompt_id")), {}))
                    rows.append(self._identity(run_id) | {key: row.get(key) for key in keys} | measured)
        return _whole_seeds(pd.DataFrame(rows) if rows else pd.DataFrame(columns=[*IDENTITY, *keys]))

    def _folders(self) -> Iterator[tuple[str, Path]]:
        yield scores_schema.REFERENCE, self.output / scores_schema.REFERENCE
        for run_id in self.run_ids:
            yield run_id, self.output / "runs" / run_id

    def _identity(self, run_id: str) -> Json:
        record = read_run(self.output / "runs" / run_id) if run_id != scores_schema.REFERENCE else None
        record = record or RunRecord(run_id=run_id, method=run_id.rpartition("-")[0] or run_id)
        return {"run_id": run_id, "method": record.method, "rule": record.rule, "seed": record.seed}

    def _scores_of(self, run_id: str, folder: Path) -> list[Json]:
        rows = []
        for file in sorted((folder / scores_schema.SCORES).glob("*.json")):
            found = scores_schema.read_scores(folder, file.stem) or {}
            for metric, one in (found.get("metrics") or {}).items():
                numbers = {key: one.get(key) for key in ("value", "stderr", "n")}
                rows.append(self._identity(run_id) | {"benchmark": file.stem, "metric": metric} | numbers)
        return rows

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


def _whole_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    """The reference has no seed, which would turn the others into 0.0 and 1.0."""
    return frame.astype({"seed": "Int64"})


def _prefixed(prefix: str, values: Json) -> Json:
    return {f"{prefix}.{key}": value for key, value in values.items()}


def _html(frame: pd.DataFrame) -> str:
    return str(
        frame.to_html(index=False, escape=True, na_rep="", float_format=lambda value: f"{value:.4g}", max_rows=60)
    )
