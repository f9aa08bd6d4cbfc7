"""Results of nodes that do not share the output's file system, by way of any fsspec file system (s3://, gs://, a folder).

The store holds the output's own relative paths, and `inputs/` for what a job reads from elsewhere (model, data, rule files),
by content. A node works in a scratch folder; what changed there is uploaded as it goes, status files last, so that a run
whose node is lost resumes from its last checkpoint on another.
"""

import contextlib
import functools
import hashlib
import os
import socket
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG
from typing import Any, ParamSpec, TypeVar

from harness.executors.base import Job
from harness.plan.plan import Plan
from harness.state import STATUS
from trainers.common import UserError, file_hash

INPUTS, _STOPS = "inputs", "stops"
PUSH_SECONDS, PULL_SECONDS = 5.0, 2.0
#: Seconds between tries of what must not fail; then it is given up.
RETRY_SECONDS = (1.0, 3.0, 10.0)
P = ParamSpec("P")
T = TypeVar("T")
#: Size and time of change of files, by relative path.
Stamps = dict[str, tuple[int, int]]


class StoreError(ConnectionError):
    """The store failed several times in a row."""


def given_up(error: Exception) -> StoreError:
    """What to raise after the last try, whatever the store's package has for it."""
    return StoreError(f"executor.artifacts failed {len(RETRY_SECONDS) + 1} times: {type(error).__name__}: {error}")


def insisting(action: Callable[P, T]) -> Callable[P, T]:
    """`action`, retried on any error of the store's package; raises StoreError after the last try."""

    @functools.wraps(action)
    def insist(*args: P.args, **kwargs: P.kwargs) -> T:
        for seconds in RETRY_SECONDS:
            with contextlib.suppress(Exception):
                return action(*args, **kwargs)
            time.sleep(seconds)
        try:
            return action(*args, **kwargs)
        except Exception as error:
            raise given_up(error) from error

    return insist


class Store:
    """A folder of any fsspec file system.

    Raises:
        ValueError, ImportError: no such protocol, or its package is not installed.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = url if "://" in url else str(Path(url).expanduser().resolve())
        self.fs: Any
        self.fs, root = fsspec.core.url_to_fs(self.url)
        self.root = str(root).rstrip("/")

    def put(self, file: Path, name: str) -> None:
        """Upload a file, under another name first."""
        target = f"{self.root}/{name}"
        part = f"{target}.{socket.gethostname()}-{os.getpid()}.part"
        self.fs.makedirs(os.path.dirname(target), exist_ok=True)
        self.fs.put_file(str(file), part)
        self.fs.mv(part, target)

    def has(self, name: str) -> bool:
        """Whether a file or folder is there now, whatever was listed before."""
        self.fs.invalidate_cache()
        return bool(self.fs.exists(f"{self.root}/{name}"))

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        if self.has(name):
            self.fs.rm_file(f"{self.root}/{name}")

    def push(self, folder: Path, name: str, known: Stamps) -> None:
        """Upload what differs from `known`, and remove what is gone since; `known` then says what there is in the store."""
        current = files_of(folder)
        for file, stamp in current.items():
            if known.get(file) != stamp:
                with contextlib.suppress(FileNotFoundError):  # replaced or removed since it was listed
                    self.put(folder / file, f"{name}/{file}")
                    known[file] = stamp
        for file in known.keys() - current.keys():
            self.remove(f"{name}/{file}")
            del known[file]

    def pull(self, name: str, folder: Path, mirror: bool = False) -> None:
        """Download what is not here with the same content; with `mirror`, remove what the store does not hold."""
        start = f"{self.root}/{name}"
        listed = self.fs.find(start) if self.has(name) else []
        files = [str(path)[len(start) + 1 :] for path in listed if not str(path).endswith(".part")]
        for file in sorted(files, key=_status_last):
            target, fetched = folder / file, folder / f".{Path(file).name}.{os.getpid()}.tmp"
            target.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # replaced or removed since it was listed
                self.fs.get_file(f"{start}/{file}", str(fetched))
                if not target.is_file() or file_hash(target) != file_hash(fetched):
                    os.replace(fetched, target)
            fetched.unlink(missing_ok=True)
        for file in files_of(folder).keys() - set(files) if mirror else ():
            (folder / file).unlink()


def _status_last(name: str) -> tuple[bool, str]:
    """How files are sorted: a status says that other files are there."""
    return Path(name).name == STATUS, name


def files_of(folder: Path) -> Stamps:
    """Every finished file of a folder; status files last."""
    found: Stamps = {}
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # renamed or removed since it was listed
            stat = path.stat()
            if S_ISREG(stat.st_mode) and not path.name.endswith(".tmp") and not path.name.startswith(".lock"):
                found[str(path.relative_to(folder))] = (stat.st_size, stat.st_mtime_ns)
    return {name: found[name] for name in sorted(found, key=_status_last)}


def _mapped(value: Any, change: Callable[[str], Any]) -> Any:
    """`value` (JSON) with every text in it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _mapped(item, change) for key, item in value.items()}
    return [_mapped(item, change) for item in value] if isinstance(value, list | tuple) else value


