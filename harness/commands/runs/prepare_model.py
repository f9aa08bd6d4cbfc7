"""prepare-model: an embedded model as a checkpoint in the user's cache."""

from __future__ import annotations

import argparse

from harness.progress import stderr_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", default="smollm2-135m-instruct", help="default: %(default)s")
    parser.add_argument("--verify", action="store_true", help="compare checksums; convert again if damaged")


def run(options: argparse.Namespace) -> int:
    from trainers.common.errors import UserError
    from trainers.models.embedded import EmbeddedModelError, prepare_model

    try:
        print(prepare_model(options.name.removeprefix("embedded:"), verify=options.verify, log=stderr_line))
    except EmbeddedModelError as error:
        raise UserError(str(error)) from None
    return 0
