"""lm-eval's results, and with --log_samples its documents, of every layout that was ever written into a folder.

| version | results | documents |
|---|---|---|
| 0.4.3 and later | `results_<time>.json`, keys `acc,none` | `samples_<task>_<time>.jsonl` |
| 0.4.0 to 0.4.2 | `results.json` or a name of the user's | `<model arguments>_<task>.jsonl`, one JSON array |
| 0.2, 0.3, Open LLM Leaderboard 1 | any name, keys `acc` and `acc_stderr` | - |

Of several evaluations of a task in one folder the newest counts.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from reports.foreign.lm_eval_samples import Scored, agree, documents, with_filters
from reports.foreign.sources import ForeignRun, TaskScores, read_json, read_object
from reports.runs.records import ReportError, finite
from reports.statistics.intervals import plain
from trainers.common.files import Json

_TIME = r"(\d{4}-\d{2}-\d{2}T\d{2}-\d{2}-\d{2}(?:\.\d+)?)"
_RESULTS = re.compile(r"results_.+\.json")
_SAMPLES = re.compile(rf"samples_(.+?)_{_TIME}\.jsonl|samples_(.+)\.jsonl")
#: The first of these that a task reports is its primary metric; else the first metric it reports.
PRIMARY = ("acc", "exact_match")
#: Metrics that are better when lower, for versions of lm-eval that do not say so.
_LOWER = ("perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "ppl", "brier_score", "ter")


def result_files(directory: Path) -> tuple[list[Path], list[Path]]:
    """Aggregated results, and sample files of lm-eval in a folder, each oldest first."""
    files = sorted((p for p in directory.iterdir() if p.is_file()), key=lambda p: (_time(p), p.name))
    return list(filter(_is_results, files)), list(filter(_is_samples, files))


def _is_samples(path: Path) -> bool:
    if path.suffix != ".jsonl" or _SAMPLES.fullmatch(path.name):
        return path.suffix == ".jsonl"
    with path.open("rb") as file:
        start = file.read(4096).lstrip()
    return start.startswith(b"[") and b'"doc_id"' in start


def _is_results(path: Path) -> bool:
    """Whether it is a results file: by its name, else (before 0.4.3 the user chose it) by what is in it."""
    if path.suffix != ".json" or _RESULTS.fullmatch(path.name):
        return path.suffix == ".json"
    content = path.read_bytes()
    if b'"results"' not in content or b'"versions"' not in content:
        return False
    value = read_json(path)
    return isinstance(value, dict) and all(isinstance(value.get(key), dict) for key in ("results", "versions"))


def _time(path: Path) -> str:
    found = re.search(_TIME, path.name)
    return found[1] if found else ""


def _model(results: Mapping[str, Any]) -> str | None:
    """The model that was evaluated, as far as the results say."""
    config = results.get("config") or {}
    arguments = config.get("model_args")
    named = re.search(r"(?:^|,)pretrained=([^,]+)", arguments) if isinstance(arguments, str) else None
    name = results.get("model_name") or (results.get("config_general") or {}).get("model_name")
    name = name or (named[1] if named else config.get("model"))
    return name if isinstance(name, str) else None


def read(run: ForeignRun, directory: Path) -> ForeignRun:
    """Fill the run's scores from one folder of lm-eval; returns the run.

    Raises:
        ReportError: a file is damaged, is no result of lm-eval, scores a document twice with one filter, or the folder holds
            results of two models.
    """
    found, sampled = result_files(directory)
    aggregated: dict[str, tuple[Path, Json]] = {}
    samples: dict[str, Path] = {}
    for path in found:
        results = read_results(path)
        # A group's row is an average of its tasks, which are listed themselves; so is the leaderboard's row `all`.
        groups = {k for k, members in (results.get("group_subtasks") or {}).items() if members}
        groups |= {"all"} if "config_general" in results else set()
        model = _model(results)
        for task in results["results"].keys() - groups:
            before, known = aggregated.get(task, (path, results))
            if _model(known) != model:
                other = f"{before.name} of {_model(known)}"
                raise ReportError(f"{path}: {task} of the model {model}, and {other}; give each model its folder")
            aggregated[task] = (path, results)
        run.model = run.model or model
    for path in sampled:
        task = task_of(path, aggregated)
        if task in samples and not _SAMPLES.fullmatch(path.name):
            raise ReportError(f"{path}: samples of {task}, as {samples[task].name} holds; give each model its folder")
        samples[task] = path
    run.formats.append("lm-eval")
    used = {path for path, _ in aggregated.values()} | set(samples.values())
    run.files += sorted(used)
    older = len(found) + len(sampled) - len(used)
    if older:
        run.notes.append(f"{older} older result file{'' if older == 1 else 's'} of lm-eval left out; the newest counts")
    for task in sorted({*aggregated, *samples}):
        path, results = aggregated.get(task, (directory, {}))
        if task in samples and task in aggregated and _time(samples[task]) != _time(path):
            run.notes.append(f"{task}: samples and results are of different evaluations; the figures are the samples'")
            results = {}
        run.scores[task] = task_scores(task, path, results, samples.get(task), run.notes)
    return run


def read_results(path: Path) -> Json:
    """The content of a results file. ReportError where it is none."""
    results = read_object(path)
    if not isinstance(results.get("results"), dict):
        raise ReportError(f"{path}:1: has no object 'results'; is it lm-eval's results file?")
    return results


def task_of(samples: Path, tasks: Iterable[str] = ()) -> str:
    """The task that a file of samples is named after; before 0.4.3 that is the longest of `tasks` in which its name ends."""
    if found := _SAMPLES.fullmatch(samples.name):
        return found[1] or found[3]
    return max((task for task in tasks if samples.stem.endswith(f"_{task}")), key=len, default=samples.stem)


def _reported(task: str, results: Mapping[str, Any]) -> dict[Scored, Json]:
    """Value, standard error and direction from the aggregated results."""
    row, better, count = (
        (results.get(key) or {}).get(task) or {} for key in ("results", "higher_is_better", "n-samples")
    )
    effective = count.get("effective")
    found: dict[Scored, Json] = {}
    filtered = any("," in str(key) for key in row)  # before 0.4 there were no filters
    for key, value in row.items():
        metric, comma, chosen = str(key).partition(",")
        if filtered != bool(comma) or metric.endswith("_stderr") or isinstance(value, (str, list, dict)):
            continue
        found[metric, chosen or "none"] = {
            "value": finite(value),
            "stderr": finite(row.get(f"{metric}_stderr{comma}{chosen}")),
            "n": effective if isinstance(effective, int) else None,
            "higher_is_better": bool(better.get(metric, metric not in _LOWER)),
        }
    return found


def _filters(task: str, results: Mapping[str, Any], reported: Mapping[Scored, Json]) -> list[str]:
    """Names of the task's filters in the order they were applied; none where no results say so."""
    config = (results.get("configs") or {}).get(task) or {}
    listed = [str(one["name"]) for one in config.get("filter_list") or [] if isinstance(one, dict) and "name" in one]
    return listed or list(dict.fromkeys(chosen for _, chosen in reported))


def task_scores(
    task: str, path: Path, results: Mapping[str, Any], samples: Path | None = None, notes: list[str] | None = None
) -> TaskScores:
    """A task's scores from the content of a results file, and from its samples where there are some.

    Args:
        notes: gets what a reader has to know.

    Raises:
        ReportError: a damaged file, or no score in it.
    """
    reported = _reported(task, results)
    items: dict[str, Json] = {}
    scored: dict[Scored, dict[str, float | None]] = {}
    if samples is not None:
        rows, blocks = with_filters(samples, _filters(task, results, reported))
        items, scored = documents(samples, rows)
        if blocks > 1 and reported:
            agree(samples, task, results, reported, scored)
        elif blocks > 1:
            (notes if notes is not None else []).append(
                f"{task}: {blocks} filters, numbered: no results file beside the samples names them"
            )
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
        "num_fewshot": (results.get("n-shot") or {}).get(task, (results.get("config") or {}).get("num_fewshot")),
        "task_version": (results.get("versions") or {}).get(task),
        "chat_template_sha": results.get("chat_template_sha"),
    }
    return TaskScores(task, metrics, (ranked or list(metrics))[0], list(items.values()), facts)
