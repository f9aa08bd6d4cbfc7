"""The command line. Importing this module imports nothing heavy, so `--help` answers at once."""

from __future__ import annotations

import argparse
import difflib
import importlib
import sys
from typing import NoReturn

from harness.verb_examples import examples

#: Verb -> one line of help. Each verb is a module of harness.commands with `add_arguments` and `run`.
VERBS = {
    "run-matrix": "train, evaluate and compare every run of a matrix",
    "worker": "be one of several workers that share the runs of a matrix (a Slurm array)",
    "status": "show how far each run is",
    "clean": "list, and with --yes remove, what no current matrix needs",
    "report": "make the report again from what is on disk",
    "compare": "make the report of any finished runs, also of several outputs",
    "analyze": "make the report from runs of other tools: Trainer, lm-eval, CSV",
    "explain": "write an interactive page on DPO, its loss and its beta",
    "power": "say how many seeds and prompts an effect needs, before training",
    "doctor": "say what is installed, which engine would be used, and what is missing",
    "prepare-model": "convert an embedded model into a checkpoint, once",
    "build-preferences": "sample, score and pair answers into preference data",
    "inspect-data": "show what preference data holds: format, lengths, bias, doubles",
    "import-llamafactory": "turn a training YAML of LLaMA-Factory into a matrix file",
    "import-trl": "turn the YAML of `trl dpo --config` into a matrix file",
    "schema": "print the JSON Schema of matrix files, for editors",
    "completion": "print a script that completes verbs and options in a shell",
}
#: Verbs that work in any environment: they compute nothing with the libraries, or say what is wrong with them.
_UNCHECKED = ("status", "clean", "doctor", "schema", "completion")
DEFAULT_OUTPUT = "output/dpo_metrics"

_EPILOG = """examples:
  python -m harness run-matrix                          the demo matrix
  python -m harness run-matrix my.yaml --dry-run        its runs and cost
  python -m harness run-matrix my.yaml --output out/my  somewhere else
  python -m harness status --output out/my
  python -m harness doctor

exit codes: 0 done, 1 some runs failed, 2 bad input, 130 interrupted"""


class _Parser(argparse.ArgumentParser):
    """Errors are one line with the nearest verb or option, and exit code 2."""

    def error(self, message: str) -> NoReturn:
        if "invalid choice" in message and "argument VERB" in message:
            wrong = message.split("invalid choice: ")[1].split("'")[1]
            near = difflib.get_close_matches(wrong, VERBS, n=1)
            if near:
                message = f"unknown verb {wrong!r}; did you mean {near[0]!r}?"
        if message.endswith("are required: VERB"):
            message = "no verb is given; python -m harness --help lists them"
        if "unrecognized arguments" in message:
            wrong = message.split(": ")[1].split()[0]
            options = [option for action in self._actions for option in action.option_strings]
            near = difflib.get_close_matches(wrong, options, n=1)
            message = f"unknown argument {wrong!r}" + (f"; did you mean {near[0]!r}?" if near else "")
        print(f"error: {message}", file=sys.stderr)
        raise SystemExit(2)


def build_parser(verb: str | None) -> argparse.ArgumentParser:
    """The parser; only the module of `verb` is imported, for its options."""
    parser = _Parser(
        prog="python -m harness",
        description="Does a dynamic beta make DPO better? Train, evaluate and compare.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, text in VERBS.items():
        sub = verbs.add_parser(name, help=text, description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
        if name == verb:
            _module(name).add_arguments(sub)
            sub.epilog = sub.epilog or examples(name)
    return parser


def _module(verb: str):  # type: ignore[no-untyped-def]
    return importlib.import_module(f"harness.commands.{verb.replace('-', '_')}")


def _check_versions() -> None:
    """Raise a UserError, a line for each installed package whose version this project does not support."""
    from harness.errors import UserError
    from harness.requirements import outside

    if found := outside():
        raise UserError("\n".join(f"{problem}; run: {fix}" for problem, fix in found))


def main(argv: list[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    verb = next((word for word in arguments if word in VERBS), None)
    parser = build_parser(verb)
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        sub = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices[options.verb]
        sub.error(f"unrecognized arguments: {' '.join(unknown)}")
    from harness.errors import UserError
    from harness.quiet import quiet_terminal

    quiet_terminal()
    try:
        if options.verb not in _UNCHECKED:
            _check_versions()
        return int(_module(options.verb).run(options))
    except UserError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command again to go on where it stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
