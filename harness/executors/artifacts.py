"""Results of nodes that do not share the output's file system, by way of any fsspec file system (s3://, gs://, a folder).

The store holds the output's own relative paths, and `inputs/` for what a job reads from elsewhere (model, data, rule files),
by content. A node works in a scratch folder; what changed there is uploaded as it goes, status files last, so that a run
whose node is lost resumes from its last checkpoint on another.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.executors.artifact_store import (
    RETRY_SECONDS,
    StoreError,
    failure_text,
    file_system,
    files_of,
    insisting,
    pull_folder,
    push_folder,
    remove,
)
from harness.executors.base import Job
from harness.plan.plan import Plan
from trainers.common import UserError, file_hash
from trainers.common.files import replacing

INPUTS, _STOPS = "inputs", "stops"
PUSH_SECONDS, PULL_SECONDS = 5.0, 2.0


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


def _replaced(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, str):
        return names.get(value, value)
    if isinstance(value, dict):
        return {key: _replaced(item, names) for key, item in value.items()}
    return [_replaced(item, names) for item in value] if isinstance(value, list | tuple) else value


@dataclass
class Mirror:
    """A job on its node: what to fetch, and what to upload while it works.

    Attributes:
        url: the store. inputs: path on the driver -> path in the store. output: the driver's output directory.
        before, after: folders of the output (relative) that are fetched before, and uploaded while and after.
    """

    url: str
    output: str
    inputs: dict[str, str]
    before: list[str]
    after: list[str]
    _scratch: str = ""
    _known: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)
    _last: float = 0.0

    def local(self, path: str) -> Path:
        """Where a path under the driver's output lies on this node."""
        return Path(self._scratch) / "out" / Path(path).relative_to(self.output)

    @insisting
    def fetch(self, job: Job) -> Job:
        """Fetch what the job reads; returns the job with this node's paths.

        Raises:
            StoreError: the store failed several times.
        """
        fs, root = file_system(self.url)
        digest = hashlib.sha256(f"{self.url} {self.output}".encode()).hexdigest()[:12]
        host = os.environ.get("RAY_NODE_SCRATCH", tempfile.gettempdir())
        node = f"{os.getppid()}"  # the node's own Ray process, so that two nodes on one machine do not share a folder
        self._scratch = str(Path(host) / f"dpo-beta-harness-{digest}-{node}")
        names: dict[str, str] = {}
        for path, stored in self.inputs.items():
            target = Path(self._scratch) / stored
            if not target.exists() and fs.isdir(f"{root}/{stored}"):
                pull_folder(fs, f"{root}/{stored}", target)
            elif not target.exists():
                with replacing(target) as temporary:
                    fs.get_file(f"{root}/{stored}", str(temporary))
            names[path] = str(target)
        for name in self.before:
            folder = Path(self._scratch) / "out" / name
            pull_folder(fs, f"{root}/{name}", folder, mirror=name in self.after and name.startswith("runs/"))
        for name in self.after:
            self._known[name] = files_of(Path(self._scratch) / "out" / name)
        for text in set(_strings(job)) - names.keys():
            path, colon, cls = text.rpartition(":") if ".py:" in text else (text, "", "")
            if path in names:
                names[text] = f"{names[path]}{colon}{cls}"
            elif text.startswith(self.output + os.sep):
                names[text] = str(self.local(text))
        replaced: Job = _replaced(job, names)
        return replaced

    def push(self, final: bool = False) -> None:
        """Upload what has changed, at most every few seconds unless it is the last time.

        Raises:
            StoreError: the store failed several times, the last time; before that the next push makes up for it.
        """
        if final:
            insisting(self._push)()
        elif time.monotonic() - self._last >= PUSH_SECONDS:
            with contextlib.suppress(Exception):
                self._push()
            self._last = time.monotonic()

    def _push(self) -> None:
        fs, root = file_system(self.url)
        for name in self.after:
            folder = Path(self._scratch) / "out" / name
            push_folder(fs, f"{root}/{name}", folder, self._known.setdefault(name, {}))

    def asked_to_stop(self, name: str) -> bool:
        """Whether the driver wants the run to end at a good place."""
        if time.monotonic() - self._last < 1.0:
            return False
        with contextlib.suppress(Exception):  # a store that fails now is asked again
            fs, root = file_system(self.url)
            fs.invalidate_cache()
            return bool(fs.exists(f"{root}/{_STOPS}/{name}"))
        return False


