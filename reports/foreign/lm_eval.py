"""lm-eval's result folders: `results_<time>.json` and, with --log_samples, `samples_<task>_<time>.jsonl`.

lm_eval.loggers.EvaluationTracker writes them into one folder per model. Of several evaluations of a task in one folder
the newest counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from reports.foreign.rows import read_rows
from reports.foreign.sources import ForeignRun, TaskScores, read_object
from reports.runs.records import ReportError, finite
from reports.statistics.intervals import plain
from trainers.common.files import Json

_TIME = r"(\d{4}-\d{2}-\d{2}T\d{2}-\d{2}-\d{2}(?:\.\d+)?)"
_RESULTS = re.compile(r"results_.+\.json")
_SAMPLES = re.compile(rf"samples_(.+?)_{_TIME}\.jsonl|samples_(.+)\.jsonl")
#: The first of these that a task reports is its primary metric; else the first metric it reports.
PRIMARY = ("acc", "exact_match")
#: Keys of a sample that are no scores, for versions of lm-eval that do not list the metrics.
_NOT_SCORES = {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics"}

#: Metric and filter.
Scored = tuple[str, str]


def result_files(directory: Path) -> list[Path]:
    """Aggregated results and sample files of lm-eval in a folder, oldest first."""
    names = [p for p in directory.iterdir() if _SAMPLES.fullmatch(p.name) or _RESULTS.fullmatch(p.name)]
    return sorted((p for p in names if p.is_file()), key=lambda p: (_time(p), p.name))


def _time(path: Path) -> str:
    found = re.search(_TIME, path.name)
    return found[1] if found else ""


def read(run: ForeignRun, directory: Path) -> ForeignRun:
    """Fill the run's scores from one folder of lm-eval; returns the run.

    Raises:
        ReportError: a file is damaged, is no result of lm-eval, or scores a document twice with one filter.
    """
    files = result_files(directory)
    aggregated: dict[str, tuple[Path, Json]] = {}
    samples: dict[str, Path] = {}
    for path in files:
        match = _SAMPLES.fullmatch(path.name)
        if match:
            samples[match[1] or match[3]] = path
            continue
        results = read_object(path)
        if not isinstance(results.get("results"), dict):
            raise ReportError(f"{path}:1: has no object 'results'; is it lm-eval's results file?")
        # A group's row is an average of its tasks, which are listed themselves.
        groups = {k for k, members in (results.get("group_subtasks") or {}).items() if members}
        aggregated |= {task: (path, results) for task in results["results"] if task not in groups}
        model = results.get("model_name") or (results.get("config") or {}).get("model")
        run.model = run.model or (model if isinstance(model, str) else None)
    run.formats.append("lm-eval")
    used = {path for path, _ in aggregated.values()} | set(samples.values())
    run.files += sorted(used)
    older = len(files) - len(used)
    if older:
        run.notes.append(f"{older} older result file{'' if older == 1 else 's'} of lm-eval left out; the newest counts")
    for task in sorted({*aggregated, *samples}):
        path, results = aggregated.get(task, (directory, {}))
        if task in samples and task in aggregated and _time(samples[task]) != _time(path):
            run.notes.append(f"{task}: samples and results are of different evaluations; the figures are the samples'")
            results = {}
        run.scores[task] = task_scores(task, path, results, samples.get(task))
    return run


def _reported(task: str, results: Mapping[str, Any]) -> dict[Scored, Json]:
    """Value, standard error and direction from the aggregated results."""
    row, better, count = (
        (results.get(key) or {}).get(task) or {} for key in ("results", "higher_is_better", "n-samples")
    )
    effective = count.get("effective")
    old = not any("," in key for key in row)  # 0.2 and 0.3 have no filters
    found: dict[Scored, Json] = {}
    for key, value in row.items():
        metric, _, chosen = str(key).partition(",")
        if not (chosen or old) or metric.endswith("_stderr") or isinstance(value, (str, list, dict)):
            continue
        found[metric, chosen or "none"] = {
            "value": finite(value),
            "stderr": finite(row.get(f"{metric}_stderr,{chosen}" if chosen else f"{metric}_stderr")),
            "n": effective if isinstance(effective, int) else None,
            "higher_is_better": bool(better.get(metric, True)),
        }
    return found


def task_of(samples: Path) -> str:
    """The task that a file of samples is named after."""
    found = _SAMPLES.fullmatch(samples.name)
    return (found[1] or found[3]) if found else samples.stem


def task_scores(task: str, path: Path, results: Mapping[str, Any], samples: Path | None = None) -> TaskScores:
    """A task's scores from the content of a results file, and from its samples where there are some.

    Raises:
        ReportError: a damaged file, or no score in it.
    """
    reported = _reported(task, results)
    items, scored = ({}, {}) if samples is None else _documents(samples)
    filters = {chosen for _, chosen in (*scored, *reported)}
    # Metric as reported: with its filter where a task scores the same answers through several.
    names = {key: key[0] if len(filters) <= 1 else ",".join(key) for key in (*reported, *scored)}
    metrics: dict[str, Json] = {}
    for key, name in names.items():
        entry = dict(reported.get(key) or {"higher_is_better": True})
        values = np.array([v for v in scored.get(key, {}).values() if v is not None], dtype=float)
        if values.size:
            entry.setdefault("value", float(values.mean()))
            entry.setdefault("stderr", finite(plain(values)))
            entry["n"] = int(values.size)
        metrics[name] = entry
        for document, value in scored.get(key, {}).items():
            items[document]["values"][name] = value
    if not metrics:
        raise ReportError(f"{samples or path}: no score of task {task!r} in it; is it a result of lm-eval?")
    ranked = [name for wanted in PRIMARY for name in metrics if name.partition(",")[0] == wanted]
    facts = {
        "num_fewshot": (results.get("n-shot") or {}).get(task),
        "task_version": (results.get("versions") or {}).get(task),
        "chat_template_sha": results.get("chat_template_sha"),
    }
    answers = [
        {"prompt_id": i["id"], "prompt": i["prompt"] or "", "text": i["response"]}
        for i in items.values()
        if i["response"] is not None
    ]
    return TaskScores(task, metrics, (ranked or list(metrics))[0], list(items.values()), answers, facts)


def _documents(path: Path) -> tuple[dict[str, Json], dict[Scored, dict[str, float | None]]]:
    """Documents by doc_id, without their values, and the values by metric, filter and doc_id."""
    items: dict[str, Json] = {}
    scored: dict[Scored, dict[str, float | None]] = {}
    for line, sample in ((row.place, row.values) for row in read_rows(path)):
        if "doc_id" not in sample:
            raise ReportError(f"{path}:{line}: no 'doc_id'; is it a samples file of lm-eval?")
        key, chosen = str(sample["doc_id"]), str(sample.get("filter", "none"))
        item = items.setdefault(key, {"id": key, "values": {}, "group": None, **_texts(sample)})
        if item["doc_hash"] != sample.get("doc_hash"):
            raise ReportError(f"{path}:{line}: doc_id {key} names two documents; two evaluations in one file?")
        for metric in sample.get("metrics") or [k for k in sample if k not in _NOT_SCORES]:
            value = sample.get(metric)
            if not isinstance(value, (int, float)):
                continue  # corpus metrics (perplexity, BLEU) keep parts here, not a score of the document
            values = scored.setdefault((metric, chosen), {})
            if key in values:
                raise ReportError(f"{path}:{line}: doc_id {key} is scored twice; two evaluations in one file?")
            values[key] = finite(value)
    return items, scored


def _texts(sample: Mapping[str, Any]) -> Json:
    """Hashes, prompt, answer and target. Arguments are a mapping in files of today and a list in old ones."""
    first = next(iter(_listed(sample.get("arguments"))), None)
    parts = _listed(first)
    response = sample.get("resps")
    while isinstance(response, list) and response:
        response = response[0]
    generated = len(parts) > 1 and isinstance(parts[1], dict)  # the second argument of generate_until: its settings
    return {
        "doc_hash": sample.get("doc_hash"),
        "prompt_hash": sample.get("prompt_hash"),
        "prompt": str(parts[0]) if parts else None,
        "response": str(response) if generated and isinstance(response, str) else None,
        "target": str(sample.get("target")),
    }


def _listed(value: Any) -> list[Any]:
    """The values of a mapping or a list; nothing of anything else."""
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
