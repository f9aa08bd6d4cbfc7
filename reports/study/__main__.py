"""`python -m reports.study collect OUTPUT FOLDER/WORLD` and `python -m reports.study page FOLDER`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from reports.runs.records import ReportError
from reports.study.collect import collect
from reports.study.page import page


def main(arguments: Sequence[str]) -> int:
    """`collect OUTPUT FOLDER` or `page FOLDER`; 2 for bad input."""
    try:
        match list(arguments):
            case ["collect", output, folder]:
                collect(Path(output), Path(folder))
            case ["page", folder]:
                page(Path(folder))
            case _:
                raise ReportError("usage: python -m reports.study collect OUTPUT FOLDER/WORLD | page FOLDER")
    except ReportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
