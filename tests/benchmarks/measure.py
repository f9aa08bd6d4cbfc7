"""What a benchmark returns, and how it runs processes."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Measurement:
    """Values of repeated runs (for a ratio: one per interleaved pair), their unit, what they are against, a remark."""

    values: list[float]
    unit: str
    against: str | None
    detail: str


def finish(command: Sequence[str], log: Path, **options: Any) -> None:
    """Run a command to its end, its output in `log`.

    Raises:
        RuntimeError: it failed; with the end of the log.
    """
    with log.open("wb") as handle:
        code = subprocess.run(command, stdout=handle, stderr=handle, check=False, **options).returncode
    if code:
        raise RuntimeError(f"{' '.join(command[:6])} ended with {code}: {log.read_text(errors='replace')[-2000:]}")
