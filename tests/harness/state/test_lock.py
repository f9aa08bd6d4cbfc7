"""One process per output: refused, waited for, and taken over only from what has stopped, whatever the clocks say."""

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.state import lock, run_locks
from harness.state.lock import EXIT_LOST, HOLDER, Held, lock_file, output_lock, try_lock
from harness.state.run_locks import EVALUATES, shared_output
from trainers.common.errors import UserError
from trainers.common.files import read_json, write_json

ROOT = Path(__file__).resolve().parents[3]
ELSEWHERE = {"pid": 4, "host": "another-host", "since": "2031-01-01T00:00:00+00:00", "token": "t", "beat": 7}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(lock, "_POLL_SECONDS", 0.02)


def _holder(output: Path) -> subprocess.Popen[str]:
    code = (
        "import pathlib, sys; from harness.state.lock import output_lock\n"
        "with output_lock(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(output)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_another_process_is_named_and_can_be_waited_for(tmp_path: Path, quick: None) -> None:
    other = _holder(tmp_path)
    with pytest.raises(UserError, match=rf"process {other.pid} on .*--wait"), output_lock(tmp_path):
        pass
    said: list[str] = []

    def end(line: str) -> None:
        said.append(line)
        assert other.stdin is not None
        other.stdin.close()

    with output_lock(tmp_path, wait=True, log=end):
        assert read_json(tmp_path / HOLDER)["pid"] == os.getpid()
    assert other.wait(timeout=60) == 0
    assert said == [line for line in said if f"process {other.pid}" in line and "waiting" in line] and len(said) == 1


def test_a_killed_holder_leaves_nothing_that_blocks(tmp_path: Path) -> None:
    other = _holder(tmp_path)
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert read_json(tmp_path / HOLDER)["pid"] == other.pid
    with output_lock(tmp_path):
        assert read_json(tmp_path / HOLDER)["pid"] == os.getpid()
    assert not (tmp_path / HOLDER).exists()


@pytest.mark.parametrize("since", ["1970-01-01T00:00:00+00:00", "2199-01-01T00:00:00+00:00"])
def test_a_holder_on_another_host_counts_while_its_counter_goes_on(tmp_path: Path, quick: None, since: str) -> None:
    """The kernel's lock may not reach from host to host; clocks of hosts may differ by anything."""
    write_json(tmp_path / HOLDER, {**ELSEWHERE, "since": since})
    ended = threading.Event()

    def beat() -> None:
        number = 8
        while not ended.wait(0.05):
            write_json(tmp_path / HOLDER, {**ELSEWHERE, "since": since, "beat": number})
            number += 1

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(UserError, match="process 4 on another-host"), output_lock(tmp_path):
            pass
    finally:
        ended.set()
        thread.join()
    said: list[str] = []
    with output_lock(tmp_path, log=said.append):
        assert len(said) == 1 and "taking over from process 4 on another-host" in said[0]


LOSER = """
import atexit, pathlib, signal, sys, time
from harness.state import lock
lock.BEAT_SECONDS = 0.1
output = pathlib.Path(sys.argv[1])
save = lambda *_: (output / "checkpoint").touch()
signal.signal(signal.SIGTERM, save)
atexit.register(save)
with lock.output_lock(output):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_process_that_lost_its_lock_ends_without_saving(tmp_path: Path) -> None:
    """It slept (a suspended machine) and another took over: it must not go on beside it, nor write what is the other's."""
    loser = subprocess.Popen([sys.executable, "-c", LOSER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert loser.stdout is not None and loser.stdout.readline() == "held\n"
    write_json(tmp_path / HOLDER, ELSEWHERE)
    assert loser.wait(timeout=60) == EXIT_LOST
    assert not (tmp_path / "checkpoint").exists()
    assert read_json(tmp_path / HOLDER) == ELSEWHERE, "the other's record is left alone"


@pytest.fixture
def hosts(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every thread is a host of its own, and kernel locks do not reach from one to the other."""

    class Socket:
        @staticmethod
        def gethostname() -> str:
            return threading.current_thread().name

    monkeypatch.setattr(lock, "socket", Socket)
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)


def test_of_several_hosts_one_begins(tmp_path: Path, hosts: None) -> None:
    start, inside, refused = threading.Barrier(8), [], []

    def work() -> None:
        start.wait()
        try:
            with output_lock(tmp_path):
                inside.append(threading.current_thread().name)
                over.wait(timeout=30)
        except Held:
            refused.append(threading.current_thread().name)
            if len(refused) == 7:
                over.set()

    over = threading.Event()
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(inside), len(refused)) == (1, 7)


def test_of_several_that_take_over_the_last_has_it(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_json(tmp_path / HOLDER, ELSEWHERE)

    def write(path: Path, holder: dict[str, Any]) -> None:
        write_json(path, holder)
        write_json(path, {**ELSEWHERE, "host": "a-third-host"})

    monkeypatch.setattr(lock, "write_json", write)
    with pytest.raises(Held, match="process 4 on a-third-host"), output_lock(tmp_path, log=lambda line: None):
        pass


def _reads(monkeypatch: pytest.MonkeyPatch, first: list[Callable[[], Any]]) -> None:
    """The first reads of a record are these, the others real."""
    real = lock._read
    monkeypatch.setattr(lock, "_read", lambda path: first.pop(0)() if first else real(path))


def _stale() -> None:
    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))


def test_what_cannot_be_read_has_not_ended(tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(tmp_path / HOLDER, {**ELSEWHERE, "beat": 8})
    _reads(monkeypatch, [lambda: ELSEWHERE, _stale, _stale])
    with pytest.raises(Held, match="process 4 on another-host"), output_lock(tmp_path):
        pass
    _reads(monkeypatch, [_stale] * lock.MISSED_BEATS)
    with pytest.raises(UserError, match=HOLDER) as caught, output_lock(tmp_path):
        pass
    assert not isinstance(caught.value, Held)


def test_a_read_that_hangs_is_one_look(tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server hung, for the holder too, for longer than beats may fail to come; then it beats again."""
    write_json(tmp_path / HOLDER, {**ELSEWHERE, "beat": 8})

    def hang() -> dict[str, Any]:
        time.sleep(2 * lock.BEAT_SECONDS * lock.MISSED_BEATS)
        return ELSEWHERE

    _reads(monkeypatch, [lambda: ELSEWHERE, hang])
    with pytest.raises(Held, match="process 4 on another-host"), output_lock(tmp_path):
        pass


def test_no_locks_and_no_directory_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="give another --output"), output_lock(tmp_path / "file" / "out"):
        pass

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(UserError, match="no file locks") as caught, output_lock(tmp_path):
        pass
    assert not isinstance(caught.value, Held)


def test_a_worker_waits_for_one_that_evaluates_and_not_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_locks, "_POLL_SECONDS", 0.02)
    said: list[str] = []
    refused = pytest.raises(UserError, match=rf"process {os.getpid()} on .*cannot join")
    with output_lock(tmp_path), refused, shared_output(tmp_path, said.append):
        pass
    evaluating = output_lock(tmp_path, role=EVALUATES)
    evaluating.__enter__()

    def end(line: str) -> None:
        said.append(line)
        evaluating.__exit__(None, None, None)

    other = shared_output(tmp_path, end)  # workers do not exclude each other
    with shared_output(tmp_path, end), other, pytest.raises(Held), output_lock(tmp_path):
        pass
    assert len(said) == 1 and f"is being evaluated by process {os.getpid()}" in said[0]


def test_a_worker_is_not_turned_away_by_the_record_of_one_that_died(tmp_path: Path, quick: None) -> None:
    """Another worker has the kernel's lock already, and is about to write its own record."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    record = {"pid": dead.pid, "host": socket.gethostname(), "since": "-", "token": "t", "beat": 0}
    write_json(tmp_path / HOLDER, record)
    said: list[str] = []
    with lock_file(tmp_path) as handle:
        assert try_lock(tmp_path, handle, fcntl.LOCK_EX)
        free = threading.Timer(1.0, lambda: fcntl.flock(handle, fcntl.LOCK_UN))
        free.start()
        with shared_output(tmp_path, said.append):
            assert free.finished.is_set()
        free.join()
    assert said == []


def test_a_damaged_record_of_the_holder_does_not_block(tmp_path: Path, quick: None) -> None:
    (tmp_path / HOLDER).write_text('{"pid": ', encoding="utf-8")
    with output_lock(tmp_path):
        assert read_json(tmp_path / HOLDER)["pid"] == os.getpid()
