"""Foreign runs in this project's layout: `runs/<id>/` with run.json, status.json, log_history.json and scores/.

Names, seeds and document ids are decided here, over all runs at once, because they decide what is compared with what.
"""

import hashlib
import itertools
import json
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reports.foreign.sources import ForeignRun, read_object, strict
from reports.page.text import visible
from reports.runs import ReportError, grouped
from reports.writing import write_json, write_text
from trainers.common.files import Json, replacing
from trainers.common.training_schema import EXAMPLE_METRICS, LOG_HISTORY

LONGEST_NAME = 60
#: `-seed3`, `_seed_3`, `/seed=3` in a folder's name: the run's training seed, and no part of its method's name.
_SEED = re.compile(r"(?:^|[-_./ ])seed[-_=]?(\d{1,9})(?=$|[-_./ ])", re.IGNORECASE)


def _shown(name: str) -> str:
    """A folder's name as a label: nothing invisible, on one line, short, and not starting as matplotlib hides."""
    text = " ".join(visible(name).split()).lstrip("_") or "run"
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"


def _unique(runs: Sequence[ForeignRun]) -> list[str]:
    """A different label for every run: its name, with the folders above where two are the same, then a number."""
    names = [run.name for run in runs]
    for up in (1, 2, 3):
        times = Counter(map(_shown, names))
        names = [_longer(run, up) if times[_shown(name)] > 1 else name for run, name in zip(runs, names, strict=True)]
    labels: list[str] = []
    for name in map(_shown, names):
        numbered = itertools.chain((name,), (f"{name} #{count}" for count in itertools.count(2)))
        labels.append(next(label for label in numbered if label not in labels))
    return labels


def _longer(run: ForeignRun, up: int) -> str:
    """The run's name behind the names of so many folders above it."""
    own, parts = run.name.split("/"), list(run.directory.resolve().parts)[1:]
    above = parts[: -len(own)] if parts[-len(own) :] == own else parts
    return "/".join([*above[-up:], *own])


def _seed_of(run: ForeignRun, label: str) -> tuple[str, int | None]:
    """Name of the method, and the training seed: from the run's files, else from its folder's name."""
    if run.own is not None:
        return run.method or label, run.seed
    found = _SEED.search(label)
    method = (label[: found.start()] + label[found.end() :]).strip("-_./ ") if found else label
    seed = run.seed if run.seed is not None else int(found[1]) if found else None
    return _shown(run.method or method or label), seed


def place(runs: Sequence[ForeignRun], baseline: str | None) -> str:
    """Give all runs their identities; returns the method that the others are compared with.

    Seeds are used when every run has one and every method shares at least one with the baseline. Otherwise each run
    stands for itself, as a checkpoint: a comparison by seed would compare nothing.

    Raises:
        ReportError: no run has the baseline's name.
    """
    labels = _unique(runs)
    named = [_seed_of(run, label) for run, label in zip(runs, labels, strict=True)]
    seeds = {method: set(found) for method, found in grouped(named).items()}
    # with scores of single documents or prompts
    scored = [any(s.items for s in r.scores.values()) or (r.own and any(r.own.glob("scores/*.json"))) for r in runs]
    best = scored.index(True) if True in scored else 0
    base = baseline or ("fixed" if "fixed" in seeds else named[best][0])
    usable = base in seeds and all(None not in s and s & seeds[base] for s in seeds.values())
    identities: list[tuple[str, int | None]] = list(named) if usable else [(label, None) for label in labels]
    if not usable and baseline is None and base not in labels:
        base = labels[best]
    methods = list(dict.fromkeys(method for method, _ in identities))
    if base not in methods:
        raise ReportError(f"--baseline {base}: no run of that name; there are {', '.join(methods)}")
    for run, (method, seed), (_, known) in zip(runs, identities, named, strict=True):
        # A new directory's number per run: equal contents under two names stay two runs.
        key = {"method": method, "seed": seed, "history": run.history, "scores": sorted(run.scores), "at": run.name}
        digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:12]
        slug = re.sub(r"[^A-Za-z0-9]+", "-", method).strip("-")[:40] or "run"
        run.run_id, run.method, run.seed, run.known_seed = f"{slug}-{digest}", method, seed, known
    if len({run.run_id for run in runs}) < len(runs):
        raise ReportError(f"{runs[-1].directory}: the same run is named twice; name each folder once")
    return base


def _scores(run: ForeignRun) -> dict[str, Json]:
    """Contents of scores/<benchmark>.json by file name; tasks of which only the aggregated result is known are left."""
    if run.own is not None:
        return {p.name: read_object(p) for p in sorted((run.own / "scores").glob("*.json"))}
    return {
        f"{benchmark_name(task)}.json": {
            "schema_version": 1,
            "benchmark": benchmark_name(task),
            "kind": "lm_eval",
            "policy": run.run_id,
            "fingerprint": None,
            "metrics": scores.metrics,
            "primary_metric": scores.primary_metric,
            "items": scores.items,
            "noise": None,
            "task": task,
            **scores.facts,
        }
        for task, scores in run.scores.items()
        if scores.items
    }


