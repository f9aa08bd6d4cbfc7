"""One user message as token ids, and the seeds of its samples."""

import hashlib
from typing import Any

from trainers.common.chat import message_ids


def chat_ids(tokenizer: Any, user: str) -> list[int]:
    """Token ids of one user message under the chat template, ready for the answer; the bare text without a template."""
    return message_ids(tokenizer, [{"role": "user", "content": user}])


def hashed_seed(text: str) -> int:
    """A seed of 31 bits from a text, so that neither order nor batch matters."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) & 0x7FFFFFFF


def sample_seed(seed: int, prompt: str, sample: int) -> int:
    """Seed of one sample, from the run's seed, the sample's number and the prompt."""
    return hashed_seed(f"{seed}:{sample}:{prompt}")
