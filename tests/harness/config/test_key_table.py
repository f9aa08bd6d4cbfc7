"""The table of keys in harness/README.md names every key that a matrix file can have, and no other."""

import re
import typing
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from harness.config.matrix_file import MatrixConfig
from harness.executors.local import LocalSettings
from harness.executors.ray import RaySettings, StageResources

PAGE = (Path(__file__).resolve().parents[3] / "harness" / "README.md").read_text(encoding="utf-8")


def _rows(heading: str) -> dict[str, str]:
    section = PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| `([^`]+)`[^|]* \| (.*) \|$", section, re.MULTILINE)
    assert len(rows) == len({key for key, _ in rows})
    return dict(rows)


def _models(annotation: Any) -> list[tuple[type[BaseModel], bool]]:
    """Pydantic models inside an annotation, and whether a list of them."""
    origin = typing.get_origin(annotation)
    if isinstance(annotation, type) and origin is None and issubclass(annotation, BaseModel):
        return [(annotation, False)]
    found = [one for argument in typing.get_args(annotation) for one in _models(argument)]
    return [(model, True) for model, _ in found] if origin is list else found


def _expected(model: type[BaseModel], prefix: str = "") -> dict[str, set[str]]:
    """Row -> the fields it must name; the top-level fields are rows themselves."""
    rows: dict[str, set[str]] = {}
    for name, field in model.model_fields.items():
        path = f"{prefix}.{name}" if prefix else name
        found = _models(field.annotation)
        for nested, several in found:
            row = f"{path}[]" if several else path
            rows[row] = set(nested.model_fields)
            rows |= _expected(nested, row)
        if not found and not prefix:
            rows[path] = set()
    return rows


def test_every_key_is_in_the_table() -> None:
    rows, expected = _rows("Keys of a matrix file"), _expected(MatrixConfig)
    assert "training" in expected and "data.train[]" in expected and "evaluation.engine" in expected
    assert set(expected) == set(rows)
    missing = {row: lacking for row, fields in expected.items() if (lacking := _unnamed(fields, rows[row]))}
    assert missing == {}


def _unnamed(fields: set[str], text: str) -> set[str]:
    return {field for field in fields if f"`{field}`" not in text}


def test_every_key_of_an_executor_is_in_its_table() -> None:
    rows = _rows("Running on a cluster")
    assert _unnamed(set(LocalSettings.model_fields) - {"kind"}, rows["local"]) == set()
    assert _unnamed(set(RaySettings.model_fields) - {"kind"}, rows["ray"]) == set()
    assert all(name in rows["ray"] for name in StageResources.model_fields)
