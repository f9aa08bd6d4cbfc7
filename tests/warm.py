"""`python -m harness` for tests, forked from one process that has imported everything: its imports are paid once.

What runs is the project's own code in processes of its own, with signals and exit codes of its own. `python -m tests.warm` is
the process that forks: a request a line on its standard input, answered by the child's id and, at its end, its exit code.
"""

import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WORKERS = {"harness.workers.train_worker": "train", "evals.worker": "evaluate", "evals.judges.worker": "judge"}
_Popen = subprocess.Popen
_HEAVY = (
    "matplotlib.pyplot",
    "rich.live",
    "transformers.models.llama.modeling_llama",
    "transformers.trainer",
    "trl.trainer.dpo_trainer",
    "evals.benchmarks.kl",
    "evals.benchmarks.constraints",
    "evals.judges.worker",
    "evals.judges.verifiable",
    "evals.engine.merge",
    "evals.engine.swap_check",
    "evals.engine.transformers_engine",
    "evals.worker",
    "harness.state.records",
    "harness.state.clean",
    "harness.commands.runs.matrix",
    "harness.stages.judge",
    "harness.state.lock",
    "harness.stages.run",
    "harness.workers.train_worker",
    "peft",
    "reports.verdict.claims",
    "reports.page.context",
    "reports.files.metrics",
    "reports.page.first",
    "trainers.run.callbacks",
    "trainers.trainer.dpo",
)


def import_everything() -> None:
    """Pay for the imports once. No tensor is touched, so no thread pool is started that a fork would lose."""
    for name in _HEAVY:
        importlib.import_module(name)
    from transformers import AutoModelForCausalLM, AutoTokenizer  # resolved lazily, so named here

    assert AutoModelForCausalLM and AutoTokenizer
    from harness.state.machine import source_version

    source_version()  # kept for all forks: a checkout that is worked on meanwhile changes no record


def fork(work: Callable[[], int], out: Path, err: Path, session: bool = True) -> int:
    """Run `work` in a forked process that writes to `out` and `err`; returns the process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        if session:
            os.setsid()
        for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
            signal.signal(number, handler)
        for descriptor, path in ((1, out), (2, err)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
        code = work()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def fork_workers(become: Callable[[str], None] = lambda role: None) -> None:
    """From now on workers of this process are forks too; `become` is told the role of each."""

    def popen(command: list[str], **options: Any) -> Any:
        if command[:2] == [sys.executable, "-m"] and command[2] in WORKERS:
            return _fork_worker(command[2], command[3:], become, options)
        return _Popen(command, **options)

    subprocess.Popen = popen  # type: ignore[assignment, misc]


def _fork_worker(module: str, arguments: list[str], become: Callable[[str], None], options: dict[str, Any]) -> Any:
    """A worker as `subprocess.Popen` starts it, forked instead: same object, same signals."""

    def work() -> int:
        os.environ.update(options.get("env") or {})
        become(WORKERS[module])
        return int(importlib.import_module(module).main(arguments))

    log = Path(options["stderr"].name)
    process = _Popen.__new__(_Popen)
    process.pid = fork(work, log, log, options.get("start_new_session", False))
    process.args, process.returncode = [module, *arguments], None
    process.stdin = process.stdout = process.stderr = None
    process._child_created = True  # type: ignore[attr-defined]
    process._waitpid_lock = threading.Lock()  # type: ignore[attr-defined]
    return process


class Harness:
    """Starts `python -m harness ...`, one at a time, from one process with everything imported."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.warm"]
        self.pid: int | None = None
        # one thread: a pool that imports start would not survive the forks
        env = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        self._server = _Popen(command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._folder = tempfile.TemporaryDirectory()
        self._out, self._err = Path(self._folder.name) / "out", Path(self._folder.name) / "err"

    def start(self, arguments: Sequence[object], env: Mapping[str, str] | None = None) -> None:
        """Start it as leader of a process group; `pid` is its process id."""
        assert self._server.stdin and self._server.stdout
        for path in (self._out, self._err):
            path.unlink(missing_ok=True)
        request = {"arguments": [str(a) for a in arguments], "env": dict(os.environ if env is None else env)}
        print(json.dumps(request | {"out": str(self._out), "err": str(self._err)}), file=self._server.stdin, flush=True)
        self.pid = int(self._server.stdout.readline())

    def ended(self, seconds: float = 0.0) -> subprocess.CompletedProcess[str] | None:
        """Its result, or None if it has not ended after so many seconds."""
        assert self._server.stdout
        if not select.select([self._server.stdout], [], [], seconds)[0]:
            return None
        code = int(self._server.stdout.readline())
        return subprocess.CompletedProcess("harness", code, *(p.read_text("utf-8") for p in (self._out, self._err)))

    def wait(self, seconds: float = 300.0) -> subprocess.CompletedProcess[str]:
        """Its result. Raises TimeoutError, after killing its group."""
        if (result := self.ended(seconds)) is None:
            os.killpg(self.pid or 0, signal.SIGKILL)
            raise TimeoutError(f"python -m harness did not end in {seconds:.0f} s")
        return result

    def close(self) -> None:
        self._server.communicate(timeout=30)
        self._folder.cleanup()


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # nothing but answers goes there
    import_everything()
    for line in sys.stdin:
        request = json.loads(line)

        def work(request: dict[str, Any] = request) -> int:
            from harness.cli import main

            os.environ.clear()
            os.environ.update(request["env"])
            fork_workers()
            sys.argv = ["harness", *request["arguments"]]
            return main(request["arguments"])

        pid = fork(work, Path(request["out"]), Path(request["err"]))
        print(pid, file=answers)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file=answers)


if __name__ == "__main__":
    _serve()
