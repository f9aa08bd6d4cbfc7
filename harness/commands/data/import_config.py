"""import-llamafactory, import-trl: a training YAML of another tool as a matrix file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.imports.write import import_config


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