def benchmark_name(task: str) -> str:
    """A task's name as a file's name: lm-eval's own names stay as they are."""
    return re.sub(r"[^\w,:+@=.-]", "_", visible(task)).lstrip(".") or "task"


def _pair_documents(scores: Sequence[dict[str, Json]]) -> list[str]:
    """Give lm-eval's documents the same id in every run; returns what must be said about the pairing.

    A document's id is the start of its hash, so runs with other document numbers (another limit, another order) pair
    and changed data does not. Where one run has no hashes, or two documents are equal, the number stays the id.
    """
    notes = []
    found = [content for files in scores for content in files.values()]
    scored = [c for c in found if c.get("kind") == "lm_eval" and isinstance(c.get("items"), list)]
    for benchmark, contents in grouped((str(content.get("benchmark")), content) for content in scored).items():
        hashes = [[item.get("doc_hash") for item in c["items"]] for c in contents]
        if all(all(isinstance(h, str) and h for h in one) and len(set(one)) == len(one) for one in hashes):
            every = {h for one in hashes for h in one}
            width = 16 if len({h[:16] for h in every}) == len(every) else max(map(len, every))
            for item in (item for content in contents for item in content["items"]):
                item["doc_id"], item["id"] = item["id"], item["doc_hash"][:width]
        elif len(contents) > 1:
            notes.append(f"{benchmark}: documents are paired by number, for not every run has a distinct hash of each")
        asked = [i for content in contents for i in content["items"] if isinstance(i.get("prompt_hash"), str)]
        prompts = grouped((item["id"], item["prompt_hash"]) for item in asked)
        changed = sum(len(set(hashed)) > 1 for hashed in prompts.values())
        shots = {c["num_fewshot"] for c in contents if c.get("num_fewshot") is not None}
        said = f" (few-shot examples: {', '.join(map(str, sorted(shots)))})" if len(shots) > 1 else ""
        if changed:
            notes.append(
                f"{benchmark}: {changed} documents were put with different prompts in different runs{said}: a difference "
                "there may be the prompt's and not the policy's"
            )
        elif said:
            notes.append(f"{benchmark}: the runs differ in the number of few-shot examples{said}")
    return notes


def write_runs(runs: Sequence[ForeignRun], output: Path) -> list[str]:
    """Write `runs/<id>/` of every run; returns notes on how documents were paired.

    Raises:
        ReportError: a file of a run of this project is damaged.
    """
    scores = [_scores(run) for run in runs]
    notes = _pair_documents(scores)
    for run, contents in zip(runs, scores, strict=True):
        directory = output / "runs" / run.run_id
        shutil.rmtree(directory, ignore_errors=True)
        for name, record in _records(run).items():
            write_json(directory / f"{name}.json", record)
        for name, content in contents.items():
            write_json(directory / "scores" / name, content | {"policy": run.run_id})
        for pattern in (EXAMPLE_METRICS, "generations/*.jsonl") if run.own else ():
            for path in run.directory.glob(pattern):
                with replacing(directory / path.relative_to(run.directory)) as temporary:
                    shutil.copyfile(path, temporary)
        for task, found in run.scores.items():
            rows = [
                {"prompt_id": item["id"], "prompt": item["prompt"] or "", "text": item["response"]}
                for item in found.items
                if item["response"] is not None
            ]
            if rows:
                text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
                write_text(directory / "generations" / f"{benchmark_name(task)}.jsonl", text)
    return notes


def _records(run: ForeignRun) -> dict[str, Json]:
    """run, status and log_history of a run under the identity that it has in the analysis, with where it was read from."""
    if run.own is None:
        history: Any = run.history
        progress = {"state": run.state, "stage": "train", "step": run.step, "total_steps": run.total_steps}
        status: Json = {**progress, "error": None, "stages": {}}
        identity: Json = dict.fromkeys(("rule", "fingerprint", "created")) | {"params": run.settings, "hyper": {}}
        identity |= {"model": {"name": visible(run.model)} if run.model else None, "training": run.training or None}
    else:
        identity, status = (read_object(run.own / f"{name}.json") for name in ("run", "status"))
        logged = run.own / LOG_HISTORY
        history = read_object(logged).get(str(identity.get("run_id"))) if logged.is_file() else None
    # The checksum of a record does not hold for other values, and version 1 has none.
    own = {"schema_version": 1, "run_id": run.run_id}
    identity, status = ({k: v for k, v in r.items() if k != "checksum"} | own for r in (identity, status))
    read_from = {"directory": visible(str(run.directory)), "formats": run.formats, "training_seed": run.known_seed}
    identity |= {"method": run.method, "seed": run.seed, "read_from": read_from}
    return {"log_history": {run.run_id: strict(history or [])}, "status": status, "run": identity}
