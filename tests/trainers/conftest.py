"""Threads for trainer tests: the tiny model is faster on one, and far faster where other work shares the cores."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _threads(request: pytest.FixtureRequest) -> Iterator[None]:
    if "tiny_model" not in request.fixturenames:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
