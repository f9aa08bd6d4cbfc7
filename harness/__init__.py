"""The orchestrator: configuration, the matrix of runs, their state on disk, the command line, and results in Python.

`Matrix` (a matrix file) and `load_results` (an output directory as pandas frames) are loaded when they are asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.api import Matrix, Results, load_results

__all__ = ["Matrix", "Results", "load_results"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from harness import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
