"""LoRA adapters that vLLM adds to the base weights per request, instead of merged weights that are swapped in."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from evals.engine.base import EngineError

#: Ranks vLLM has room for; the next larger one is taken.
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


class Adapters:
    """The adapter in use and the request that names it; `engine` is vLLM's, once it is up."""

    engine: Any = None

    def __init__(self, rank: int) -> None:
        fitting = [size for size in RANKS if size >= rank]
        if not fitting:
            raise EngineError(f"vLLM serves adapters up to rank {RANKS[-1]}, and lora.r is {rank}; set lora: merge")
        self._rank = fitting[0]
        self.request: Any = None
        self._served = 0

    def settings(self) -> dict[str, Any]:
        """Arguments of vLLM's engine; policies are visited one after another, so one adapter is on it at a time."""
        return {"enable_lora": True, "max_loras": 1, "max_lora_rank": self._rank}

    def serve(self, adapter: Path | None) -> float:
        """Answer with this adapter from now on (None: with the base weights); returns the seconds it took.

        Raises:
            EngineError: vLLM does not take it (DoRA, modules_to_save, ...).
        """
        from vllm.lora.request import LoRARequest

        started = time.perf_counter()
        if self.request is not None:
            self.engine.remove_lora(self.request.lora_int_id)
            self.request = None
        if adapter is not None:
            self._served += 1  # unique: vLLM's prefix cache uses it as a key
            request = LoRARequest(f"policy-{self._served}", self._served, str(adapter))
            try:
                self.engine.add_lora(request)
            except Exception as error:  # vLLM wraps whatever its worker process raised
                raise EngineError(f"vLLM does not serve the adapter {adapter}: {error}") from error
            self.request = request
        return time.perf_counter() - started
