"""`explain`: the interactive page on DPO; needs neither pandas nor matplotlib."""

import argparse

from reports.page.explain import write_explain
from trainers.common import UserError


def run(options: argparse.Namespace) -> int:
    """Write the page to `--output`."""
    if options.output.is_dir():
        raise UserError(
            f"--output {options.output} is a folder; name a file, such as {options.output / 'explain.html'}"
        )
    try:
        path = write_explain(options.output)
    except OSError as error:
        raise UserError(f"--output {options.output}: {error.strerror}; name a file that can be written") from None
    print(f"page: {path} (open it in a browser)")
    return 0
