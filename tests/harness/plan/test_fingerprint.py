"""Fingerprints: equal for equal content, different for different content, and never a guess."""

import os
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.plan.references import model_hash
from trainers.common.files import file_hash, fingerprint

_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
_values = st.recursive(_scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)


@given(st.dictionaries(st.text(), _values, min_size=2))
def test_key_order_does_not_matter(value: dict[str, Any]) -> None:
    assert fingerprint(value) == fingerprint(dict(reversed(value.items())))


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_different_floats_differ(a: float, b: float) -> None:
    assert (fingerprint(a) == fingerprint(b)) == (repr(a) == repr(b))


@given(_values)
def test_nesting_shows(value: Any) -> None:
    assert fingerprint(value) != fingerprint([value])


@dataclass
class Point:
    x: int
    y: float


def test_known_values() -> None:
    """Pinned: a change here means every finished run on disk would be trained again."""
    expected = "e1ced4f896eb4e67e3235794d0dcf59562716ae758f85874d23944d039bfec98"
    assert fingerprint({"a": [1, 0.1, None, True, "ü"]}) == expected
    assert len({fingerprint(value) for value in (1, 1.0, "1", True, None, "null", [1], {"1": 1})}) == 8
    assert fingerprint(Point(1, 2.0)) == fingerprint({"x": 1, "y": 2.0})


@pytest.mark.parametrize("value", [object(), {1, 2}, Path("x"), b"x", date(2020, 1, 1), 1j, float("nan"), float("inf")])
def test_values_without_a_stable_form_are_refused_by_name(value: Any) -> None:
    with pytest.raises(TypeError, match=r"value\.a\[1\]"):
        fingerprint({"a": [0, value]})


def test_keys_must_be_text() -> None:
    with pytest.raises(TypeError, match="not a text"):
        fingerprint({1: "x"})


def test_model_hash_follows_content_not_place(world: Any, tmp_path: Path) -> None:
    before = model_hash(world.model)
    moved = world.model.rename(tmp_path / "elsewhere")
    assert model_hash(moved) == before
    (moved / "notes.txt").write_text("not part of the model")
    assert model_hash(moved) == before
    weights = moved / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    os.utime(weights, ns=(1, 1))
    assert model_hash(moved) != before


def test_file_hash_is_sha256(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert file_hash(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
