"""What vLLM's worker processes do for a weight swap; vLLM mixes the class into its own worker (`worker_extension_cls`)."""

from typing import Any


class PolicyReload:
    """`reload_policy` for `collective_rpc`."""

    model_runner: Any
    reload_weights: Any

    def reload_policy(self, weights_path: str) -> None:
        """Load a checkpoint of the same architecture in place.

        On CPUs vLLM computes with packed copies of the weights. A reload packs a layer again when the checkpoint holds weights
        of its name, which it does not for an LM head tied to the embeddings: without this the head would stay the old policy's.
        """
        from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

        self.reload_weights(weights_path=weights_path)
        for module in self.model_runner.get_model().modules():
            if isinstance(module, ParallelLMHead) and hasattr(module, "cpu_linear"):
                module.quant_method.process_weights_after_loading(module)
