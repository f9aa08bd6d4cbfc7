"""import-trl: the YAML of `trl dpo --config` as a matrix file."""

from __future__ import annotations

import argparse

from harness.commands.data.import_llamafactory import common_arguments, import_and_say

_EPILOG = """The original becomes the baseline, with the methods to compare it with at equal
settings. What cannot be taken over is listed here and at the head of the file.

examples:
  python -m harness import-trl dpo_config.yaml
  python -m harness import-trl dpo_config.yaml --output study.yaml --force"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    common_arguments(parser)


def run(options: argparse.Namespace) -> int:
    return import_and_say("TRL", options)
