"""Installed packages against the versions that pyproject.toml declares, read from this project's own metadata."""

import importlib.metadata

from packaging.requirements import Requirement

from trainers.common import UserError

DISTRIBUTION = "dpo-beta-harness"


def declared() -> dict[str, tuple[Requirement, str]]:
    """Requirement and extra ("" for the base) of each package by name; empty where this project is not installed."""
    try:
        lines = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    found: dict[str, tuple[Requirement, str]] = {}
    for line in lines:
        text, _, marker = line.partition(";")
        requirement = Requirement(text)
        found.setdefault(requirement.name, (requirement, marker.partition("extra ==")[2].strip(" \"'")))
    return found


def version(name: str) -> str | None:
    """Installed version of a distribution."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def outside(*names: str) -> list[tuple[str, str]]:
    """Problem and fix of each installed package outside its range: those in `names`, or all base requirements."""
    found = []
    for name, (requirement, extra) in declared().items():
        installed = version(name) if (name in names if names else not extra) else None
        if installed and not requirement.specifier.contains(installed, prereleases=True):
            problem = f"{name} {installed} is installed; this project supports {name}{requirement.specifier}"
            found.append((problem, f"pip install '{name}{requirement.specifier}'"))
    return found


def check_versions() -> None:
    """Refuse base requirements outside their ranges.

    Raises:
        UserError: a line for each, with the command that mends it.
    """
    if found := outside():
        raise UserError("\n".join(f"{problem}; run: {fix}" for problem, fix in found))
