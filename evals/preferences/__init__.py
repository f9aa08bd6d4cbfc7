"""Preference data from a model's own answers: `evals.preferences.build` samples, scores and pairs them."""

from evals.preferences.pairs import Completion, PairError, PromptSamples, Scored, make_pairs

__all__ = [
    "Completion",
    "PairError",
    "PromptSamples",
    "Scored",
    "build",
    "data_card",
    "flips",
    "make_pairs",
    "prompt_bank",
    "rejected",
    "sampling",
    "splits",
]
