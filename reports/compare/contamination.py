"""What is on record about benchmark prompts that were trained on."""

from __future__ import annotations

from reports.runs.records import MatrixData, ReportError, read_json
from reports.schema.runs import Contamination, SharedPrompts

_KEYS = ("n_training", "n_benchmark", "exact", "near", "examples")


def contamination_summary(matrix: MatrixData) -> Contamination:
    """For each benchmark how many of its prompts are training prompts, exactly or nearly, and the most alike pairs.

    Near means a Jaccard similarity of word trigrams of at least `threshold`.

    Raises:
        ReportError: the file is damaged.
    """
    path = matrix.output_dir / "contamination.json"
    if not path.exists():
        return Contamination(benchmarks=None, reason="training and benchmark prompts were not compared")
    found = read_json(path)
    if not isinstance(found, dict) or not isinstance(found.get("benchmarks"), dict):
        raise ReportError(f"{path}: not a comparison of prompts; delete it and rerun")
    kept = {
        name: SharedPrompts(
            **{key: one.get(key) for key in _KEYS}, threshold=(one.get("settings") or {}).get("threshold")
        )
        for name, one in sorted(found["benchmarks"].items())
    }
    return Contamination(benchmarks=kept, reason=None if kept else "no benchmark")


def contamination_sentence(found: Contamination) -> str:
    """One sentence for the checklist."""
    if not found.benchmarks:
        return str(found.reason)
    parts = [
        f"{name} {one.exact} exact and {one.near} near of {one.n_benchmark}"
        for name, one in found.benchmarks.items()
        if one.exact or one.near
    ]
    if parts:
        return f"shared prompts: {'; '.join(parts)}"
    return f"texts of {len(found.benchmarks)} benchmarks compared: none shared, none near"
