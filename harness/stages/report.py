"""Makes the matrix files and the report when anything they show has changed or is missing."""

from pathlib import Path

from evals.job import LM_EVAL
from harness.plan.plan import Plan
from harness.progress import Progress
from harness.state import RunStore
from trainers.common import Json, file_hash, fingerprint, scores_schema, write_json

#: Raise when a change of `reports` should show in reports that exist already.
REPORT_VERSION = 5
FILES = ("training_metrics.csv", "training_curves.png", "summary.json", "log_history.json", "report.html", "report.md")
_STAMP, FILE = "report.json", "contamination.json"


def _state(plan: Plan) -> str:
    """Identity of everything the report shows."""
    runs: Json = {}
    for spec in plan.specs:
        status = RunStore(plan.run_dir(spec)).status()
        stages = {name: mark.fingerprint for name, mark in status.stages.items()}
        runs[spec.run_id] = [status.state, stages, status.error.plain() if status.error is not None else None]
    judged = {path.name: file_hash(path) for path in sorted((plan.output / "comparisons").glob("*.json"))}
    shown = {
        "version": REPORT_VERSION,
        "runs": runs,
        "reference": {
            benchmark.name: (scores_schema.read_scores(plan.reference_dir, benchmark.name) or {}).get("fingerprint")
            for benchmark in plan.benchmarks
        },
        "report": plan.config.report.model_dump(),
        "contamination": scores_schema.read_json(plan.output / FILE).get("fingerprint"),
    }
    return fingerprint({**shown, **({"judged": judged} if judged else {})})


def outdate(plan: Plan) -> None:
    """Mark the report on disk as out of date; call before anything it shows is regenerated."""
    (plan.output / _STAMP).unlink(missing_ok=True)


def make_report(plan: Plan, progress: Progress) -> bool:
    """Write per-run files, matrix files, figures, tables and the report; returns whether anything was made."""
    state, stamp = _state(plan), plan.output / _STAMP
    complete = all((plan.output / name).is_file() for name in FILES)
    if complete and scores_schema.read_json(stamp).get("state") == state:
        return False
    progress.say("writing the report")
    build(plan.output, [spec.run_id for spec in plan.specs], plan.config.model_dump())
    write_json(stamp, {"schema_version": 1, "state": state})
    return True


def build(output: Path, run_ids: list[str], config: Json) -> Path:
    """All files of a matrix from what its runs left on disk; needs no torch. Returns the path of report.html."""
    from reports.files.metrics import write_all
    from reports.files.report import write_report

    logged = [run_id for run_id in run_ids if (output / "runs" / run_id / "log_history.json").is_file()]
    analysed = write_all(output, logged)
    return write_report(output, run_ids, config, analysed)


# Which benchmark prompts were trained on: one file for the whole matrix, written once the reference is scored.


#: Raise when the comparison changes. Version 1 could miss near duplicates (MinHash).
_VERSION = 2
#: A line of a document with fewer words says too little to be recognised.
_FEWEST_WORDS = 4


def write_contamination(plan: Plan) -> None:
    """Compare the training prompts with every benchmark's (see evals.contamination); does nothing where that is on disk.

    lm-eval keeps its documents to itself until a policy is scored, so theirs come from the reference's scores. A prompt
    has a template around the question; each line of it is therefore compared on its own, too.
    """
    tasks = [b.name for b in plan.benchmarks if b.kind == LM_EVAL]
    documents = {name: rows for name in tasks if (rows := _documents(plan, name))}
    cells = [[b.name, b.fingerprint] for b in plan.benchmarks if b.kind != LM_EVAL or b.name in documents]
    key = fingerprint({"version": _VERSION, "data": plan.data_hash, "benchmarks": cells})
    path = plan.output / FILE
    if scores_schema.read_json(path).get("fingerprint") == key:
        return
    found = dict(plan.contamination)
    if documents:
        from evals.contamination import contamination

        told = contamination(plan.training_prompts, documents)
        found |= {name: _by_document(one, documents[name]) for name, one in told.items()}
    write_json(path, {"schema_version": 1, "fingerprint": key, "benchmarks": found})


def _documents(plan: Plan, task: str) -> list[tuple[str, str]]:
    """(id, text) of each document's prompt and of its longer lines."""
    scores = scores_schema.read_scores(plan.reference_dir, task) or {}
    texts = []
    for item in (item for item in scores.get("items") or [] if isinstance(item.get("prompt"), str)):
        prompt = item["prompt"]
        lines = [line for line in prompt.splitlines() if len(line.split()) >= _FEWEST_WORDS]
        # "Question: ..." is the question with a name before it
        bare = [line.split(":", 1)[1] for line in lines if ":" in line[:20]]
        texts += [(str(item["id"]), text) for text in dict.fromkeys([prompt, *lines, *bare])]
    return texts


def _by_document(found: Json, texts: list[tuple[str, str]]) -> Json:
    """Counts of documents instead of texts: the most alike of a document's texts speaks for it."""
    exact = list(dict.fromkeys(found["exact_ids"]))
    near = [name for name in dict.fromkeys(found["near_ids"]) if name not in exact]
    counts = {"n_benchmark": len({name for name, _ in texts}), "exact": len(exact), "near": len(near)}
    return {**found, **counts, "exact_ids": exact, "near_ids": near}
