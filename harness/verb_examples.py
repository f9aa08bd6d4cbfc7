"""Examples under `--help` of verbs whose options say the rest."""

from __future__ import annotations

_LINES = {
    "run-matrix": (
        "run-matrix                                the demo matrix",
        "run-matrix my.yaml --check                the file alone",
        "run-matrix my.yaml --dry-run              its runs and cost",
        "run-matrix my.yaml --output out/my --seeds 0,1",
        "run-matrix my.yaml --set training.learning_rate=1e-6",
    ),
    "worker": (
        "worker my.yaml --output /shared/out",
        "worker my.yaml --output /shared/out --train-only",
    ),
    "status": ("status --output out/my", "status --output out/my --watch 5", "status --output out/my --json"),
    "clean": ("clean --output out/my                     list only", "clean --output out/my --yes"),
    "report": ("report --output out/my",),
    "explain": ("explain --output dpo.html",),
    "doctor": ("doctor", "doctor --json"),
    "prepare-model": ("prepare-model smollm2-135m-instruct",),
}


def examples(verb: str) -> str | None:
    """The examples of a verb, or None."""
    lines = _LINES.get(verb)
    return "examples:\n" + "\n".join(f"  python -m harness {line}" for line in lines) if lines else None
