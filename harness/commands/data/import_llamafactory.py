"""import-llamafactory: a training YAML of LLaMA-Factory as a matrix file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

_EPILOG = """The original becomes the baseline, with the methods to compare it with at equal
settings. What cannot be taken over is listed here and at the head of the file.

examples:
  python -m harness import-llamafactory llama3_lora_dpo.yaml
  python -m harness import-llamafactory dpo.yaml --output study.yaml
  python -m harness import-llamafactory dpo.yaml --dataset-dir ../data"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    common_arguments(parser)
    parser.add_argument("--dataset-dir", type=Path, metavar="DIR", help="the folder that holds dataset_info.json")


def common_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of both import verbs."""
    parser.add_argument("file", type=Path, metavar="FILE.yaml", help="the training configuration")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: FILE.matrix.yaml in this folder")
    parser.add_argument("--force", action="store_true", help="replace the output if it exists")


def run(options: argparse.Namespace) -> int:
    return import_and_say("LLaMA-Factory", options, options.dataset_dir)


def import_and_say(tool: str, options: argparse.Namespace, dataset_dir: Path | None = None) -> int:
    """Write the matrix file and say what was not imported; returns the exit code."""
    from harness.imports.write import import_config

    target = options.output or Path(f"{options.file.stem}.matrix.yaml")
    notes = import_config(tool, options.file, target, options.force, dataset_dir)
    if notes:
        print(f"not imported, or changed ({len(notes)}; also at the head of {target}):", file=sys.stderr)
        for note in notes:
            print(f"  {note}", file=sys.stderr)
    print(f"matrix: {target} (see what it does: python -m harness run-matrix {target} --dry-run)")
    return 0
