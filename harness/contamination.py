"""Which benchmark prompts were trained on: one file for the whole matrix, written once the reference is scored."""

from __future__ import annotations

from typing import Any

from evals import schema
from harness.fingerprint import fingerprint
from harness.plan import Plan
from harness.store import read_json, write_json

FILE = "contamination.json"
#: Raise when the comparison changes.
_VERSION = 1
#: A line of a document with fewer words says too little to be recognised.
_FEWEST_WORDS = 4


def write_contamination(plan: Plan) -> None:
    """Compare the training prompts with every benchmark's (see evals.contamination); does nothing where that is on disk.

    lm-eval keeps its documents to itself until a policy is scored, so theirs come from the reference's scores. A prompt
    has a template around the question; each line of it is therefore compared on its own, too.
    """
    documents = {b["name"]: _documents(plan, b["name"]) for b in plan.benchmarks if b["kind"] == "lm_eval"}
    documents = {name: found for name, found in documents.items() if found}
    names = [b["name"] for b in plan.benchmarks if b["kind"] != "lm_eval"]
    cells = [[b["name"], b["fingerprint"]] for b in plan.benchmarks if b["name"] in names or b["name"] in documents]
    key = fingerprint({"version": _VERSION, "data": plan.data_hash, "benchmarks": cells})
    path = plan.output / FILE
    known = read_json(path)
    if isinstance(known, dict) and known.get("fingerprint") == key:
        return
    found = dict(plan.contamination)
    if documents:
        from evals.contamination import contamination

        training = [pair.prompt[-1]["content"] for pair in plan.pairs]
        found |= {name: _by_document(one, documents[name]) for name, one in contamination(training, documents).items()}
    write_json(path, {"schema_version": 1, "fingerprint": key, "benchmarks": found})


def _documents(plan: Plan, task: str) -> list[tuple[str, str]]:
    """(id, text) of each document's prompt and of its longer lines."""
    scores = schema.read_scores(plan.reference_dir, task) or {}
    texts = []
    for item in scores.get("items") or []:
        prompt = item.get("prompt")
        if not isinstance(prompt, str):
            continue
        lines = [line for line in prompt.splitlines() if len(line.split()) >= _FEWEST_WORDS]
        # "Question: ..." is the question with a name before it
        bare = [line.split(":", 1)[1] for line in lines if ":" in line[:20]]
        texts += [(str(item["id"]), text) for text in dict.fromkeys([prompt, *lines, *bare])]
    return texts


def _by_document(found: dict[str, Any], texts: list[tuple[str, str]]) -> dict[str, Any]:
    """Counts of documents instead of texts: the most alike of a document's texts speaks for it."""
    exact = list(dict.fromkeys(found["exact_ids"]))
    near = [name for name in dict.fromkeys(found["near_ids"]) if name not in exact]
    counts = {"n_benchmark": len({name for name, _ in texts}), "exact": len(exact), "near": len(near)}
    return {**found, **counts, "exact_ids": exact, "near_ids": near}
