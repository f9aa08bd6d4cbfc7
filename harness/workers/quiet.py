"""Other libraries' notices and progress bars, kept out of the terminal and of the logs."""

import logging
import os
import sys
import warnings

#: Read by the libraries when they are imported, also in processes started from here. Errors are still shown.
SETTINGS = {
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # transformers follows it
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}


def quiet_terminal() -> None:
    """As `quiet`, and hide warnings of other libraries from this process' terminal; workers have theirs in their logs."""
    quiet()
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    if logging.lastResort is not None:  # what prints the records of a library that has set up no handler
        logging.lastResort.setLevel(logging.ERROR)


def quiet(**more: str) -> None:
    """Set these environment variables, and `more`, where the user has not."""
    for name, value in (SETTINGS | more).items():
        os.environ.setdefault(name, value)
