"""The command line. Importing this module imports nothing heavy, so `--help` answers at once."""

from __future__ import annotations

import argparse
import difflib
import importlib
import shlex
import sys
from pathlib import Path
from typing import NoReturn

import harness.commands

#: Examples under `--help` of verbs whose options say the rest.
_LINES = {
    "run-matrix": (
        "run-matrix                                the demo matrix",
        "run-matrix my.yaml --check                the file alone",
        "run-matrix my.yaml --dry-run              its runs and cost",
        "run-matrix my.yaml --output out/my --seeds 0,1",
        "run-matrix my.yaml --set training.learning_rate=1e-6",
    ),
    "worker": (
        "worker my.yaml --output /shared/out",
        "worker my.yaml --output /shared/out --train-only",
    ),
    "status": ("status --output out/my", "status --output out/my --watch 5", "status --output out/my --json"),
    "clean": ("clean --output out/my                     list only", "clean --output out/my --yes"),
    "report": ("report --output out/my",),
    "explain": ("explain --output dpo.html",),
    "doctor": ("doctor", "doctor --json"),
    "prepare-model": ("prepare-model smollm2-135m-instruct",),
}


#: Verb -> one line of help. Each verb is a module in a room of harness.commands with `add_arguments` and `run`.
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
            message = "no verb given; python -m harness --help lists them"
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
            lines = [f"  python -m harness {line}" for line in _LINES.get(name, ())]
            sub.epilog = sub.epilog or "\n".join(["examples:", *lines])
    return parser


def _module(verb: str):  # type: ignore[no-untyped-def]
    name = verb.replace("-", "_")
    room = next(file.parent for file in Path(harness.commands.__path__[0]).glob(f"**/{name}.py"))
    parts = ["harness.commands", *([] if room.name == "commands" else [room.name]), name]
    return importlib.import_module(".".join(parts))


def _check_versions() -> None:
    from harness.checks.requirements import outside
    from trainers.common.errors import UserError

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
    from harness.state.failures import disk_errno, disk_line
    from harness.workers.quiet import quiet_terminal
    from harness.workers.signals import Stopped
    from trainers.common.errors import UserError

    quiet_terminal()
    try:
        if options.verb not in _UNCHECKED:
            _check_versions()
        return int(_module(options.verb).run(options))
    except UserError as error:
        return _say_error(str(error))
    except Stopped as stopped:
        command = shlex.join(["python", "-m", "harness", *sys.argv[1:]])
        how = (
            "stopped at once; the interrupted run resumes from its last checkpoint"
            if stopped.at_once
            else "stopped safely"
        )
        print(f"\n{how}. Resume with: {command}", file=sys.stderr)
        return stopped.exit_code
    except KeyboardInterrupt:
        print("\ninterrupted; resume with the same command", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except OSError as error:
        number = disk_errno(error)
        if number is None:
            raise
        return _say_error(disk_line(number, error.filename or getattr(options, "output", "")))


def _say_error(text: str) -> int:
    for line in text.splitlines():
        print(f"error: {line}", file=sys.stderr)
    return 2
