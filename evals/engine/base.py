"""What an engine does for the rest of `evals`: sample, score continuations, swap weights."""

import importlib.util
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as checked_dataclass


class EngineError(RuntimeError):
    """The engine could not do what was asked: weights that did not change, a checkpoint that does not load."""


class EngineLostError(EngineError):
    """As EngineError, and the engine is unusable: start a new one."""


def may_pass(error: EngineError) -> bool:
    """Whether an engine that did not start may start another time: a process of it failed, and said no more than that."""
    return isinstance(error, EngineLostError) or isinstance(error.__cause__, RuntimeError)


@checked_dataclass(frozen=True, config=ConfigDict(extra="ignore"))
class EngineConfig:
    """Settings of the engine, from the matrix file; other keys are ignored.

    Attributes:
        backend: auto (vLLM where it imports, else transformers), vllm or transformers.
        dtype: auto, float32, bfloat16 or float16; auto is bfloat16 where the hardware has it, else float32.
        max_model_len: longest prompt plus answer, tokens. kv_cache_gib: KV cache on CPU, GiB.
        max_num_seqs: sequences decoded together.
        trust_remote_code: run modelling code that comes with the checkpoint.
        lora: merge (adapters are merged and the weights swapped) or adapters (vLLM adds them per request to the base weights).
        lora_rank: of the adapters that will be served.
        parity_prompts: prompts on which vLLM's greedy answers are compared with transformers'.
    """

    backend: str = "auto"
    dtype: str = "auto"
    max_model_len: int = 1024
    kv_cache_gib: int = 2
    max_num_seqs: int = 256
    seed: int = 0
    tensor_parallel_size: int = 1
    data_parallel_size: int = 1
    gpu_memory_utilization: float = 0.85
    trust_remote_code: bool = False
    lora: str = "merge"
    lora_rank: int = 8
    parity_prompts: int = 0


@dataclass(frozen=True)
class Sampling:
    """How to decode. `seeds`, if given, holds one seed per prompt; temperature 0 is greedy."""

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seeds: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Generated:
    """One answer: text without special tokens, its token ids, one log-prob per token (nats), why it ended."""

    text: str
    token_ids: list[int]
    logprobs: list[float]
    finish_reason: str


@dataclass(frozen=True)
class TokenKl:
    """Of each token of a continuation, nats: the KL of the two next-token distributions before it, and its log-prob under the
    reference (empty where the engine scores log-probs by other means)."""

    kl: list[float]
    reference: list[float]


#: A context in which the folder that it gives holds a policy's weights.
Weights = Callable[[], AbstractContextManager[Path]]


class Engine(Protocol):
    """One engine that serves every policy of a matrix.

    Prompts are token ids: chat templates and special tokens are the caller's business.
    """

    name: str
    tokenizer: Any
    max_model_len: int
    trust_remote_code: bool
    #: Copies of the weights that are swapped apart. Requests are dealt out to them in turn.
    replicas: int

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[Generated]:
        """One answer per prompt, in order."""

    def loglikelihood(self, requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[tuple[float, bool]]:
        """For (context ids, continuation ids): summed log-prob of the continuation, and whether it is greedy."""

    def token_logprobs(self, requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[list[float]]:
        """For (context ids, continuation ids): the log-prob of each token of the continuation, nats."""

    def token_kl(
        self, requests: Sequence[tuple[Sequence[int], Sequence[int]]], reference: Path, policy: Weights
    ) -> list[TokenKl] | None:
        """For (context ids, continuation ids): KL(policy || reference) at each token of the continuation, over the vocabulary
        (evals.engine.exact_kl). None where only log-probs are to be had.

        Args:
            reference: folder of the reference's weights.
            policy: opens the folder of the weights that are served, for an engine that holds them elsewhere.

        Raises:
            EngineError: the two have other vocabularies.
        """

    def swap(self, model_dir: Path, adapter: Path | None = None) -> float:
        """Serve the weights in `model_dir` from now on; returns the seconds it took.

        Args:
            adapter: the LoRA adapter that is merged in `model_dir`: an engine with `lora: adapters` takes this instead.

        Raises:
            EngineError: they do not load; the engine can be given others.
            EngineLostError: they do not load, and have left the engine unusable.
        """

    def alive(self) -> bool:
        """False once a process of the engine has died: nothing will be answered any more."""

    def close(self) -> None:
        """Free the engine."""


#: Exit code of a process whose engine has died, which asks the supervisor for a new one.
ENGINE_DIED = 3


def end_with_engine(engine: Engine, grace: float = 0.0) -> None:
    """End this process when the engine is dead: killed by a signal, vLLM may leave its caller waiting indefinitely.

    Args:
        grace: seconds in between: where vLLM does raise an error, that is the better end.
    """

    def watch() -> None:
        while engine.alive():
            time.sleep(1)
        time.sleep(grace)
        os._exit(ENGINE_DIED)

    threading.Thread(target=watch, daemon=True).start()


def choose_backend(config: EngineConfig) -> str:
    """The backend `auto` stands for on this machine."""
    there = "vllm" if importlib.util.find_spec("vllm") is not None else "transformers"
    return there if config.backend == "auto" else config.backend


def choose_dtype(config: EngineConfig) -> str:
    """The dtype `auto` stands for: bfloat16 on GPUs and CPUs with AVX512-BF16 or AMX, float32 on other CPUs.

    Where bfloat16 is emulated, a forward pass of the embedded model was measured three times slower than in float32.
    """
    if config.dtype != "auto":
        return config.dtype
    import torch

    if torch.cuda.is_available():
        return "bfloat16"
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if native else "float32"
