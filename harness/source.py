"""Which commit of this project was at work, and whether its files were changed."""

from __future__ import annotations

import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_PATIENCE_S = 10


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@lru_cache(maxsize=1)
def source_version() -> dict[str, Any]:
    """{"commit", "dirty", "reason"} of the checkout this code runs from; nulls with a reason where it is no checkout.

    `dirty` counts tracked files only: outputs and notes beside the code change no number.
    """
    # Installed below somebody else's checkout, that checkout's commit would say nothing about this code.
    top = _git("rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != ROOT:
        return {"commit": None, "dirty": None, "reason": "the code does not run from a git checkout"}
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    if commit is None or changes is None:
        return {"commit": None, "dirty": None, "reason": "git could not read the checkout"}
    return {"commit": commit, "dirty": bool(changes), "reason": None}
