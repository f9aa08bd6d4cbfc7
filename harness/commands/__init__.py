"""The command line: a room's `__init__` declares its verbs, one module each does the work (heavy imports are there alone)."""

from pathlib import Path

from harness.commands.analysis import VERBS as _ANALYSIS
from harness.commands.data import VERBS as _DATA
from harness.commands.options import Verb, argument
from harness.commands.runs import RUN_VERBS, SETUP_VERBS

_HELP = {
    "schema": Verb(
        "harness.commands.schema",
        "print the JSON Schema of matrix files, for editors",
        """An editor with a YAML language server completes and checks a matrix file
whose first line names the schema:

  # yaml-language-server: $schema=matrix.schema.json

examples:
  python -m harness schema --output matrix.schema.json
  python -m harness schema | jq .properties
  python -m harness schema --of summary --output summary.schema.json""",
        (
            argument("--of", choices=("matrix", "summary"), default="matrix", help="default: %(default)s"),
            argument("--output", type=Path, metavar="FILE", help="write it there (default: to the terminal)"),
        ),
        anywhere=True,
    ),
    "completion": Verb(
        "harness.commands.completion",
        "print a script that completes verbs and options in a shell",
        """It completes after `dpo-beta-harness` and after `python -m harness`.

examples:
  source <(python -m harness completion bash)     # or in ~/.bashrc
  source <(python -m harness completion zsh)      # or in ~/.zshrc
  python -m harness completion fish | source      # or in config.fish""",
        (argument("shell", choices=("bash", "zsh", "fish"), help="the shell the script is for"),),
        anywhere=True,
    ),
}
#: Every verb by its name, in the order of `--help`.
VERBS: dict[str, Verb] = {**RUN_VERBS, **_ANALYSIS, **SETUP_VERBS, **_DATA, **_HELP}
