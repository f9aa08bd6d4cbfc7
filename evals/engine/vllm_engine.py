"""One vLLM engine for all policies: weights are swapped in place instead of starting an engine per policy."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evals.engine.base import (
    EngineConfig,
    EngineError,
    EngineLostError,
    Generated,
    Sampling,
    TokenKl,
    Weights,
    choose_dtype,
)
from trainers.common import Json, refuse

#: Ranks of adapters that vLLM has room for; the next larger one is taken.
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


def prepare_environment(kv_cache_gib: int) -> bool:
    """Set what vLLM reads from the environment at import; returns whether it will run on the CPU."""
    # vLLM forks its engine, and a process that was forked after CUDA was asked about cannot use it: ask by NVML, and spawn
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    import torch

    on_cpu = not torch.cuda.is_available()
    settings = {"VLLM_LOGGING_LEVEL": "WARNING", "VLLM_NO_USAGE_STATS": "1"}
    if on_cpu:
        settings |= {
            # vLLM compiles some helpers even where enforce_eager is set; that takes a C++ compiler, which a machine may lack
            "TORCH_COMPILE_DISABLE": "1",
            "VLLM_CPU_KVCACHE_SPACE": str(kv_cache_gib),
            # the default binding leaves a core idle: on two cores that halves the throughput
            "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, sorted(os.sched_getaffinity(0)))),
        }
    os.environ.update({**settings, **os.environ})
    return on_cpu


class VllmEngine:
    """`evals.engine.base.Engine` over vLLM.

    Chunked prefill is off: with it, requests that carry a seed crash on CPU when a prefill is split, and without a seed a
    sample would depend on what else is in the batch.
    """

    replicas = 1
    _adapter: Any  # vLLM's request that names the adapter in use

    def __init__(self, model_dir: Path, config: EngineConfig) -> None:
        self._on_cpu = on_cpu = prepare_environment(config.kv_cache_gib)
        self._dtype = choose_dtype(config)
        self._with_adapters, self._adapter, self._served = config.lora == "adapters", None, 0
        room = [rank for rank in RANKS if rank >= config.lora_rank]
        refuse(
            EngineError,
            (
                self._with_adapters and on_cpu,
                "evaluation.engine.lora is 'adapters', and prompt log-probs fail with adapters on CPUs; set it to merge",
            ),
            (
                self._with_adapters and not room,
                f"vLLM serves adapters up to rank {RANKS[-1]}, and lora.r is {config.lora_rank}; set lora: merge",
            ),
        )
        from vllm import LLM

        extra: Json = {"enforce_eager": True} if on_cpu else {"gpu_memory_utilization": config.gpu_memory_utilization}
        if self._with_adapters:  # policies are visited one after another, so one adapter is on it at a time
            extra |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": room[0]}
        try:
            self._llm = LLM(
                str(model_dir),
                dtype=self._dtype,
                max_model_len=config.max_model_len,
                max_num_seqs=config.max_num_seqs,
                enable_chunked_prefill=False,
                max_num_batched_tokens=max(8192, config.max_model_len),
                tensor_parallel_size=config.tensor_parallel_size,
                seed=config.seed,
                disable_log_stats=True,
                trust_remote_code=config.trust_remote_code,
                worker_extension_cls="evals.engine.vllm_worker.PolicyReload",
                **extra,
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise EngineError(f"vLLM did not start with {model_dir}: {error}") from error
        import vllm

        self.name = f"vllm {vllm.__version__} ({self._dtype}{', adapters' if self._with_adapters else ''})"
        self.tokenizer = self._llm.get_tokenizer()
        self.max_model_len, self.trust_remote_code = config.max_model_len, config.trust_remote_code
        self._base = Path(model_dir)

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[Generated]:
        from vllm import SamplingParams

        seeds: Sequence[int | None] = sampling.seeds or [None] * len(prompts)
        params = [
            SamplingParams(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_tokens=sampling.max_tokens,
                stop=list(sampling.stop) or None,
                seed=seed if sampling.temperature > 0 else None,
                logprobs=0,
            )
            for seed in seeds
        ]
        results = []
        for output in self._ask(prompts, params):
            answer = output.outputs[0]
            ids = list(answer.token_ids)
            logprobs = [step[token].logprob for step, token in zip(answer.logprobs or [], ids, strict=True)]
            results.append(Generated(answer.text, ids, logprobs, str(answer.finish_reason)))
        return results

    def _ask(self, prompts: Sequence[Sequence[int]], params: Any) -> list[Any]:
        """vLLM's RequestOutput of each prompt."""
        from vllm.inputs import TokensPrompt

        tokens = [TokensPrompt(prompt_token_ids=list(prompt)) for prompt in prompts]
        return self._llm.generate(tokens, params, use_tqdm=False, lora_request=self._adapter)

    def loglikelihood(self, requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[tuple[float, bool]]:
        scored = self._score(requests)
        return [(sum(one.logprob for one in row), all(one.rank == 1 for one in row)) for row in scored]

    def token_logprobs(self, requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[list[float]]:
        return [[one.logprob for one in row] for row in self._score(requests)]

    def token_kl(
        self, requests: Sequence[tuple[Sequence[int], Sequence[int]]], reference: Path, policy: Weights
    ) -> list[TokenKl] | None:
        """vLLM gives no distribution over the vocabulary: on CPUs both models are loaded beside it, on GPUs there is no room.

        The reference's log-probs are left to vLLM, which gave the policy's.
        """
        if not self._on_cpu:
            return None
        import torch

        from evals.engine.exact_kl import exact_kl
        from evals.engine.transformers_engine import load

        with policy() as folder:
            models = [load(path, self._dtype, self.trust_remote_code) for path in (folder, reference)]
        threads = torch.get_num_threads()
        # vLLM leaves one to the process that starts it, and idles now
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        try:
            return [TokenKl(found.kl, []) for found in exact_kl(*models, requests)]
        finally:
            torch.set_num_threads(threads)

    def _score(self, requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[list[Any]]:
        """vLLM's Logprob of every token of each continuation."""
        from vllm import SamplingParams

        texts = [[*context, *continuation] for context, continuation in requests]
        outputs = self._ask(texts, SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0))
        results = []
        for (context, continuation), output in zip(requests, outputs, strict=True):
            steps = output.prompt_logprobs[len(context) :]
            results.append([step[token] for step, token in zip(steps, continuation, strict=True)])
        return results

    def swap(self, model_dir: Path, adapter: Path | None = None) -> float:
        started = time.perf_counter()
        if self._with_adapters:
            if adapter is None and Path(model_dir) != self._base:
                raise EngineError(
                    f"{model_dir} is not a LoRA run of the base model {self._base}; set evaluation.engine.lora: merge"
                )
            self._serve(adapter)
            return time.perf_counter() - started
        if not any(Path(model_dir).glob("*.safetensors")):
            raise EngineError(f"{model_dir} holds no *.safetensors weights")
        try:
            self._reload(model_dir)
        except Exception as error:  # vLLM wraps whatever its worker process raised
            problem = f"weights of {model_dir} did not load: {error}"
            try:  # a reload that stopped half-way leaves layers without weights, and the next request would kill vLLM
                self._reload(self._base)
            except Exception:
                raise EngineLostError(problem) from error
            raise EngineError(problem) from error
        return time.perf_counter() - started

    def _serve(self, adapter: Path | None) -> None:
        """Answer with this adapter from now on; None: with the base weights."""
        from vllm.lora.request import LoRARequest

        engine = self._llm.llm_engine
        if self._adapter is not None:
            engine.remove_lora(self._adapter.lora_int_id)
            self._adapter = None
        if adapter is not None:
            self._served += 1  # unique: vLLM's prefix cache uses it as a key
            request = LoRARequest(f"policy-{self._served}", self._served, str(adapter))
            try:
                engine.add_lora(request)
            except Exception as error:  # vLLM wraps whatever its worker process raised (DoRA, modules_to_save, ...)
                raise EngineError(f"vLLM does not serve the adapter {adapter}: {error}") from error
            self._adapter = request

    def _reload(self, model_dir: Path) -> None:
        self._llm.collective_rpc("reload_policy", kwargs={"weights_path": str(model_dir)})
        self._llm.reset_prefix_cache()

    def alive(self) -> bool:
        return not self._llm.llm_engine.engine_core.resources.engine_dead

    def close(self) -> None:
        self._llm.llm_engine.engine_core.shutdown()
