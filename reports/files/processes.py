"""Other processes of the report, started with `python -m`, not forked: the caller may hold threads and locks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start(module: str, *arguments: Path | str) -> subprocess.Popen[str]:
    """Start a module of this package with these arguments; what it says on stderr can be read from the process."""
    path = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))},
        text=True,
    )
