"""Every code block of the documentation: matrix files parse, commands exist with their options, Python runs."""

import argparse
import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from harness.cli import build_parsers
from harness.commands import VERBS
from harness.config.matrix_file import MatrixConfig, parse
from harness.config.source import load

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    path
    for path in sorted({*ROOT.glob("*.md"), *ROOT.glob(".github/*.md"), *ROOT.glob("*/*.md")})
    if not {"output", "node_modules"} & set(path.parts)
]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
#: A Makefile target or a program that is no part of this project; its own documentation says what it takes.
_OTHER = {"make", "source", "accelerate", "pip", "cd", "git", "sbatch", "ray", "export", "srun", "tensorboard", "cp"}


class Block(NamedTuple):
    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in _BLOCK.finditer(text):
            if match[1] in languages:
                found.append(Block(page, text[: match.start()].count("\n") + 1, match[1], match[2]))
    return found


def commands(text: str) -> list[str]:
    """The commands of a shell block: continuation lines joined, comments cut."""
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def parses(words: list[str]) -> argparse.Namespace:
    return build_parsers(words[0])[0].parse_args(words)


@pytest.mark.parametrize("block", blocks("yaml", "yml"), ids=str)
def test_yaml(block: Block, tmp_path: Path) -> None:
    """A whole matrix file is checked as one; a part of one is checked inside the smallest matrix around it."""
    value: Any = yaml.safe_load(block.text)
    assert isinstance(value, dict), "a block that is no mapping says nothing a reader could use"
    if not set(value) <= set(MatrixConfig.model_fields):
        return  # another tool's file
    around = {"name": "doc", "model": {"name_or_path": "m"}, "data": {"train": "t"}, "methods": [{"name": "fixed"}]}
    file = tmp_path / "matrix.yaml"
    file.write_text(yaml.safe_dump({**around, **value}), encoding="utf-8")
    assert parse(load(file)).methods


@pytest.mark.parametrize("block", blocks("bash", "sh", "console"), ids=str)
def test_commands(block: Block) -> None:
    for command in commands(block.text):
        words = shlex.split(command.removeprefix("$ ").removeprefix(".venv/bin/"), comments=True)
        while words and "=" in words[0] and not words[0].startswith("-"):
            words = words[1:]  # VARIABLE=value before a command
        if words[:3] == ["python", "-m", "harness"] or words[:1] == ["dpo-beta-harness"]:
            rest = words[3:] if words[0] == "python" else words[1:]
            for mark in (">", "|", "&&", "2>"):
                rest = rest[: rest.index(mark)] if mark in rest else rest
            assert rest, command
            if rest != ["--help"]:
                assert rest[0] in VERBS, command
                if "--help" not in rest:
                    assert parses(rest).verb == rest[0]
        elif words and words[0] == "make":
            targets = [word for word in words[1:] if "=" not in word]
            makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
            for target in targets:
                assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), command
        elif words and words[:2] != ["python", "-m"]:
            assert words[0] in _OTHER, f"{command!r}: is this a command a reader can run?"


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_compiles(block: Block) -> None:
    """What a block does is tested beside the code it explains; here it must at least be Python."""
    assert compile(block.text, str(block), "exec")


def test_links_lead_somewhere() -> None:
    broken = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert not broken


def test_every_section_of_the_report_is_explained() -> None:
    page = (ROOT / "reports" / "README.md").read_text(encoding="utf-8")
    explained = " ".join(page.split("## Reading the report")[1].split("\n## ")[0].split())
    templates = [ROOT / "reports" / "templates" / name for name in ("report.html.j2", "judges.html.j2")]
    text = "".join(path.read_text(encoding="utf-8") for path in templates)
    headings = re.findall(r"<h2 id=[^>{]*>([^<{]+)</h2>", text) + re.findall(r'call fold\("[\w-]+", "([^"]+)"', text)
    assert len(headings) > 10 and [h for h in headings if h not in explained] == []
