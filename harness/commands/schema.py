"""schema: the JSON Schema of matrix files, for editors, and of summary.json, for programs that read it."""

from __future__ import annotations

import argparse
from pathlib import Path

_EPILOG = """An editor with a YAML language server completes and checks a matrix file
whose first line names the schema:

  # yaml-language-server: $schema=matrix.schema.json

examples:
  python -m harness schema --output matrix.schema.json
  python -m harness schema | jq .properties
  python -m harness schema --of summary --output summary.schema.json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument("--of", choices=("matrix", "summary"), default="matrix", help="default: %(default)s")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write it there (default: to the terminal)")


def run(options: argparse.Namespace) -> int:
    from trainers.common.errors import UserError
    from trainers.common.files import write_bytes

    if options.of == "summary":
        from reports.schema import schema_text
    else:
        from harness.checks.json_schema import schema_text
    if options.output is None:
        print(schema_text(), end="")
        return 0
    try:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(options.output, schema_text().encode())
    except OSError as error:
        raise UserError(f"--output {options.output}: {error.strerror}; name a file that can be written") from None
    print(f"schema: {options.output}")
    return 0
