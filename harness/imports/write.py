"""From a foreign training configuration to a checked matrix file on disk."""

from __future__ import annotations

from pathlib import Path

from harness.checks.static import check_static
from harness.config import Source, load
from harness.imports.draft import render
from trainers.common import Json, UserError, write_bytes

#: What every imported policy is measured on at first: prompts whose answers a program can check; they ship with the project.
_BENCHMARKS = [
    {"name": "constraints", "prompts": "embedded:constraint-pairs/benchmark", "limit": 128, "max_new_tokens": 256}
]
_HINT = (
    "The benchmark under evaluation is a start that needs no download; put the ones your study is about in its place."
)
#: Said where the training data are all there is.
_HELD_OUT = "No pairs are held out: data.heldout_share: 0.1 and a benchmark of kind preference measure on prompts not trained on."


def import_config(
    tool: str, file: Path, target: Path, force: bool, dataset_dir: Path | None = None, method: str | None = None
) -> list[str]:
    """Write the matrix file made of `file` to `target`; returns the notes on what was not imported.

    Args:
        tool: "LLaMA-Factory" or "TRL". force: whether an existing `target` may be replaced.
        dataset_dir: LLaMA-Factory's folder of data. method: the trainer a file with TRL's keys is for.

    Raises:
        UserError: `target` exists, or `file` cannot be taken over; nothing is written.
    """
    from harness.imports import llamafactory, trl

    if target.resolve() == file.resolve():
        raise UserError(f"--output {target} is the file to import; give another name")
    if target.exists() and (target.is_dir() or not force):
        raise UserError(f"--output {target} exists; give another name" + ("" if target.is_dir() else ", or --force"))
    source = load(file)
    if tool == "TRL":
        matrix, notes, hints = trl.convert(source, target, method)
    else:
        matrix, notes, hints = llamafactory.convert(source, target, dataset_dir)
    if not _has_heldout(matrix):
        hints = [*hints, _HELD_OUT]
    matrix |= _measured(matrix)
    beside, template = target.with_suffix(".jinja"), matrix["model"].get("chat_template")
    if template is not None:  # a text there, a file here
        if beside.exists() and not force:
            raise UserError(
                f"{beside} exists, and the chat template is to be written there; give another name, or --force"
            )
        matrix["model"]["chat_template"] = beside.name
    check_static(Source(target, matrix, {}))
    target.parent.mkdir(parents=True, exist_ok=True)
    if template is not None:
        write_bytes(beside, template.encode())
    write_bytes(target, render(matrix, notes, file, tool, [*hints, _HINT]).encode())
    return notes


def _has_heldout(matrix: Json) -> bool:
    return not {"heldout", "heldout_share"}.isdisjoint(matrix["data"])


def _measured(matrix: Json) -> Json:
    longest = max(1024, int(matrix["training"].get("max_length") or 1024))
    held = [{"name": "heldout", "kind": "preference", "limit": 512}] if _has_heldout(matrix) else []
    return {
        "evaluation": {"engine": {"max_model_len": longest}, "benchmarks": [*_BENCHMARKS, *held]},
        "report": {"baseline": "original", "primary": "constraints/gold_reward"},
    }
