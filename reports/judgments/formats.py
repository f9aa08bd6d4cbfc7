"""The formats of judgments that are read; a new one is a file with a FORMAT, and its name here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reports.foreign.rows import keys_of, read_rows
from reports.judgments import alpaca_eval, arena_hard, llmbar, mt_bench, pandalm, table
from reports.judgments.judgment import Format, Judgment
from reports.runs.records import ReportError

FORMATS: tuple[Format, ...] = tuple(
    module.FORMAT for module in (alpaca_eval, arena_hard, mt_bench, llmbar, pandalm, table)
)


def _format_of(path: Path, keys: frozenset[str]) -> Format:
    found = next((f for f in FORMATS if any(wanted <= keys for wanted in f.keys)), None)
    if found is None:
        if {"question_id", "model", "score"} <= keys:
            raise ReportError(
                f"{path}: scores of single answers; compare them: compare-scores {path} --id question_id,turn"
            )
        known = "; ".join(f"{f.name}: {', '.join(sorted(f.keys[0]))}" for f in FORMATS)
        raise ReportError(f"{path}:1: of no known format; the keys are {', '.join(sorted(keys))}. Known: {known}")
    return found


def read_judgments(paths: Sequence[Path]) -> tuple[str, list[Judgment]]:
    """The format of the files, and their verdicts.

    Raises:
        ReportError: a file of no known format, files of two formats, a bad value, a verdict given twice, a model against
            itself. The message names file, row, key and fix.
    """
    tables = [read_rows(path) for path in paths]
    formats = [_format_of(path, keys_of(rows)) for path, rows in zip(paths, tables, strict=True)]
    other = next((i for i, one in enumerate(formats) if one is not formats[0]), None)
    if other is not None:
        raise ReportError(
            f"{paths[0]} is of {formats[0].name} and {paths[other]} of {formats[other].name}; give the files of one at a time"
        )
    found: dict[tuple[str, ...], Judgment] = {}
    for row, one in formats[0].read([row for rows in tables for row in rows]):
        if one.first == one.second:
            raise row.error(f"{one.first!r} is compared with itself; give two models")
        key = (one.judge, one.prompt_id, one.sample, *sorted((one.first, one.second)))
        if key in found:
            raise row.error(
                f"{one.judge} judges {one.first} and {one.second} twice on prompt {one.prompt_id[:60]!r}; keep one row"
            )
        found[key] = one
    return formats[0].name, list(found.values())
