"""Shared fixtures: a tiny model built by code, and a quiet, offline environment."""

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.warm import Harness

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Two test processes whose threads all want the same cores wait for one another in spin loops: measured 3.5 times slower
    # and more. Before torch is imported, and inherited by every process a test starts.
    _cores = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else list(range(os.cpu_count() or 1))
    _workers, _mine = int(os.environ["PYTEST_XDIST_WORKER_COUNT"]), int(os.environ["PYTEST_XDIST_WORKER"][2:])
    _share = max(len(_cores) // _workers, 1)
    _first = _mine * _share % len(_cores)
    os.environ.setdefault("OMP_NUM_THREADS", str(_share))
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", ",".join(map(str, _cores[_first : _first + _share])))


#: Files whose tests take minutes, the longest first: begun last, they would leave the other process without work.
_LONGEST = (
    "test_faults.py",
    "test_end_to_end.py",
    "test_vllm_worker.py",
    "test_judges_in_matrix.py",
    "test_five_starts.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, then those with slow tests, then the others (with xdist's `--no-loadscope-reorder`)."""
    slow = {item.path for item in items if item.get_closest_marker("slow") is not None}

    def place(item: pytest.Item) -> tuple[int, bool]:
        name = item.path.name
        return (_LONGEST.index(name) if name in _LONGEST else len(_LONGEST)), item.path not in slow

    items.sort(key=place)


@pytest.fixture(autouse=True, scope="module")
def _short_collections() -> None:
    """Keep what is imported by now out of garbage collections.

    Trainers collect garbage when they end, and with torch, transformers and vLLM loaded one collection takes .8 s: measured,
    two fifths of the time of tests that train a tiny model.
    """
    if "torch" in sys.modules:
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer random Llama with a byte-level tokenizer and a chat template."""
    from trainers.tiny import build_tiny_model

    return build_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def warm_harness() -> Iterator[Harness]:
    """Starts `python -m harness` without paying for its imports each time."""
    harness = Harness()
    yield harness
    harness.close()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real public data beside the project; tests that need it skip where it is missing."""
    path = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not path.is_dir():
        pytest.skip("the real-data folder ../shared/data is not beside this checkout")
    return path
