"""import-llamafactory, import-trl: a training YAML of another tool as a checked matrix file on disk."""

import argparse
import sys
from pathlib import Path

from harness.checks.static import check_static
from harness.config import Source, load, refuse
from harness.imports import llamafactory, trl
from harness.imports.draft import render
from trainers.common import write_bytes

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
    beside = target.with_suffix(".jinja")
    refuse(
        (target.resolve() == file.resolve(), f"--output {target} is the file to import; give another name"),
        (target.is_dir(), f"--output {target} exists; give another name"),
        (target.exists() and not force, f"--output {target} exists; give another name, or --force"),
    )
    source = load(file)
    if tool == "TRL":
        matrix, notes, hints = trl.convert(source, target, method)
    else:
        matrix, notes, hints = llamafactory.convert(source, target, dataset_dir)
    held = not {"heldout", "heldout_share"}.isdisjoint(matrix["data"])
    measured = [*_BENCHMARKS, *([{"name": "heldout", "kind": "preference", "limit": 512}] if held else [])]
    longest = max(1024, int(matrix["training"].get("max_length") or 1024))
    matrix["evaluation"] = {"engine": {"max_model_len": longest}, "benchmarks": measured}
    matrix["report"] = {"baseline": "original", "primary": "constraints/gold_reward"}
    template = matrix["model"].get("chat_template")
    if template is not None:  # a text there, a file here
        said = f"{beside} exists, and the chat template is to be written there; give another name, or --force"
        refuse((beside.exists() and not force, said))
        matrix["model"]["chat_template"] = beside.name
    check_static(Source(target, matrix, {}))
    target.parent.mkdir(parents=True, exist_ok=True)
    if template is not None:
        write_bytes(beside, template.encode())
    text = render(matrix, notes, file, tool, [*hints, *([] if held else [_HELD_OUT]), _HINT])
    write_bytes(target, text.encode())
    return notes


def run(options: argparse.Namespace) -> int:
    """Write the matrix file and say what was not imported."""
    target = options.output or Path(f"{options.file.stem}.matrix.yaml")
    tool = "TRL" if options.verb == "import-trl" else "LLaMA-Factory"
    own = {key: getattr(options, key, None) for key in ("dataset_dir", "method")}
    notes = import_config(tool, options.file, target, options.force, **own)
    if notes:
        print(f"not imported, or changed ({len(notes)}; also at the head of {target}):", file=sys.stderr)
    for note in notes:
        print(f"  {note}", file=sys.stderr)
    print(f"matrix: {target} (see what it does: python -m harness run-matrix {target} --dry-run)")
    return 0
