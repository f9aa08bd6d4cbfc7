"""Which failures are transient and retried, and which are permanent."""

import errno
import os

from harness.state.records import Failure
from trainers.common import UnreadableError

#: How often a run is tried when its failures are transient, and the seconds waited before each further try.
MAX_ATTEMPTS, BACK_OFF_SECONDS = 3, (2.0, 15.0)
#: Exit code of a worker that cannot write its state (sysexits' EX_IOERR).
EXIT_IO = 74

_DISK_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)
_READ_ONLY_ERRNOS = (errno.EROFS, errno.EACCES, errno.EPERM)
#: Libraries in other languages (safetensors, Arrow) carry the system's words in errors of their own.
_DISK_WORDS = tuple(os.strerror(number) for number in _DISK_ERRNOS)
#: What torch.save says of a partial write; it does not pass on the cause.
_TORN_WORDS = ("PytorchStreamWriter failed writing", ". unexpected pos ")
_TRANSIENT_CLASSES = ("MemoryError", "OutOfMemoryError", "EngineCrashed", "EngineLostError", "EngineDeadError")


def disk_errno(error: BaseException) -> int | None:
    """The errno if `error` says that the disk is full, failing or not to be written to; else None."""
    if isinstance(error, OSError) and error.errno in (*_DISK_ERRNOS, *_READ_ONLY_ERRNOS):
        return error.errno
    return next((n for n, words in zip(_DISK_ERRNOS, _DISK_WORDS, strict=True) if words in str(error)), None)


def is_transient(error: BaseException) -> bool:
    """Whether another try may succeed: memory ran out, or the disk was full, failing or out of reach for a while."""
    from trainers.run.memory import is_out_of_memory

    if is_out_of_memory(error) or isinstance(error, UnreadableError) or disk_errno(error) in _DISK_ERRNOS:
        return True
    return any(words in str(error) for words in _TORN_WORDS)


def record_is_transient(error: Failure) -> bool:
    """`is_transient` of a failure as it was recorded; the recorder's own word counts where it gave one."""
    if error.transient is not None:
        return error.transient
    from trainers.run.memory import OUT_OF_MEMORY_WORDS

    passing = (*_DISK_WORDS, *_TORN_WORDS, *OUT_OF_MEMORY_WORDS)
    return error.kind in _TRANSIENT_CLASSES or any(words in error.message for words in passing)


def disk_line(number: int, path: object) -> str:
    """One line for the user about a disk that cannot be written to."""
    place = f" ({path})" if path else ""
    if number in _READ_ONLY_ERRNOS:
        return f"{os.strerror(number)}{place}: the output directory cannot be written to; give another --output"
    mend = {
        errno.EIO: "the disk failed; check it (dmesg)",
        errno.EFBIG: "a file grew beyond what is allowed (ulimit -f); raise the limit",
    }.get(number, "free some space")
    return f"{os.strerror(number)}{place}: {mend}, then run the same command again; finished work is kept"
