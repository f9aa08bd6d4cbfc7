"""Data parallelism: the same engine in several processes, each with its share of the devices and of every batch.

vLLM's `LLM` takes no `data_parallel_size` above 1 in one process, so each replica is a process of its own.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evals.engine.base import Engine, EngineConfig, EngineError, EngineLostError, Generated, Sampling, may_pass


class EngineDeadError(EngineLostError):
    """A replica or a process of its engine died; called as vLLM's own error, so that the worker treats it alike."""


_ERRORS: dict[str, type[EngineError]] = {one.__name__: one for one in (EngineError, EngineLostError, EngineDeadError)}


#: Starts an engine with the weights of a folder.
Start = Callable[[Path, EngineConfig], Engine]


def devices(config: EngineConfig) -> list[list[str]]:
    """The devices of each replica: `tensor_parallel_size` GPUs, or without GPUs an equal share of the CPU cores.

    Raises:
        EngineError: there are too few.
    """
    import torch

    n, wide = config.data_parallel_size, config.tensor_parallel_size
    if torch.cuda.is_available():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        found = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
        what = f"{n} replicas of {wide} GPU(s)"
    else:
        found, what = [str(core) for core in sorted(os.sched_getaffinity(0))], f"{n} replicas"
        wide = max(len(found) // n, 1)
    if len(found) < n * wide:
        raise EngineError(
            f"evaluation.engine asks for {what}, and this machine has {len(found)}; lower data_parallel_size"
        )
    return [found[i * wide : (i + 1) * wide] for i in range(n)]


def _serve(pipe: Any, model_dir: str, config: EngineConfig, mine: list[str], start: Start) -> None:
    """A replica: answers calls of the engine's methods until the pipe is closed."""
    import torch

    if torch.cuda.device_count():  # does not initialise CUDA, so the choice below still counts
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
    else:
        os.sched_setaffinity(0, {int(core) for core in mine})
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(mine)
        torch.set_num_threads(len(mine))
    try:
        engine = start(Path(model_dir), config)
    except EngineError as error:
        pipe.send((EngineLostError.__name__ if may_pass(error) else type(error).__name__, str(error)))
        return
    threading.Thread(target=_end_with, args=(engine,), daemon=True).start()
    pipe.send((None, (engine.name, engine.max_model_len)))
    while True:
        try:
            method, arguments = pipe.recv()
        except EOFError:
            break
        try:
            pipe.send((None, getattr(engine, method)(*arguments)))
        except Exception as error:  # whatever the engine raises is the caller's to handle
            pipe.send((type(error).__name__, f"{type(error).__name__}: {error}"))
    engine.close()


def _end_with(engine: Any) -> None:
    while engine.alive():
        time.sleep(1)
    os._exit(1)


class Replicas:
    """`evals.engine.base.Engine` over `data_parallel_size` engines: requests are dealt out in turn, answers come in order."""

    def __init__(self, model_dir: Path, config: EngineConfig, start: Start) -> None:
        from transformers import AutoTokenizer

        context = multiprocessing.get_context("spawn")
        one = replace(config, data_parallel_size=1)
        self._pipes: list[Any] = []
        self._processes: list[Any] = []
        for mine in devices(config):
            here, there = context.Pipe()
            # not a daemon: vLLM starts processes of its own
            process = context.Process(target=_serve, args=(there, str(model_dir), one, mine, start), daemon=False)
            process.start()
            there.close()
            self._pipes.append(here)
            self._processes.append(process)
        try:
            names = [self._receive(i) for i in range(len(self._pipes))]
        except EngineError:
            self.close()
            raise
        self.name, self.replicas = f"{names[0][0]} x {len(names)}", len(names)
        self.max_model_len, self.trust_remote_code = int(names[0][1]), config.trust_remote_code
        self.tokenizer: Any = AutoTokenizer.from_pretrained(model_dir, trust_remote_code=config.trust_remote_code)

    def _receive(self, i: int) -> Any:
        try:
            error, value = self._pipes[i].recv()
        except (EOFError, OSError):
            raise EngineDeadError(f"replica {i} of the engine ended") from None
        if error is not None:
            raise _ERRORS.get(error, EngineError)(f"replica {i}: {value}")
        return value

    def _all(self, method: str, arguments: Callable[[int], tuple[Any, ...]]) -> list[Any]:
        """Call a method of every replica at once; the first error is raised when all have answered."""
        for i, pipe in enumerate(self._pipes):
            try:
                pipe.send((method, arguments(i)))
            except OSError:
                raise EngineDeadError(f"replica {i} of the engine ended") from None
        values, failed = [], None
        for i in range(len(self._pipes)):
            try:
                values.append(self._receive(i))
            except EngineError as error:
                failed = failed or error
        if failed is not None:
            raise failed
        return values

    def _dealt(self, method: str, requests: Sequence[Any], more: Callable[[int], tuple[Any, ...]]) -> list[Any]:
        n = len(self._pipes)
        parts = self._all(method, lambda i: (list(requests[i::n]), *more(i)))
        results: list[Any] = [None] * len(requests)
        for i, part in enumerate(parts):
            results[i::n] = part
        return results

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[Generated]:
        n, seeds = len(self._pipes), sampling.seeds
        return self._dealt("generate", prompts, lambda i: (replace(sampling, seeds=seeds[i::n] if seeds else None),))

    def loglikelihood(self, requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[tuple[float, bool]]:
        return self._dealt("loglikelihood", requests, lambda _: ())

    def token_logprobs(self, requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[list[float]]:
        return self._dealt("token_logprobs", requests, lambda _: ())

    def swap(self, model_dir: Path, adapter: Path | None = None) -> float:
        return float(max(self._all("swap", lambda _: (model_dir, adapter))))

    def alive(self) -> bool:
        return all(process.is_alive() for process in self._processes)

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(10)
            if process.is_alive():
                process.terminate()