@dataclass
class Mirror:
    """A job on its node: what to fetch, and what to upload while it works. The driver has it too, and fetches that.

    Attributes:
        url: the store. inputs: path on the driver -> path in the store. output: the driver's output directory.
        before, after: folders of the output (relative) that are fetched before, and uploaded while and after.
    """

    url: str
    output: str
    inputs: dict[str, str]
    before: list[str]
    after: list[str]
    _scratch: Path = Path()
    _known: dict[str, Stamps] = field(default_factory=dict)
    _last: float = 0.0
    _failures: int = 0

    def local(self, path: str) -> Path:
        """Where a path under the driver's output lies on this node."""
        return self._scratch / "out" / Path(path).relative_to(self.output)

    @insisting
    def fetch(self, job: Job) -> Job:
        """Fetch what the job reads; returns the job with this node's paths.

        Raises:
            StoreError: the store failed several times.
        """
        self._last = 0.0  # the clock of the driver says nothing here
        store, digest = Store(self.url), hashlib.sha256(f"{self.url} {self.output}".encode()).hexdigest()[:12]
        host = os.environ.get("RAY_NODE_SCRATCH", tempfile.gettempdir())
        # the id of the node's own Ray process, so that two nodes on one machine do not share a folder
        self._scratch = Path(host) / f"dpo-beta-harness-{digest}-{os.getppid()}"
        for folder in sorted({str(Path(stored).parts[1]) for stored in self.inputs.values()}):
            target = self._scratch / INPUTS / folder
            if not target.exists():
                part = target.with_name(f"{folder}.{os.getpid()}.part")
                store.pull(f"{INPUTS}/{folder}", part)
                part.rename(target)  # a folder that is there is whole
        for name in self.before:
            mirror = name in self.after and name.startswith("runs/")
            store.pull(name, self._scratch / "out" / name, mirror)
        self._known = {name: files_of(self._scratch / "out" / name) for name in self.after}

        def here(text: str) -> str:
            path, colon, cls = text.rpartition(":") if ".py:" in text else (text, "", "")
            if path in self.inputs:
                return f"{self._scratch / self.inputs[path]}{colon}{cls}"
            return str(self.local(text)) if text.startswith(self.output + os.sep) else text

        changed: Job = _mapped(job, here)
        return changed

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
        for name in self.after:
            Store(self.url).push(self._scratch / "out" / name, name, self._known.setdefault(name, {}))

    def asked_to_stop(self, name: str) -> bool:
        """Whether the driver wants the run to end at a good place."""
        if time.monotonic() - self._last >= 1.0:
            with contextlib.suppress(Exception):  # a store that fails now is asked again
                return Store(self.url).has(f"{_STOPS}/{name}")
        return False

    # The driver's side.

    def pull(self, final: bool = False) -> bool:
        """Fetch what the node has uploaded, now and then; all of it at the end. False if there is to be another time.

        Raises:
            StoreError: the store failed several times at the end.
        """
        if time.monotonic() - self._last < PULL_SECONDS and (not final or self._failures):
            return False
        self._last = time.monotonic()
        try:
            for name in self.after if final else [name for name in self.after if name == "work"]:
                Store(self.url).pull(name, Path(self.output) / name, mirror=name.startswith("runs/"))
        except Exception as error:  # whatever the store's package has for it
            self._failures += final
            if self._failures > len(RETRY_SECONDS):
                raise given_up(error) from error
            return False
        return True

    @insisting
    def ask_to_stop(self, name: str) -> None:
        """Raises StoreError if the store failed several times."""
        store = Store(self.url)
        store.fs.makedirs(f"{store.root}/{_STOPS}", exist_ok=True)
        store.fs.touch(f"{store.root}/{_STOPS}/{name}")


