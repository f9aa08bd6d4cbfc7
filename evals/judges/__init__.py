"""Judges of answers: what one is, the built-in ones, the cache of their replies, and the worker that asks them."""

from evals.judges.base import Judge, JudgeError, Judging, Question, Request
from evals.judges.cache import Cost, JudgeCache, Reply

__all__ = ["Cost", "Judge", "JudgeCache", "JudgeError", "Judging", "Question", "Reply", "Request", "registry", "worker"]
