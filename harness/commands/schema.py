"""schema: the JSON Schema of matrix files, for editors, and of summary.json, for programs that read it."""

import argparse

from trainers.common import UserError, write_bytes


def run(options: argparse.Namespace) -> int:
    """Print the schema, or write it to `--output`."""
    if options.of == "summary":
        from reports.schema import schema_text
    else:
        from harness.checks.json_schema import schema_text
    if options.output is None:
        print(schema_text(), end="")
        return 0
    try:
        write_bytes(options.output, schema_text().encode())
    except OSError as error:
        raise UserError(f"--output {options.output}: {error.strerror}; name a file that can be written") from None
    print(f"schema: {options.output}")
    return 0