class Artifacts:
    """The store of a matrix, as the driver uses it.

    Raises:
        UserError: the URL's protocol is unknown or its package is not installed.
    """

    def __init__(self, plan: Plan, url: str) -> None:
        self.plan = plan
        try:
            self._store = Store(url)
        except (ImportError, ValueError) as error:
            raise UserError(f"{plan.source.at('executor', 'artifacts')} is {url!r}; {error}") from None
        self._stored: dict[Path, str] = {}

    def begin_training(self, job: Job) -> Mirror:
        """Put what the run reads into the store, and take away what an earlier try of it told.

        Raises:
            StoreError: the store failed several times.
        """
        run_id, parent = job["train_job"]["run_id"], job["train_job"]["parent_dir"]
        told = [f"{_STOPS}/ray-{run_id}.stop", f"work/ray-{run_id}.events.jsonl"]
        before = [f"runs/{run_id}", "shared/reference"]
        more = [] if parent is None else [str(Path(parent).relative_to(self.plan.output))]
        return self._begin(job, told, before + more, [*before, "work"])

    def begin_evaluation(self, job: Job, events: Path) -> Mirror:
        """Put what the evaluation reads into the store: policies, prompts, answers there are already.

        Args:
            events: the file events are told in; what an earlier try told is taken away.

        Raises:
            StoreError: the store failed several times.
        """
        folders = sorted({str(Path(policy["out"]).relative_to(self.plan.output)) for policy in job["policies"]})
        return self._begin(job, [str(events.relative_to(self.plan.output))], folders, [*folders, "work"])

    @insisting
    def _begin(self, job: Job, told: list[str], before: list[str], after: list[str]) -> Mirror:
        """Remove what an earlier try told, and put the folders `before`, and what else the job reads, into the store."""
        output = self.plan.output
        for name in told:
            self._store.remove(name)
        for name in before:
            self._store.push(output / name, name, {})
        texts: list[str] = []
        _mapped(job, texts.append)
        inputs: dict[str, str] = {}
        for text in set(texts):
            path = Path(text.rpartition(":")[0] if ".py:" in text else text)
            inside = any(path.is_relative_to(output / name) for name in before) or path == output
            made = path.is_relative_to(output) and path.is_dir()
            if path.is_absolute() and path.exists() and not inside and not made and "work" not in path.parts[-2:-1]:
                inputs[str(path)] = self._keep(path)
        return Mirror(self._store.url, str(output), inputs, before, after, _last=time.monotonic())

    def _keep(self, path: Path) -> str:
        """Where a file or folder that a job reads is in the store, by its content."""
        if path not in self._stored:
            files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
            sums = "\n".join(f"{p.relative_to(path.parent)} {file_hash(p)}" for p in files)
            folder = f"{INPUTS}/{hashlib.sha256(sums.encode()).hexdigest()[:16]}"
            for file in files:  # each: an earlier driver may have died halfway
                name = f"{folder}/{file.relative_to(path.parent)}"
                if not self._store.has(name):
                    self._store.put(file, name)
            self._stored[path] = f"{folder}/{path.name}"
        return self._stored[path]
