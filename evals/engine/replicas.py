"""Data parallelism: the same engine in several processes, each with its share of the devices and of every batch.

vLLM's `LLM` takes no `data_parallel_size` above 1 in one process, so each replica is a process of its own: a pool of one, since a
replica keeps its engine and a pool would choose by itself which of its processes gets a call.
"""

import contextlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from evals.engine.base import (
    Engine,
    EngineConfig,
    EngineError,
    EngineLostError,
    Generated,
    Sampling,
    TokenKl,
    Weights,
    end_with_engine,
    may_pass,
)


class EngineDeadError(EngineLostError):
    """A replica or a process of its engine died; called as vLLM's own error, so that the worker treats it alike."""


#: Starts an engine with the weights of a folder.
Start = Callable[[Path, EngineConfig], Engine]
#: In a replica's process: its engine.
_engine: Any = None


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


def _begin(model_dir: Path, config: EngineConfig, mine: list[str], start: Start) -> tuple[str, int]:
    """In a replica: start the engine on its devices; returns its name and its max_model_len."""
    import torch

    global _engine
    if torch.cuda.device_count():  # does not initialise CUDA, so the choice below still counts
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
    else:
        os.sched_setaffinity(0, {int(core) for core in mine})
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(mine)
        torch.set_num_threads(len(mine))
    try:
        _engine = start(model_dir, config)
    except Exception as error:  # its cause does not travel, and another library's may not at all
        passing = not isinstance(error, EngineError) or may_pass(error)
        raise (EngineLostError if passing else EngineError)(f"{type(error).__name__}: {error}") from None
    end_with_engine(_engine)
    return _engine.name, _engine.max_model_len


def _call(method: str, *arguments: Any) -> Any:
    """In a replica: a method of its engine."""
    try:
        return getattr(_engine, method)(*arguments)
    except EngineError as error:
        raise type(error)(f"{type(error).__name__}: {error}") from None
    except Exception as error:  # another library's: the caller may not be able to unpickle it
        dead = type(error).__name__ == EngineDeadError.__name__
        raise (EngineDeadError if dead else EngineError)(f"{type(error).__name__}: {error}") from None


class Replicas:
    """`evals.engine.base.Engine` over `data_parallel_size` engines: requests are dealt out in turn, answers come in order."""

    def __init__(self, model_dir: Path, config: EngineConfig, start: Start) -> None:
        from transformers import AutoTokenizer

        one, shares, spawn = replace(config, data_parallel_size=1), devices(config), get_context("spawn")
        self._pools = [ProcessPoolExecutor(1, mp_context=spawn) for _ in shares]
        try:
            begun = self._all(_begin, [(Path(model_dir), one, mine, start) for mine in shares])
        except BaseException:  # Ctrl-C, too: each process holds a GPU
            self._processes = self._started()
            self.close()
            raise
        self._processes = self._started()
        self.name, self.replicas = f"{begun[0][0]} x {len(begun)}", len(begun)
        self.max_model_len, self.trust_remote_code = int(begun[0][1]), config.trust_remote_code
        self.tokenizer: Any = AutoTokenizer.from_pretrained(model_dir, trust_remote_code=config.trust_remote_code)

    def _all(self, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Call a function in every replica at once; the first error is raised when all have answered."""
        i, futures, results = 0, [], []
        try:
            for i, pool in enumerate(self._pools):
                futures.append(pool.submit(function, *arguments[i]))
            wait(futures)
            for i in range(len(futures)):
                results.append(futures[i].result())
        except BrokenProcessPool:
            raise EngineDeadError(f"replica {i} of the engine ended") from None
        except EngineError as error:
            raise type(error)(f"replica {i}: {error}") from None
        return results

    def _dealt(self, method: str, requests: Sequence[Any], more: Sequence[tuple[Any, ...]] = ()) -> list[Any]:
        n = len(self._pools)
        parts = self._all(_call, [(method, list(requests[i::n]), *(more[i] if more else ())) for i in range(n)])
        results: list[Any] = [None] * len(requests)
        for i, part in enumerate(parts):
            results[i::n] = part
        return results

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[Generated]:
        n, seeds = len(self._pools), sampling.seeds
        shares = [(replace(sampling, seeds=seeds[i::n] if seeds else None),) for i in range(n)]
        return self._dealt("generate", prompts, shares)

    def loglikelihood(self, requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[tuple[float, bool]]:
        return self._dealt("loglikelihood", requests)

    def token_logprobs(self, requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[list[float]]:
        return self._dealt("token_logprobs", requests)

    def token_kl(
        self, requests: Sequence[tuple[Sequence[int], Sequence[int]]], reference: Path, policy: Weights
    ) -> list[TokenKl] | None:
        return None

    def swap(self, model_dir: Path, adapter: Path | None = None) -> float:
        return float(max(self._all(_call, [("swap", model_dir, adapter)] * len(self._pools))))

    def _started(self) -> list[BaseProcess]:
        return [process for pool in self._pools for process in (pool._processes or {}).values()]

    def alive(self) -> bool:
        return all(process.is_alive() for process in self._processes)

    def close(self) -> None:
        for pool in self._pools:
            with contextlib.suppress(BrokenProcessPool):
                pool.submit(_call, "close")
            pool.shutdown(wait=False)
        for process in self._processes:
            process.join(10)
            process.terminate()
