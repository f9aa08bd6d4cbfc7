"""Uploads of finished policies to the hub: only on `run-matrix --push`, only where the matrix names a place."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.config import MatrixConfig
from harness.errors import UserError
from harness.kept import published_dir
from harness.store import RunStore
from harness.yaml_source import Source
from trainers.schema import ADAPTER_DIR

if TYPE_CHECKING:
    from harness.matrix import RunSpec
    from harness.plan import Plan

_LONGEST = 96  # of a repository's name, says the hub


def check_push(config: MatrixConfig, source: Source, run_ids: Sequence[str]) -> None:
    """Refuse an upload that could not work, before anything is trained.

    Raises:
        UserError: no place is named, a name is too long, the hub is switched off, or there is no token.
    """
    from huggingface_hub import constants, get_token

    place = config.push_to_hub
    if place is None:
        raise UserError(f"--push: {source.path} names no place; add push_to_hub: {{prefix: owner/name}}")
    where = source.where(("push_to_hub",))
    longest = max(run_ids, key=len)
    if len(f"{place.prefix}-{longest}".partition("/")[2]) > _LONGEST:
        raise UserError(
            f"{where}: push_to_hub.prefix is {place.prefix!r}; with run {longest!r} the name is longer than {_LONGEST} "
            "letters; shorten it"
        )
    if config.save == "adapter" and config.model.adapter is not None:
        raise UserError(
            f"{source.where(('save',))}: save is 'adapter', and model.adapter is merged into the starting weights; nobody could "
            "load the new adapter without these: set save to merged or both, or leave --push out"
        )
    if constants.HF_HUB_OFFLINE:
        raise UserError(f"{where}: --push needs the hub, and HF_HUB_OFFLINE is set; unset it, or leave --push out")
    if get_token() is None:
        raise UserError(f"{where}: --push needs a token of the hub; set HF_TOKEN, or run hf auth login")


@contextmanager
def upload_folder(plan: Plan, spec: RunSpec) -> Iterator[Path]:
    """The folder to upload. An adapter's configuration names the starting model as the matrix does, not where it lies here."""
    folder = published_dir(plan.run_dir(spec))
    assert folder is not None  # a run that is done has one
    if folder.name != ADAPTER_DIR:
        yield folder
        return
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(shutil.copytree(folder, Path(scratch) / folder.name))
        config = json.loads((copy / "adapter_config.json").read_text(encoding="utf-8"))
        name = plan.config.model.name_or_path
        config["base_model_name_or_path"] = Path(name).name if name.startswith((".", "/", "~")) else name
        config["revision"] = plan.config.model.revision
        (copy / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
        yield copy


def push_policies(plan: Plan, specs: Sequence[RunSpec], log: Callable[[str], None]) -> int:
    """Upload the policy (with its card) of every run of `specs` that is done; returns how many were.

    The hub keeps what it has already, so a second call sends only what changed.

    Raises:
        UserError: the hub refuses, or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    place = plan.config.push_to_hub
    assert place is not None  # check_push came first
    api, pushed = HfApi(), 0
    for spec in specs:
        if RunStore(plan.run_dir(spec)).status()["state"] != "done":
            log(f"not uploaded, for it is not done: {spec.label}")
            continue
        name = f"{place.prefix}-{spec.run_id}"
        try:
            api.create_repo(name, private=place.private, exist_ok=True)
            with upload_folder(plan, spec) as folder:
                api.upload_folder(repo_id=name, folder_path=folder, commit_message=f"{plan.config.name}: {spec.label}")
        except (HfHubHTTPError, OSError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"--push: {name} could not be uploaded ({reason}); the results are all here: try again"
            ) from None
        log(f"uploaded {spec.label} to {name}")
        pushed += 1
    return pushed
