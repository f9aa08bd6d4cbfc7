"""When memory runs out: recognise it, free what can be freed, cut the micro-batch."""

from __future__ import annotations

import gc


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a GPU or on the CPU."""
    import torch

    text = str(error)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator: can't allocate" in text


def next_split(micro: int, split: int) -> int | None:
    """The next number of parts that divides the micro-batch, or None if its parts are single pairs already."""
    return next((parts for parts in range(split * 2, micro + 1) if micro % parts == 0), None)


def release_memory() -> None:
    """Drop what a failed attempt left behind."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
