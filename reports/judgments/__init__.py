"""Judgments of others (AlpacaEval, Arena-Hard, MT-Bench, LLMBar, PandaLM, a table): read, and summed up."""
