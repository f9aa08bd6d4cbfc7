"""Other libraries' notices and progress bars, kept out of the terminal and of the logs."""

from __future__ import annotations

import os

#: Read by the libraries when they are imported, also in processes started from here. Errors are still shown.
SETTINGS = {
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # transformers follows it
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}


def quiet(**more: str) -> None:
    """Set these environment variables, and `more`, where the user has not."""
    for name, value in (SETTINGS | more).items():
        os.environ.setdefault(name, value)
