"""`python -m harness` and its workers as forks of one process that has imported everything: seconds instead of a minute.

What runs is the project's own code, in processes of its own, under signals and exit codes of its own; only the imports are
not repeated.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.points import Fault, Points

_WORKERS = {"harness.workers.train_worker": "train", "evals.worker": "evaluate", "evals.judges.worker": "judge"}
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
    "harness.state.checkpoints",
    "harness.state.clean",
    "harness.commands.runs.run_matrix",
    "harness.stages.judge",
    "harness.state.lock",
    "harness.stages.run",
    "harness.workers.train_worker",
    "peft",
    "reports.verdict.claims",
    "reports.page.html",
    "reports.files.metrics",
    "reports.page.terminal",
    "trainers.run.callbacks",
    "trainers.trainer.dpo",
)


def import_everything() -> None:
    """Pay for the imports once. No tensor is touched, so no thread pool is started that a fork would lose."""
    for name in _HEAVY:
        importlib.import_module(name)
    from transformers import AutoModelForCausalLM, AutoTokenizer  # resolved lazily, so named here

    assert AutoModelForCausalLM and AutoTokenizer
    from harness.plan.machine import source_version

    source_version()  # kept for all forks: a checkout that is worked on meanwhile changes no record


def harness(arguments: list[str], output: Path, log: Path, fault: Fault | None = None, limit: int | None = None) -> int:
    """Run `python -m harness ARGUMENTS` to its end; returns the exit code, as a shell gives it (negative: by a signal).

    Args:
        log: standard output and error go to `log`, points to `<log>.points`.
        limit: bytes no file may grow beyond, as on a full disk.

    Raises:
        TimeoutError: it hangs; it and its workers are killed.
    """
    _adopt_orphans()
    pid = os.fork()
    if pid == 0:
        _child(lambda: _main(arguments, output, log, fault, limit), log)
    deadline, code = time.monotonic() + 300, None
    while (
        True
    ):  # until it and every worker it left behind are gone: a restart in a process of its own takes longer than that
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            assert code is not None
            return code
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            for child in _children():
                os.kill(child, signal.SIGKILL)
            raise TimeoutError(f"python -m harness {' '.join(arguments)} hangs; see {log}")
        if not ended:
            time.sleep(0.02)


def _adopt_orphans() -> None:
    """Make this process the parent of workers whose own parent is killed (Linux)."""
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER


def _children() -> list[int]:
    """Children of this process, and theirs."""
    found, left = [], [os.getpid()]
    while left:
        pid = left.pop()
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
        except OSError:
            continue
        found += [int(child) for child in children]
        left += [int(child) for child in children]
    return found


def _child(work: Callable[[], int], log: Path) -> None:
    """The forked process: never returns."""
    code = 1
    try:
        os.setsid()
        for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
            signal.signal(number, handler)
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        code = work()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _main(arguments: list[str], output: Path, log: Path, fault: Fault | None, limit: int | None) -> int:
    from harness.cli import main

    points = Points(output, log.with_suffix(".points"), fault)
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    def popen(command: list[str], **options: Any) -> Any:
        if command[:2] == [sys.executable, "-m"] and command[2] in _WORKERS:
            return _fork_worker(command[2], command[3:], points, options)
        return _Popen(command, **options)

    subprocess.Popen = popen  # type: ignore[assignment, misc]
    sys.argv = ["harness", *arguments]
    return main(arguments)


def _fork_worker(module: str, arguments: list[str], points: Points, options: dict[str, Any]) -> Any:
    """A worker as `subprocess.Popen` starts it, forked instead: same object, same signals."""

    def work() -> int:
        os.environ.update(options.get("env") or {})
        points.become(_WORKERS[module])
        return int(importlib.import_module(module).main(arguments))

    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _child(work, Path(options["stderr"].name))
    process = _Popen.__new__(_Popen)
    process.args, process.pid, process.returncode = [module, *arguments], pid, None
    process.stdin = process.stdout = process.stderr = None
    process._child_created = True  # type: ignore[attr-defined]
    process._waitpid_lock = threading.Lock()  # type: ignore[attr-defined]
    return process
