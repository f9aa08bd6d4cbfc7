"""Judgments of others (AlpacaEval, Arena-Hard, MT-Bench, LLMBar, PandaLM, a table): read, and summed up."""

#: What other rooms may import.
__all__ = ["analysis"]
