"""Engines that serve policies: vLLM, transformers, and several replicas of one."""
