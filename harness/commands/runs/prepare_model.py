"""prepare-model: an embedded model as a checkpoint in the user's cache."""

import argparse

from harness.progress import stderr_line
from trainers.models.embedded import prepare_model


def run(options: argparse.Namespace) -> int:
    """Convert the model where that has not been done, and print where it is."""
    print(prepare_model(options.name.removeprefix("embedded:"), verify=options.verify, log=stderr_line))
    return 0
