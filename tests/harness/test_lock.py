"""One process per output: refused, waited for, and taken over only from what has stopped, whatever the clocks say."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from harness import lock
from harness.errors import UserError
from harness.lock import HOLDER, output_lock
from harness.store import read_json, write_json

ROOT = Path(__file__).resolve().parents[2]
ELSEWHERE = {"pid": 4, "host": "another-host", "since": "2031-01-01T00:00:00+00:00", "token": "t", "beat": 7}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(lock, "_POLL_SECONDS", 0.02)


def _holder(output: Path) -> subprocess.Popen[str]:
    code = (
        "import pathlib, sys; from harness.lock import output_lock\n"
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


def test_a_process_that_lost_its_lock_stops(tmp_path: Path, quick: None) -> None:
    """It slept (a suspended machine) and another took over: it must not go on beside it."""
    caught: list[Any] = []
    before = signal.signal(signal.SIGTERM, lambda *arguments: caught.append(arguments))
    try:
        with output_lock(tmp_path):
            write_json(tmp_path / HOLDER, ELSEWHERE)
            for _ in range(500):
                if caught:
                    break
                time.sleep(0.01)
        assert caught
        assert read_json(tmp_path / HOLDER) == ELSEWHERE, "the other's record is left alone"
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_damaged_record_of_the_holder_does_not_block(tmp_path: Path) -> None:
    (tmp_path / HOLDER).write_text('{"pid": ', encoding="utf-8")
    with output_lock(tmp_path):
        assert read_json(tmp_path / HOLDER)["pid"] == os.getpid()
