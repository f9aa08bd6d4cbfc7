"""Engines that serve policies: sample, score, swap weights and prove it; `evals.engine.start` starts one."""

from evals.engine.base import Engine, EngineConfig, EngineError, EngineLostError, Generated, Sampling

__all__ = [
    "Engine",
    "EngineConfig",
    "EngineError",
    "EngineLostError",
    "Generated",
    "Sampling",
    "chat",
    "merge",
    "parity",
    "start",
    "swap_check",
    "transformers_engine",
    "vllm_engine",
]