class Remote:
    """The driver's side of a job."""

    def __init__(self, mirror: Mirror, output: Path) -> None:
        self.mirror, self._output = mirror, output
        self._fs, self._root = file_system(mirror.url)
        self._last, self._failures = time.monotonic(), 0

    def pull(self, final: bool = False) -> bool:
        """Fetch what the node has uploaded, now and then; all of it at the end. False if there is to be another time.

        Raises:
            StoreError: the store failed several times at the end.
        """
        if time.monotonic() - self._last < PULL_SECONDS and (not final or self._failures):
            return False
        self._last = time.monotonic()
        try:
            for name in self.mirror.after:
                if final or name == "work":
                    pull_folder(self._fs, f"{self._root}/{name}", self._output / name, mirror=name.startswith("runs/"))
        except Exception as error:  # whatever the store's package has for it
            self._failures += final
            if self._failures > len(RETRY_SECONDS):
                raise StoreError(failure_text(error)) from error
            return False
        return True

    @insisting
    def ask_to_stop(self, name: str) -> None:
        """Raises StoreError if the store failed several times."""
        self._fs.makedirs(f"{self._root}/{_STOPS}", exist_ok=True)
        self._fs.touch(f"{self._root}/{_STOPS}/{name}")


class Artifacts:
    """The store of a matrix, as the driver uses it.

    Raises:
        UserError: the URL's protocol is unknown or its package is not installed.
    """

    def __init__(self, plan: Plan, url: str) -> None:
        self.plan = plan
        try:
            self._fs, self._root = file_system(url)
        except ValueError as error:
            raise UserError(f"{plan.source.at('executor', 'artifacts')} is {url!r}; {error}") from None
        self.url = url if "://" in url else str(Path(url).expanduser().resolve())
        self._fs, self._root = file_system(self.url)
        self._stored: dict[str, str] = {}

    def begin_training(self, job: Job) -> Remote:
        """Put what the run reads into the store, and take away what an earlier try of it told.

        Raises:
            StoreError: the store failed several times.
        """
        run_id = job["train_job"]["run_id"]
        run = f"runs/{run_id}"
        told = [f"{_STOPS}/ray-{run_id}.stop", f"work/ray-{run_id}.events.jsonl"]
        before = [run, "shared/reference"]
        if job["train_job"]["parent_dir"] is not None:
            before.append(str(Path(job["train_job"]["parent_dir"]).relative_to(self.plan.output)))
        return self._begin(job, told, before, [run, "shared/reference", "work"])

    def begin_evaluation(self, job: Job, events: Path) -> Remote:
        """Put what the evaluation reads into the store: policies, prompts, answers there are already.

        Args:
            events: the file events are told in; what an earlier try told is taken away.

        Raises:
            StoreError: the store failed several times.
        """
        folders = sorted({str(Path(policy["out"]).relative_to(self.plan.output)) for policy in job["policies"]})
        return self._begin(job, [str(events.relative_to(self.plan.output))], folders, [*folders, "work"])

    @insisting
    def _begin(self, job: Job, told: list[str], before: list[str], after: list[str]) -> Remote:
        """Remove what an earlier try told, and put the folders `before` into the store."""
        self._fs.invalidate_cache()
        for name in told:
            remove(self._fs, f"{self._root}/{name}")
        for name in before:
            push_folder(self._fs, f"{self._root}/{name}", self.plan.output / name, {})
        return Remote(self._mirror(job, before, after), self.plan.output)

    def _mirror(self, job: Job, before: list[str], after: list[str]) -> Mirror:
        inputs: dict[str, str] = {}
        shared = [self.plan.output / name for name in before]
        for text in set(_strings(job)):
            path = Path(text.rpartition(":")[0] if ".py:" in text else text)
            inside = any(path.is_relative_to(folder) for folder in shared) or path == self.plan.output
            if path.is_absolute() and path.exists() and not inside and "work" not in path.parts[-2:-1]:
                if path.is_dir() and path.is_relative_to(self.plan.output):
                    continue
                inputs[str(path)] = self._store(path)
        return Mirror(self.url, str(self.plan.output), inputs, before, after)

    def _store(self, path: Path) -> str:
        key = str(path)
        if key not in self._stored:
            files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
            sums = "\n".join(f"{p.relative_to(path)} {file_hash(p)}" for p in files)
            stored = f"{INPUTS}/{hashlib.sha256(sums.encode()).hexdigest()[:16]}/{path.name}"
            if not self._fs.exists(f"{self._root}/{stored}"):
                for file in files:
                    target = f"{self._root}/{stored}" + (f"/{file.relative_to(path)}" if path.is_dir() else "")
                    self._fs.makedirs(os.path.dirname(target), exist_ok=True)
                    self._fs.put_file(str(file), target)
            self._stored[key] = stored
        return self._stored[key]
