"""Seconds of command-line calls, process start included."""

from __future__ import annotations

import subprocess
import sys
import time

from tests.benchmarks.measure import Measurement

NAMES = ("cli.help",)


def run(name: str) -> Measurement:
    """Ten calls of `python -m harness --help`."""
    seconds = []
    for _ in range(10):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "harness", "--help"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - started)
    return Measurement(seconds, "s", None, "python -m harness --help")
