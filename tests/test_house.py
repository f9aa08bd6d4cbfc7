"""The house: which file may import which, how full a folder may be, and what the documentation names exists and runs."""

import ast
import collections
import importlib
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
#: From the ground up: a package may import those before it; evals and reports only themselves and the ground floor.
FLOORS = ("trainers", "evals", "reports", "harness")
GROUND = "trainers.common"
FULL = 17
HEAVY = ("torch", "transformers", "vllm")

FILES = sorted(path.relative_to(ROOT) for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))
MODULES = {".".join(path.with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}
PAGES = sorted(
    path for pattern in ("*.md", ".github/*.md", *(f"{floor}/*.md" for floor in FLOORS)) for path in ROOT.glob(pattern)
)


def imports(tree: ast.AST) -> Iterator[tuple[str, list[str]]]:
    """Module and names of every import, lazy ones too, apart from those under TYPE_CHECKING."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            yield node.module or "", [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, []
        yield from imports(node)


@pytest.fixture(scope="module")
def edges() -> dict[str, set[str]]:
    """Module -> the modules of the project it imports."""
    found: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        targets = set()
        for base, names in imports(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
            targets |= {f"{base}.{name}" if f"{base}.{name}" in MODULES else base for name in names} or {base}
        found[module] = (targets & MODULES.keys()) - {module}
    return found


def test_no_file_imports_itself_by_way_of_others(edges: dict[str, set[str]]) -> None:
    left = {module: set(targets) for module, targets in edges.items()}
    while free := {module for module, targets in left.items() if not targets & left.keys()}:
        left = {module: targets for module, targets in left.items() if module not in free}
    assert not left, f"on or above a circle: {sorted(left)}"


def test_no_import_goes_up(edges: dict[str, set[str]]) -> None:
    def allowed(module: str, target: str) -> bool:
        here, there = module.split(".")[0], target.split(".")[0]
        if f"{module}.".startswith(f"{GROUND}."):
            return f"{target}.".startswith(f"{GROUND}.")
        if here in ("evals", "reports"):
            return there == here or target.startswith(GROUND)
        return FLOORS.index(there) <= FLOORS.index(here)

    assert not [f"{one} -> {other}" for one, targets in edges.items() for other in targets if not allowed(one, other)]


def test_no_folder_is_too_full() -> None:
    folders = collections.Counter(str(path.parent) for path in FILES)
    assert {folder: n for folder, n in folders.items() if n > FULL} == {}
    assert all((ROOT / folder / "__init__.py").is_file() for folder in folders)


def test_rooms_export_what_others_import(edges: dict[str, set[str]]) -> None:
    """A module that other rooms import is in its room's `__all__`, or the room's `__init__` re-exports from it."""
    missing = set()
    for module, targets in edges.items():
        for target in targets:
            room, _, name = target.rpartition(".")
            if "." not in room or f"{module}.".startswith(f"{room}.") or MODULES[target].name == "__init__.py":
                continue
            exported = getattr(importlib.import_module(room), "__all__", [])
            if name not in exported and target not in edges[room]:
                missing.add(target)
    assert not missing, f"not exported by their rooms: {sorted(missing)}"


@pytest.mark.parametrize(
    "code",
    [
        "import importlib\nfor name in {reports!r}: importlib.import_module(name)",
        "from harness.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass",
    ],
    ids=["reports", "help"],
)
def test_nothing_heavy_is_imported(code: str) -> None:
    code = code.format(reports=[module for module in MODULES if module.split(".")[0] == "reports"])
    code += f"\nimport sys\nsys.exit(', '.join({{*{HEAVY!r}}} & sys.modules.keys()) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def documented(pattern: str) -> list[str]:
    return sorted({found for page in PAGES for found in re.findall(pattern, page.read_text(encoding="utf-8"), re.M)})


_PROJECT = rf"(?:{'|'.join(FLOORS)})"
IMPORTS = documented(rf"^ *(from {_PROJECT}[\w.]* import [\w, ]+|import {_PROJECT}[\w.]*)")
NAMES = documented(rf"(?<![\w./]){_PROJECT}(?:\.\w+)*\.(?:[a-z_]+|[A-Z]\w+)\b(?=[`(])")
COMMANDS = documented(rf"-m ((?:{_PROJECT}|tests)(?:\.\w+)*)")


def test_documented_imports() -> None:
    assert {"from trainers.rules.base import BetaRule, RuleBatch"} < set(IMPORTS)
    for line in IMPORTS:
        exec(line, {})
    for name in ("trainers.rules.base", "trainers.beta_head_model", "evals.judges.cache", "harness.executors.base"):
        importlib.import_module(name)
    for line in NAMES:
        module, name = line.rsplit(".", 1)
        assert find(line) or hasattr(importlib.import_module(module), name), line


def find(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize("module", COMMANDS)
def test_documented_commands(module: str) -> None:
    """They are there; those a user calls answer `--help`, with their usage where they have no options."""
    assert find(module), module
    if module.split(".")[0] == "tests" or module == "evals.worker":
        return  # the first takes minutes, the others a job file and nothing
    done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, cwd=ROOT)
    assert "usage:" in done.stdout + done.stderr and "Traceback" not in done.stderr, done.stderr
