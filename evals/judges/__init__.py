"""Judges: verifiable reward, reward model, LLM judge, or one of your own; all behind `evals.judges.base.Judge`."""
