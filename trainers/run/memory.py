"""When memory runs out: recognise it, free what can be freed, cut the micro-batch."""

import gc

#: How an allocation that failed is put by torch on CPUs, by CUDA outside torch's allocator, by cuBLAS and by the system.
OUT_OF_MEMORY_WORDS = (
    "DefaultCPUAllocator: can't allocate",
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "Cannot allocate memory",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a GPU or on the CPU."""
    import torch

    failed = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return failed or any(words in str(error) for words in OUT_OF_MEMORY_WORDS)


def first_line(error: BaseException) -> str:
    """What an error says first; its class where it says nothing, as Python's own MemoryError does."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def next_split(micro: int, split: int) -> int | None:
    """The next number of parts that divides the micro-batch, or None if its parts are single pairs already."""
    return next((parts for parts in range(split * 2, micro + 1) if micro % parts == 0), None)


def release_memory() -> None:
    """Drop what a failed attempt or a finished run left behind."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
